#pragma once
// Bytes that follow each other in one or several pieces of memory: a message as its transport left it. Views
// only; the memory is its owner's. Value types, not thread-safe.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "absl/container/inlined_vector.h"

namespace tidegate::wire {

using Bytes = std::span<const std::byte>;

class Fragments {
 public:
  Fragments() = default;
  Fragments(Bytes bytes) { Add(bytes); }
  void Add(Bytes piece) {
    if (piece.empty()) return;
    pieces_.push_back(piece);
    size_ += piece.size();
  }
  size_t size() const { return size_; }
  std::span<const Bytes> pieces() const { return {pieces_.data(), pieces_.size()}; }  // none is empty

 private:
  absl::InlinedVector<Bytes, 1> pieces_;
  size_t size_ = 0;
};

// Reads fragments front to back. REQUIRES: they outlive it.
class FragmentReader {
 public:
  explicit FragmentReader(std::span<const Bytes> pieces) : pieces_(pieces) {}

  // The next `size` bytes, contiguous: in place where they lie in one piece, else a copy, valid until the
  // next call. REQUIRES: so many are left.
  const std::byte* Take(size_t size) {
    if (offset_ == pieces_.front().size()) NextPiece();
    if (pieces_.front().size() - offset_ >= size) {
      offset_ += size;
      return pieces_.front().data() + offset_ - size;
    }
    copy_.resize(size);
    for (size_t done = 0; done < size;) {
      if (offset_ == pieces_.front().size()) NextPiece();
      const size_t part = std::min(size - done, pieces_.front().size() - offset_);
      std::memcpy(copy_.data() + done, pieces_.front().data() + offset_, part);
      offset_ += part;
      done += part;
    }
    return copy_.data();
  }

 private:
  void NextPiece() {
    pieces_ = pieces_.subspan(1);
    offset_ = 0;
  }

  std::span<const Bytes> pieces_;
  size_t offset_ = 0;  // in the first of them
  std::vector<std::byte> copy_;
};

}  // namespace tidegate::wire
