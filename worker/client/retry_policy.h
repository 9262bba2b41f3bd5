#pragma once
// Exponential backoff with jitter that depends on nothing but the seed and the count of draws, so that
// a simulation replays. Not thread-safe.

#include <algorithm>
#include <cstdint>

#include "common/random.h"
#include "common/types.h"

namespace tidegate {

class RetryPolicy {
 public:
  struct Options {
    TimeMs backoff_min_ms = 10;
    TimeMs backoff_max_ms = 1'000;
    TimeMs soon_max_ms = 50;
    uint64_t seed = 1;
  };

  explicit RetryPolicy(Options options) : options_(options), random_(options.seed) {}

  // After `attempts` >= 1 failed ones: min * 2^(attempts - 1) up to max, of which a random half.
  TimeMs Delay(uint32_t attempts) { return DelayUpTo(attempts, options_.backoff_max_ms); }
  // Where a server answers that it cannot yet (it takes over, or has older routing): no delay is much longer
  // than what it waits for.
  TimeMs SoonAfter(uint32_t attempts) {
    return DelayUpTo(attempts, std::min(options_.soon_max_ms, options_.backoff_max_ms));
  }
  // base * 2^(attempts - 1), at most `limit`.
  static TimeMs Doubled(TimeMs base, uint32_t attempts, TimeMs limit) {
    const uint32_t doublings = std::min<uint32_t>(attempts > 0 ? attempts - 1 : 0, 20);
    return std::min(base << doublings, limit);
  }

 private:
  TimeMs DelayUpTo(uint32_t attempts, TimeMs limit) {
    const TimeMs half = std::max<TimeMs>(Doubled(options_.backoff_min_ms, attempts, limit) / 2, 1);
    return half + static_cast<TimeMs>(random_.Below(static_cast<uint64_t>(half)));
  }

  Options options_;
  Random random_;
};

}  // namespace tidegate
