// What goes to the metrics log: epochs, and windows of the training stream.
#include <algorithm>
#include <utility>

#include "scheduler/cluster_state.h"

namespace tidegate {

Clock ClusterState::HighestClock() const {
  Clock clock = state_.max_clock();
  const auto count = [&clock](const WorkerLoad& load) {
    if (load.samples_total() > 0) clock = std::max(clock, load.clock() + 1);
  };
  for (const auto& [incarnation, soft] : soft_) count(soft.worker_load);
  for (const auto& [incarnation, loads] : last_loads_) count(loads.second);
  return clock;
}

double ClusterState::LearningRateFactor() const {
  return double{state_.lr_scale()} * schedule_.Factor(HighestClock() - 1);
}

double ClusterState::TrainSeconds() const {
  double seconds = state_.phase() == TRAINING ? state_.current().train_ms() / 1000.0 : 0;
  for (const EpochResult& result : state_.results()) seconds += result.seconds();
  return seconds;
}

MetricsRecord ClusterState::Record(const char* kind, std::vector<MetricValue> values) const {
  MetricsRecord record;
  record.kind = kind;
  record.step = HighestClock();
  record.epoch = state_.epoch();
  record.samples = SamplesSoFar();
  record.seconds = TrainSeconds();
  record.learning_rate_factor = LearningRateFactor();
  record.values = std::move(values);
  return record;
}

void ClusterState::CloseProgressive(TimeMs window_ms, SchedulerEffects* effects) {
  if (state_.phase() != TRAINING) return;
  const double now = state_.current().train_ms();
  if (now < progressive_since_ms_) progressive_since_ms_ = 0;  // of an earlier epoch
  if (now - progressive_since_ms_ < static_cast<double>(window_ms)) return;
  progressive_since_ms_ = now;
  std::vector<MetricValue> metrics = progressive_.Close();
  if (metrics.empty()) return;
  newest_progressive_ = metrics;
  effects->metrics.push_back(Record("progressive", std::move(metrics)));
}

}  // namespace tidegate
