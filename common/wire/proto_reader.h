#pragma once
// Reads protobuf's wire format field by field, in place, from one span or from fragments. The same leniency as
// protobuf's own parser: unknown fields and groups are skipped, the last of a repeated scalar counts, over-long
// varints are cut to the field's width. Not thread-safe; a value type.
// Source: protobuf.dev, "Encoding".

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "common/wire/fragments.h"

namespace tidegate::wire {

enum class WireKind : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

// `size` bytes from `offset` of the first piece on; the array has as many pieces as that takes.
struct FragmentRange {
  const Bytes* piece = nullptr;
  size_t offset = 0;
  size_t size = 0;
};
inline FragmentRange RangeOf(const Fragments& fragments) {
  return {fragments.pieces().data(), 0, fragments.size()};
}
inline Fragments FragmentsOf(Bytes bytes) { return Fragments(bytes); }
inline Fragments FragmentsOf(FragmentRange range) {
  Fragments out;
  for (const Bytes* piece = range.piece; range.size > 0; ++piece) {
    const size_t part = std::min(range.size, piece->size() - range.offset);
    out.Add(piece->subspan(range.offset, part));
    range.size -= part;
    range.offset = 0;
  }
  return out;
}

// Where a reader stands in bytes of one kind or the other. Byte, Copy and Take go forward.
template <typename Range>
class Cursor;

template <>
class Cursor<Bytes> {
 public:
  explicit Cursor(Bytes bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}
  bool AtEnd() const { return at_ == end_; }
  uint8_t Byte() { return static_cast<uint8_t>(*at_++); }  // REQUIRES: !AtEnd()
  bool Copy(void* to, size_t size) {
    if (static_cast<size_t>(end_ - at_) < size) return false;
    std::memcpy(to, at_, size);
    at_ += size;
    return true;
  }
  bool Take(uint64_t size, Bytes* out) {
    if (size > static_cast<uint64_t>(end_ - at_)) return false;
    *out = {at_, static_cast<size_t>(size)};
    at_ += size;
    return true;
  }

 private:
  const std::byte* at_;
  const std::byte* end_;
};

template <>
class Cursor<FragmentRange> {
 public:
  explicit Cursor(FragmentRange range) : rest_(range) {}
  bool AtEnd() const { return rest_.size == 0; }
  uint8_t Byte() {
    const uint8_t byte = static_cast<uint8_t>((*rest_.piece)[rest_.offset]);
    Skip(1);
    return byte;
  }
  bool Copy(void* to, size_t size) {
    if (rest_.size < size) return false;
    for (size_t i = 0; i < size; ++i) static_cast<uint8_t*>(to)[i] = Byte();
    return true;
  }
  bool Take(uint64_t size, FragmentRange* out) {
    if (size > rest_.size) return false;
    *out = {rest_.piece, rest_.offset, static_cast<size_t>(size)};
    Skip(static_cast<size_t>(size));
    return true;
  }

 private:
  void Skip(size_t size) {
    rest_.size -= size;
    rest_.offset += size;
    while (rest_.size > 0 && rest_.offset >= rest_.piece->size()) {
      rest_.offset -= rest_.piece->size();
      ++rest_.piece;
    }
  }
  FragmentRange rest_;
};

template <typename Range>
class ProtoReader {
 public:
  explicit ProtoReader(Range bytes) : in_(bytes) {}

  // Moves to the next field. False at the end, or once the bytes are broken (then !ok()).
  bool Next() {
    for (;;) {
      if (!ok_ || in_.AtEnd()) return false;
      uint32_t tag;
      if (!ReadTag(&tag)) return Fail();
      field_ = tag >> 3;
      const uint32_t type = tag & 7;
      if (field_ == 0) return Fail();
      if (type == 3) {
        if (!SkipGroup(field_)) return Fail();
        continue;
      }
      kind_ = static_cast<WireKind>(type);
      return ReadPayload(type) || Fail();
    }
  }

  bool ok() const { return ok_; }
  uint32_t field() const { return field_; }
  // True if the current field is this one in the kind that its type has; others are to be ignored.
  bool Is(uint32_t field, WireKind kind) const { return field_ == field && kind_ == kind; }

  uint64_t varint() const { return number_; }
  uint32_t varint32() const { return static_cast<uint32_t>(number_); }
  int64_t zigzag() const {
    return static_cast<int64_t>((number_ >> 1) ^ (~(number_ & 1) + 1));
  }
  double fixed_double() const {
    double d;
    std::memcpy(&d, &number_, sizeof d);
    return d;
  }
  float fixed_float() const {
    const uint32_t bits = varint32();
    float f;
    std::memcpy(&f, &bits, sizeof f);
    return f;
  }
  uint64_t fixed64() const { return number_; }
  Range bytes() const { return bytes_; }

  // One more varint from inside a packed field. False at its end or when broken (then !ok()).
  bool NextPacked(uint64_t* value) {
    if (!ok_ || in_.AtEnd()) return false;
    return ReadVarint(value) || Fail();
  }

 private:
  static constexpr int kGroupDepthMax = 100;

  bool Fail() { return ok_ = false; }
  bool ReadTag(uint32_t* tag) {
    uint32_t value = 0;
    for (int shift = 0; shift < 35; shift += 7) {
      if (in_.AtEnd()) return false;
      const uint32_t b = in_.Byte();
      value |= (b & 0x7f) << shift;
      if (b < 0x80) {
        *tag = value;
        return true;
      }
    }
    return false;
  }
  bool ReadVarint(uint64_t* out) {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (in_.AtEnd()) return false;
      const uint64_t b = in_.Byte();
      value |= (b & 0x7f) << shift;
      if (b < 0x80) {
        *out = value;
        return true;
      }
    }
    return false;
  }
  bool ReadFixed(size_t size) {
    number_ = 0;
    return in_.Copy(&number_, size);
  }
  bool ReadPayload(uint32_t type) {
    switch (type) {
      case 0:
        return ReadVarint(&number_);
      case 1:
        return ReadFixed(8);
      case 2: {
        uint64_t size;
        return ReadVarint(&size) && in_.Take(size, &bytes_);
      }
      case 5:
        return ReadFixed(4);
      default:
        return false;
    }
  }
  bool SkipGroup(uint32_t outermost) {
    uint32_t open[kGroupDepthMax];
    int depth = 0;
    open[depth++] = outermost;
    while (depth > 0) {
      uint32_t tag;
      if (in_.AtEnd() || !ReadTag(&tag) || (tag >> 3) == 0) return false;
      const uint32_t type = tag & 7;
      if (type == 3) {
        if (depth == kGroupDepthMax) return false;
        open[depth++] = tag >> 3;
      } else if (type == 4) {
        if (open[--depth] != tag >> 3) return false;
      } else if (!ReadPayload(type)) {
        return false;
      }
    }
    return true;
  }

  Cursor<Range> in_;
  bool ok_ = true;
  uint32_t field_ = 0;
  WireKind kind_ = WireKind::kVarint;
  uint64_t number_ = 0;
  Range bytes_;
};

// The current field, a repeated number, packed or not; stops one above `max`. False: broken.
template <typename Range, typename Numbers>
bool ReadNumbers(const ProtoReader<Range>& in, size_t max, Numbers* out) {
  using Number = typename Numbers::value_type;
  if (in.Is(in.field(), WireKind::kVarint) && out->size() <= max) out->push_back(static_cast<Number>(in.varint()));
  if (!in.Is(in.field(), WireKind::kBytes)) return true;
  ProtoReader packed(in.bytes());
  uint64_t number;
  while (out->size() <= max && packed.NextPacked(&number)) out->push_back(static_cast<Number>(number));
  return packed.ok();
}

}  // namespace tidegate::wire
