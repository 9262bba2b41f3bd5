#pragma once
// Random numbers as pure functions of a seed: the same on every machine. Never seeded by time.

#include <cmath>
#include <cstdint>

#include "common/stable_hash.h"

namespace tidegate {

// Counter-based: element i of stream `seed`, in any order (initialisers, dropout masks).
constexpr uint64_t RandomBits(uint64_t seed, uint64_t i) {
  return Mix64(Mix64(seed ^ 0x5851f42d4c957f2dull) + i * 0x9e3779b97f4a7c15ull);
}
// Uniform in [0, 1): 53 bits.
constexpr double ToUnit(uint64_t bits) {
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}
// Standard normal by Box-Muller from two draws. The only libm dependence of an initialiser.
inline double ToNormal(uint64_t a, uint64_t b) {
  const double u = static_cast<double>((a >> 11) + 1) * 0x1.0p-53;  // (0, 1]
  return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * ToUnit(b));
}

// Sequential generator (splitmix64); satisfies UniformRandomBitGenerator.
class Random {
 public:
  using result_type = uint64_t;
  explicit constexpr Random(uint64_t seed) : state_(Mix64(seed)) {}
  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return ~0ull; }
  constexpr uint64_t operator()() { return Mix64(state_ += 0x9e3779b97f4a7c15ull); }
  // Uniform in [0, n), n > 0. (Multiply-shift: bias below 2^-32 for n < 2^32.)
  constexpr uint64_t Below(uint64_t n) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>((*this)()) * n) >> 64);
  }
  constexpr double Unit() { return ToUnit((*this)()); }

 private:
  uint64_t state_;
};

}  // namespace tidegate
