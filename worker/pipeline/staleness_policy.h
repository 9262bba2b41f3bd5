#pragma once
// When a worker may begin a step, and what its pulls must see: the staleness contract on the worker's
// side (docs/consistency.md). A core: no thread, no clock. Not thread-safe.
//
// Clock c's pull names the bound c - s - 1. A worker may pull ahead of its own computation, but never
// so far that the pull would wait for a clock that this worker has not even computed: that would only
// park it.

#include <algorithm>
#include <cstdint>

#include "common/types.h"

namespace tidegate {

struct StalenessOptions {
  bool bounded = true;      // false: staleness inf
  uint64_t staleness = 0;   // bounded only
  uint32_t depth = 2;       // steps in flight, the one being computed included; >= 1
};

class StalenessPolicy {
 public:
  explicit StalenessPolicy(StalenessOptions options) : options_(options) {}

  // The bound that the pull of clock c names; kNoBound when nothing needs to be waited for.
  Clock BoundOf(Clock c) const {
    return options_.bounded ? c - static_cast<Clock>(options_.staleness) - 1 : kNoBound;
  }

  // May the pull of clock `next` leave while `computed` is the newest clock whose push has left?
  bool MayPull(Clock next, Clock computed) const {
    return next - computed - 1 <= static_cast<Clock>(LookAhead());
  }

  // Steps that may be pulled beyond the one being computed.
  uint64_t LookAhead() const {
    const uint64_t by_depth = options_.depth > 0 ? options_.depth - 1 : 0;
    return options_.bounded ? std::min(by_depth, options_.staleness) : by_depth;
  }

 private:
  StalenessOptions options_;
};

}  // namespace tidegate
