#pragma once
// What follows from an epoch's metrics: learning-rate decay on a plateau, early stop, what to save. A
// stateless policy: state in, decision out.

#include <optional>
#include <string>

#include "proto/job.pb.h"
#include "proto/scheduler_state.pb.h"

namespace tidegate {

struct EpochDecision {
  MonitorRecord plateau;  // as it is after this epoch
  MonitorRecord stop;
  bool best = false;      // this epoch is the best so far by stop.monitor
  bool last = false;      // the job ends
  bool save = false;      // write a checkpoint
  float lr_scale = 1;     // of the next epoch
  std::string reason;     // for people: why the rate or the end; may be empty
  std::string warning;    // for people: a monitor that is no number; may be empty
};

std::optional<double> FindMetric(const EpochResult& result, const std::string& name);

// Whether `value` is better than `best` by more than min_delta: higher for AUCs and ranking metrics,
// nearer to 1 for calibration, lower for everything else (losses, RMSE). NaN is never better.
bool IsBetter(const std::string& monitor, double value, double best, double min_delta);

// A monitor whose metric does not exist (no validation data) neither decays nor stops; then, and where
// no epoch was the best, the last epoch is saved.
EpochDecision DecideAfterEpoch(const TrainConfig& train, const SchedulerState& state,
                               const EpochResult& result);

}  // namespace tidegate
