#include "server/table/value_codec.h"

namespace tidegate {

void DecodeValues(const std::byte* bytes, DataType type, size_t count, float* out) {
  if (type == FLOAT32) {
    std::memcpy(out, bytes, count * 4);
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, bytes + 2 * i, 2);
    out[i] = FromBfloat16(bits);
  }
}

namespace {

// In one pass without branches: magnitudes compare as their bits do, and those of infinity and NaN are
// above all others. In blocks, so that the inner loop vectorises and a bad message is left early.
template <typename T>
bool BitsWithin(std::span<const std::byte> bytes, T limit) {
  constexpr T kMagnitude = static_cast<T>(static_cast<T>(~T{0}) >> 1);
  constexpr size_t kBlock = 256;
  const size_t count = bytes.size() / sizeof(T);
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t end = begin + kBlock < count ? begin + kBlock : count;
    T bad = 0;
    for (size_t i = begin; i < end; ++i) {
      T bits;
      std::memcpy(&bits, bytes.data() + i * sizeof(T), sizeof(T));
      bad |= static_cast<T>((bits & kMagnitude) > limit);
    }
    if (bad != 0) return false;
  }
  return true;
}

}  // namespace

bool AllWithin(std::span<const std::byte> bytes, DataType type, float limit) {
  const uint32_t bits = std::bit_cast<uint32_t>(limit);
  return type == FLOAT32 ? BitsWithin<uint32_t>(bytes, bits)
                         : BitsWithin<uint16_t>(bytes, static_cast<uint16_t>(bits >> 16));
}

}  // namespace tidegate
