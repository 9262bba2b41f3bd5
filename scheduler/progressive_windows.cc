#include "scheduler/progressive_windows.h"

#include <algorithm>
#include <utility>

#include "common/progressive.h"

namespace tidegate {
namespace {

std::vector<TaskConfig> TasksOf(const JobConfig& job) {
  std::vector<TaskConfig> tasks;
  for (const TaskConfig& task : job.model().task()) {
    if (HasProgressiveMetrics(task)) tasks.push_back(task);
  }
  return tasks;
}

}  // namespace

ProgressiveWindows::ProgressiveWindows(const JobConfig& job) : tasks_(TasksOf(job)) {}

void ProgressiveWindows::Take(Incarnation worker, const WorkerLoad& load) {
  if (load.progressive().empty()) return;
  const bool baseline = expected_.erase(worker) > 0;
  for (const TaskProgress& counts : load.progressive()) {
    const bool known = std::any_of(tasks_.begin(), tasks_.end(),
                                   [&](const TaskConfig& task) { return task.name() == counts.task(); });
    if (!known) continue;
    TaskProgress& newest = newest_[worker][counts.task()];
    TaskProgress unused;
    if (AddDifference(counts, newest, baseline ? &unused : &open_[counts.task()])) newest = counts;
  }
}

void ProgressiveWindows::Forget(Incarnation worker) {
  expected_.erase(worker);
  newest_.erase(worker);
}

std::vector<MetricValue> ProgressiveWindows::Close() {
  std::vector<MetricValue> metrics;
  for (const TaskConfig& task : tasks_) {
    for (MetricValue& metric : ProgressiveMetrics(task, open_[task.name()])) {
      metrics.push_back(std::move(metric));
    }
  }
  open_.clear();
  return metrics;
}

}  // namespace tidegate
