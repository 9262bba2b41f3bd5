#pragma once
// float32 <-> bfloat16, and the check of values that come from outside. Thread-safe: free functions.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

#include "proto/table.pb.h"

namespace tidegate {

inline float FromBfloat16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// Round to nearest, ties to even. NaN stays NaN.
inline uint16_t ToBfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

// Stochastic rounding: up with the probability of the part cut off, by 16 random bits. A finite
// value never becomes infinite.
inline uint16_t ToBfloat16Stochastic(float value, uint16_t random) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = bits + random;
  if ((rounded & 0x7f800000u) == 0x7f800000u) return static_cast<uint16_t>(bits >> 16);
  return static_cast<uint16_t>(rounded >> 16);
}

// `count` elements of wire type `type` (any alignment) to floats.
void DecodeValues(const std::byte* bytes, DataType type, size_t count, float* out);

// False when any value is NaN, infinite, or larger than `limit` in magnitude. REQUIRES: bytes is a
// multiple of the element's size; limit is finite and not negative.
bool AllWithin(std::span<const std::byte> bytes, DataType type, float limit);
inline bool AllFinite(std::span<const std::byte> bytes, DataType type) {
  return AllWithin(bytes, type, std::numeric_limits<float>::max());
}

}  // namespace tidegate
