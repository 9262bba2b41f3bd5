#include "scheduler/evaluation.h"

#include "absl/strings/str_cat.h"
#include "common/eval_metrics.h"

namespace tidegate {

void Evaluation::Begin(uint32_t epoch) {
  progress_.Clear();
  scores_.clear();
  queue_.Begin(epoch, 0);
}

absl::Status Evaluation::Take(Incarnation worker, const WorkDone& done) {
  if (FindLease(&progress_, worker, done.lease()) == nullptr) return absl::OkStatus();
  for (const TaskScores& scores : done.scores()) {
    ScoreSet check;
    const absl::Status status = check.Add(scores.probabilities(), scores.labels(), scores.weights());
    if (!status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("task \"", scores.task(), "\": ", status.message()));
    }
  }
  const uint32_t split = *queue_.Complete(worker, done);
  scores_[split].assign(done.scores().begin(), done.scores().end());
  return absl::OkStatus();
}

std::vector<MetricValue> Evaluation::Metrics(const JobConfig& job) const {
  std::vector<MetricValue> metrics;
  for (const TaskConfig& task : job.model().task()) {
    ScoreSet set;
    for (const auto& [split, pieces] : scores_) {
      for (const TaskScores& piece : pieces) {
        if (piece.task() == task.name()) {
          set.Add(piece.probabilities(), piece.labels(), piece.weights()).IgnoreError();
        }
      }
    }
    const EvalMetrics values = set.Compute();
    const auto add = [&](const char* name, double value) {
      MetricValue metric;
      metric.set_name(absl::StrCat("valid/", task.name(), "/", name));
      metric.set_value(value);
      metrics.push_back(metric);
    };
    add("auc", values.auc);
    add("logloss", values.logloss);
    add("calibration", values.calibration);
    add("rows", static_cast<double>(values.rows));
  }
  return metrics;
}

}  // namespace tidegate
