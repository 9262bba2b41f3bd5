#include "scheduler/policy/epoch_policy.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/task_metrics.h"

namespace tidegate {
namespace {

// Counts an epoch; true when it is the best so far.
bool Observe(const std::string& monitor, double value, double min_delta, MonitorRecord* record) {
  const bool better = record->has_best() ? IsBetter(monitor, value, record->best(), min_delta)
                                         : !std::isnan(value);
  if (better) {
    record->set_has_best(true);
    record->set_best(value);
    record->set_bad_epochs(0);
  } else {
    record->set_bad_epochs(record->bad_epochs() + 1);
  }
  return better;
}

}  // namespace

std::optional<double> FindMetric(const EpochResult& result, const std::string& name) {
  for (const MetricValue& metric : result.metrics()) {
    if (metric.name() == name) return metric.value();
  }
  return std::nullopt;
}

bool IsBetter(const std::string& monitor, double value, double best, double min_delta) {
  if (std::isnan(value)) return false;
  if (HigherIsBetter(monitor)) return value > best + min_delta;
  if (absl::EndsWith(monitor, "/calibration")) {
    return std::abs(value - 1) < std::abs(best - 1) - min_delta;
  }
  return value < best - min_delta;
}

EpochDecision DecideAfterEpoch(const TrainConfig& train, const SchedulerState& state,
                               const EpochResult& result) {
  EpochDecision decision;
  decision.plateau = state.plateau();
  decision.stop = state.stop();
  decision.lr_scale = state.lr_scale();
  decision.last = result.epoch() >= train.epochs();
  if (!decision.last && train.limit_steps() > 0 && state.max_clock() >= static_cast<int64_t>(train.limit_steps())) {
    decision.last = true;
    decision.reason = absl::StrCat("train.limit_steps: ", train.limit_steps(), " steps are done");
  }

  const EarlyStop& stop = train.stop();
  const std::optional<double> watched = FindMetric(result, stop.monitor());
  if (watched.has_value()) {
    decision.best = Observe(stop.monitor(), *watched, stop.min_delta(), &decision.stop);
    if (train.has_stop() && stop.patience() > 0 && decision.stop.bad_epochs() >= stop.patience() &&
        !decision.last) {
      decision.last = true;
      decision.reason = absl::StrCat("early stop: ", stop.monitor(), " was not better than ",
                                     decision.stop.best(), " for ", stop.patience(), " epochs");
    }
  }
  if (train.has_plateau() && !decision.last) {
    const Plateau& plateau = train.plateau();
    const std::optional<double> value = FindMetric(result, plateau.monitor());
    if (value.has_value() &&
        !Observe(plateau.monitor(), *value, plateau.min_delta(), &decision.plateau) &&
        decision.plateau.bad_epochs() >= std::max(1u, plateau.patience())) {
      decision.plateau.set_bad_epochs(0);
      const float scale = std::max(state.lr_scale() * plateau.factor(), plateau.min_scale());
      if (scale < state.lr_scale()) {
        decision.lr_scale = scale;
        decision.reason = absl::StrCat("plateau of ", plateau.monitor(), ": learning rate x ", scale);
      }
    }
  }
  for (const std::string* monitor : {train.has_stop() ? &stop.monitor() : nullptr,
                                     train.has_plateau() ? &train.plateau().monitor() : nullptr}) {
    if (monitor == nullptr || !std::isnan(FindMetric(result, *monitor).value_or(0))) continue;
    decision.warning = absl::StrCat(*monitor, " of epoch ", result.epoch(), " is not a number: the epoch counts as not better");
  }
  const bool keep_best = train.has_stop() && stop.keep() == EarlyStop::BEST;
  const bool any_best = decision.best || state.best_epoch() != 0;
  decision.save = decision.last || (keep_best && any_best && decision.best);
  return decision;
}

}  // namespace tidegate
