#pragma once
// Reads protobuf's wire format field by field, in place. The same leniency as protobuf's own parser:
// unknown fields and groups are skipped, the last of a repeated scalar counts, over-long varints are
// cut to the field's width. Not thread-safe; a value type.
// Source: protobuf.dev, "Encoding".

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace tidegate::wire {

enum class WireKind : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

class ProtoReader {
 public:
  explicit ProtoReader(std::span<const std::byte> bytes)
      : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  // Moves to the next field. False at the end, or once the bytes are broken (then !ok()).
  bool Next() {
    for (;;) {
      if (!ok_ || at_ == end_) return false;
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
  std::span<const std::byte> bytes() const { return bytes_; }

  // One more varint from inside a packed field. False at its end or when broken (then !ok()).
  bool NextPacked(uint64_t* value) {
    if (!ok_ || at_ == end_) return false;
    return ReadVarint(value) || Fail();
  }

 private:
  static constexpr int kGroupDepthMax = 100;

  bool Fail() { return ok_ = false; }
  bool ReadTag(uint32_t* tag) {
    uint32_t value = 0;
    for (int shift = 0; shift < 35; shift += 7) {
      if (at_ == end_) return false;
      const uint32_t b = static_cast<uint32_t>(*at_++);
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
      if (at_ == end_) return false;
      const uint64_t b = static_cast<uint64_t>(*at_++);
      value |= (b & 0x7f) << shift;
      if (b < 0x80) {
        *out = value;
        return true;
      }
    }
    return false;
  }
  bool ReadFixed(size_t size) {
    if (static_cast<size_t>(end_ - at_) < size) return false;
    number_ = 0;
    std::memcpy(&number_, at_, size);
    at_ += size;
    return true;
  }
  bool ReadPayload(uint32_t type) {
    switch (type) {
      case 0:
        return ReadVarint(&number_);
      case 1:
        return ReadFixed(8);
      case 2: {
        uint64_t size;
        if (!ReadVarint(&size) || size > static_cast<uint64_t>(end_ - at_)) return false;
        bytes_ = {at_, static_cast<size_t>(size)};
        at_ += size;
        return true;
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
      if (at_ == end_ || !ReadTag(&tag) || (tag >> 3) == 0) return false;
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

  const std::byte* at_;
  const std::byte* end_;
  bool ok_ = true;
  uint32_t field_ = 0;
  WireKind kind_ = WireKind::kVarint;
  uint64_t number_ = 0;
  std::span<const std::byte> bytes_;
};

}  // namespace tidegate::wire
