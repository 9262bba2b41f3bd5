#pragma once
// Writes protobuf's wire format: fields in ascending order, zeros left out, so that the bytes are those of
// protobuf's own serialisation. All fields here have numbers below 16: tags of one byte.
// Source: protobuf.dev, "Encoding".

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "common/wire/shard_wire.h"

namespace tidegate::wire {

inline size_t VarintSize(uint64_t v) { return (static_cast<size_t>(std::bit_width(v | 1)) + 6) / 7; }
inline uint64_t ZigZag(int64_t v) { return (static_cast<uint64_t>(v) << 1) ^ static_cast<uint64_t>(v >> 63); }

inline void PutVarint(std::string* out, uint64_t v) {
  while (v >= 0x80) {
    out->push_back(static_cast<char>(v | 0x80));
    v >>= 7;
  }
  out->push_back(static_cast<char>(v));
}
inline void PutNumber(std::string* out, uint32_t field, uint64_t v) {
  if (v == 0) return;
  PutVarint(out, field << 3);
  PutVarint(out, v);
}
inline void PutLength(std::string* out, uint32_t field, size_t size) {
  PutVarint(out, field << 3 | 2);
  PutVarint(out, size);
}
inline void PutString(std::string* out, uint32_t field, std::string_view s) {
  if (s.empty()) return;
  PutLength(out, field, s.size());
  out->append(s);
}
template <typename Numbers>
void PutPackedVarints(std::string* out, uint32_t field, const Numbers& numbers) {
  std::string packed;
  for (uint64_t n : numbers) PutVarint(&packed, n);
  PutString(out, field, packed);
}
inline size_t BytesFieldSize(size_t size) { return size == 0 ? 0 : 1 + VarintSize(size) + size; }
inline size_t NumberFieldSize(uint64_t v) { return v == 0 ? 0 : 1 + VarintSize(v); }

// Puts `prefix` and the tag and length of `field` in front of its pieces.
inline Pieces Wrap(std::string prefix, uint32_t field, Pieces body) {
  PutLength(&prefix, field, TotalBytes(body));
  body[0].head.insert(0, prefix);
  return body;
}

}  // namespace tidegate::wire
