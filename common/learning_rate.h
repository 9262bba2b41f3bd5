#pragma once
// TrainConfig.schedule: the factor on every learning rate, a pure function of the clock of a push, computed
// where the push is applied. No libm: the same bits on every machine. Thread-safe.

#include "common/types.h"
#include "proto/job.pb.h"

namespace tidegate {

class LearningRateSchedule {
 public:
  LearningRateSchedule() = default;  // constant, without warm-up
  explicit LearningRateSchedule(const Schedule& schedule) : schedule_(schedule) {}

  // During warm-up (clock + 1) / warmup_steps; after it, with n clocks since its end:
  //   CONSTANT  1
  //   STEP      factor^floor(n / every)
  //   COSINE    min_scale + (1 - min_scale) * (1 + cos(pi * min(n / every, 1))) / 2
  // A clock below 0 counts as 0.
  float Factor(Clock clock) const;

 private:
  Schedule schedule_;
};

}  // namespace tidegate
