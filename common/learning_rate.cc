#include "common/learning_rate.h"

#include <algorithm>
#include <cstdint>

namespace tidegate {
namespace {

constexpr double kPi = 3.14159265358979323846;

// cos(pi * x) for x in [0, 1], by the Taylor series of sin around 0: to 1e-15.
double CosineOfPi(double x) {
  const double a = kPi * (0.5 - x);
  double term = a, sum = a;
  for (int n = 3; n <= 21; n += 2) {
    term *= -(a * a) / ((n - 1) * n);
    sum += term;
  }
  return sum;
}

double Power(double base, uint64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result *= base;
    base *= base;
  }
  return result;
}

}  // namespace

float LearningRateSchedule::Factor(Clock clock) const {
  const uint64_t step = static_cast<uint64_t>(std::max<Clock>(clock, 0));
  const uint64_t warmup = schedule_.warmup_steps();
  if (step < warmup) return static_cast<float>(static_cast<double>(step + 1) / static_cast<double>(warmup));
  const uint64_t since = step - warmup;
  const uint64_t every = std::max<uint64_t>(schedule_.every(), 1);
  switch (schedule_.kind()) {
    case Schedule::STEP:
      return static_cast<float>(Power(schedule_.factor(), since / every));
    case Schedule::COSINE: {
      const double x = since >= every ? 1.0 : static_cast<double>(since) / static_cast<double>(every);
      const double low = schedule_.min_scale();
      return static_cast<float>(low + (1 - low) * 0.5 * (1 + CosineOfPi(x)));
    }
    case Schedule::CONSTANT:
      break;
  }
  return 1;
}

}  // namespace tidegate
