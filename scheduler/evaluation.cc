#include "scheduler/evaluation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/task_metrics.h"

namespace tidegate {
namespace {

absl::Status AddTo(ScoreSet* set, const JobConfig& job, const TaskConfig& task, const TaskScores& scores) {
  if (job.data().has_full_ranking()) return set->AddRanked(scores.probabilities(), scores.groups(), scores.above());
  std::string_view groups;
  if (NeedsGroups(task)) groups = scores.groups();
  return set->Add(scores.probabilities(), scores.labels(), scores.weights(), groups);
}

}  // namespace

void Evaluation::Begin(uint32_t epoch) {
  progress_.Clear();
  scores_.clear();
  queue_.Begin(epoch, 0);
}

absl::Status Evaluation::Take(const JobConfig& job, Incarnation worker, const WorkDone& done) {
  if (FindLease(&progress_, worker, done.lease()) == nullptr) return absl::OkStatus();
  for (const TaskScores& scores : done.scores()) {
    const auto task = std::find_if(job.model().task().begin(), job.model().task().end(),
                                   [&](const TaskConfig& t) { return t.name() == scores.task(); });
    if (task == job.model().task().end()) {
      return absl::InvalidArgumentError(absl::StrCat("no task is named \"", scores.task(), "\""));
    }
    ScoreSet check = ScoresOf(*task);
    absl::Status status = AddTo(&check, job, *task, scores);
    if (status.ok() && NeedsGroups(*task) && !check.has_groups()) {
      status = absl::InvalidArgumentError("no group ids, which its metrics need");
    }
    if (!status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("task \"", scores.task(), "\": ", status.message()));
    }
  }
  const uint32_t split = *queue_.Complete(worker, done);
  scores_[split].assign(done.scores().begin(), done.scores().end());
  return absl::OkStatus();
}

uint64_t Evaluation::samples() const {
  std::map<std::string, uint64_t> of_task;
  for (const auto& [split, pieces] : scores_) {
    for (const TaskScores& piece : pieces) of_task[piece.task()] += piece.labels().size() / sizeof(float);
  }
  uint64_t most = 0;
  for (const auto& [task, samples] : of_task) most = std::max(most, samples);
  return most;
}

std::vector<MetricValue> Evaluation::Metrics(const JobConfig& job) const {
  std::vector<MetricValue> metrics;
  for (const TaskConfig& task : job.model().task()) {
    ScoreSet set = ScoresOf(task);
    for (const auto& [split, pieces] : scores_) {
      for (const TaskScores& piece : pieces) {
        if (piece.task() == task.name()) AddTo(&set, job, task, piece).IgnoreError();
      }
    }
    for (MetricValue& metric : TaskMetrics(task, set)) metrics.push_back(std::move(metric));
  }
  return metrics;
}

}  // namespace tidegate
