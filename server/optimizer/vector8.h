#pragma once
// Eight floats, and the few operations that update rules need, spelt the same for eight and for one,
// so that a rule is written once and its tail gives the same bits as its lanes.

#include <cmath>
#include <cstddef>
#include <cstring>
#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace tidegate::vector8 {

typedef float Float8 __attribute__((vector_size(32)));

template <typename V>
inline V Load(const void* p) {
  V value;
  std::memcpy(&value, p, sizeof(V));
  return value;
}
template <typename V>
inline void Store(void* p, V value) {
  std::memcpy(p, &value, sizeof(V));
}

inline float Sqrt(float a) { return __builtin_sqrtf(a); }
inline Float8 Sqrt(Float8 a) {
#if defined(__AVX__)
  return _mm256_sqrt_ps(a);
#else
  Float8 result;
  for (int i = 0; i < 8; ++i) result[i] = __builtin_sqrtf(a[i]);
  return result;
#endif
}

// magnitude >= 0, given the sign of `sign`.
inline float WithSign(float magnitude, float sign) { return std::signbit(sign) ? -magnitude : magnitude; }
inline Float8 WithSign(float magnitude, Float8 sign) {
  typedef int Int8 __attribute__((vector_size(32)));
  const Int8 bits = reinterpret_cast<Int8>(sign) & 0x80000000;
  const Float8 all = Float8{} + magnitude;
  return reinterpret_cast<Float8>(reinterpret_cast<Int8>(all) | bits);
}

// |a| <= bound ? 0 : b
inline float ZeroWithin(float a, float bound, float b) { return std::fabs(a) <= bound ? 0.0f : b; }
inline Float8 ZeroWithin(Float8 a, float bound, Float8 b) {
  return ((a <= bound) & (a >= -bound)) ? Float8{} : b;
}

// a within [-bound, bound]. REQUIRES: a is not NaN.
inline float Clamp(float a, float bound) { return a > bound ? bound : a < -bound ? -bound : a; }
inline Float8 Clamp(Float8 a, float bound) {
  const Float8 high = Float8{} + bound;
  a = a > high ? high : a;
  return a < -high ? -high : a;
}

// The fixed order of a sum over a row (optimizer.h).
inline float AddLanes(const Float8& l) {
  return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}

}  // namespace tidegate::vector8
