#pragma once
// A file in memory, for the fuzz targets of the readers.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "worker/data/byte_reader.h"

namespace tidegate {

// Gives at most `piece` bytes at a time.
class MemoryReader final : public ByteReader {
 public:
  MemoryReader(std::string bytes, size_t piece) : bytes_(std::move(bytes)), piece_(piece) {}
  absl::StatusOr<size_t> Read(char* out, size_t size) override {
    const size_t n = std::min({size, piece_, bytes_.size() - pos_});
    std::memcpy(out, bytes_.data() + pos_, n);
    pos_ += n;
    return n;
  }

 private:
  const std::string bytes_;
  const size_t piece_;
  size_t pos_ = 0;
};

}  // namespace tidegate
