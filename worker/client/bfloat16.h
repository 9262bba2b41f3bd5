#pragma once
// bfloat16 on the wire: the upper half of a float32, rounded to nearest even; NaN stays NaN.

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tidegate {

inline uint16_t ToBfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
inline float FromBfloat16(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Packed arrays, not necessarily aligned.
inline void NarrowToBfloat16(const std::byte* from, size_t elements, std::byte* to) {
  for (size_t i = 0; i < elements; ++i) {
    float value;
    std::memcpy(&value, from + i * sizeof value, sizeof value);
    const uint16_t half = ToBfloat16(value);
    std::memcpy(to + i * sizeof half, &half, sizeof half);
  }
}
inline void WidenFromBfloat16(const std::byte* from, size_t elements, float* to) {
  for (size_t i = 0; i < elements; ++i) {
    uint16_t half;
    std::memcpy(&half, from + i * sizeof half, sizeof half);
    to[i] = FromBfloat16(half);
  }
}

}  // namespace tidegate
