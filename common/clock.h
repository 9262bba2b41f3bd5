#pragma once
// Time, injected. Cores are told the time in their calls and own no clock; wiring owns a RealClock.

#include <chrono>

#include "common/types.h"

namespace tidegate {

class ClockSource {
 public:
  virtual ~ClockSource() = default;
  virtual TimeMs NowMs() const = 0;  // monotonic
};

class RealClock final : public ClockSource {
 public:
  TimeMs NowMs() const override {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
};

}  // namespace tidegate
