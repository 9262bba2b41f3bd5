#pragma once
// One evaluation over the validation splits: work, and the scores that come back. Soft: it starts again
// with a new scheduler. Not thread-safe.

#include <map>
#include <vector>

#include "absl/status/status.h"
#include "common/types.h"
#include "proto/job.pb.h"
#include "proto/scheduler_state.pb.h"
#include "scheduler/work_queue.h"

namespace tidegate {

class Evaluation {
 public:
  explicit Evaluation(const std::vector<Split>* splits)
      : queue_(&progress_, splits, Work::EVAL) {}
  Evaluation(const Evaluation&) = delete;
  Evaluation& operator=(const Evaluation&) = delete;

  void Begin(uint32_t epoch);
  // OK also for a report of a lease that `worker` does not hold: nothing changes.
  absl::Status Take(const JobConfig& job, Incarnation worker, const WorkDone& done);
  LeaseRecord* LeaseOf(Incarnation worker) { return FindLeaseOf(&progress_, worker); }
  WorkQueue& queue() { return queue_; }
  const WorkQueue& queue() const { return queue_; }
  uint64_t bad_lines() const { return progress_.bad_lines(); }
  size_t done() const { return static_cast<size_t>(progress_.done_size()); }

  // common/task_metrics.h of every task. Scores are taken in the order of the
  // splits, whoever did them.
  uint64_t samples() const;  // scored so far, of the task that has most
  std::vector<MetricValue> Metrics(const JobConfig& job) const;

 private:
  EpochProgress progress_;
  WorkQueue queue_;
  std::map<uint32_t, std::vector<TaskScores>> scores_;  // by split
};

}  // namespace tidegate
