#pragma once
// Windows of the training stream's progressive metrics (common/progressive.h): workers report counts since
// their start, so that a report may be lost, late or doubled; what is new in one goes to the open window.
// A core without I/O; not thread-safe.

#include <map>
#include <string>
#include <vector>

#include "common/types.h"
#include "proto/cluster.pb.h"
#include "proto/job.pb.h"

namespace tidegate {

class ProgressiveWindows {
 public:
  explicit ProgressiveWindows(const JobConfig& job);

  // A worker that was there before this: what its first report holds was counted already.
  void Expect(Incarnation worker) { expected_[worker] = true; }
  // Counts of tasks that the job does not have, or that make no sense, are left out.
  void Take(Incarnation worker, const WorkerLoad& load);
  void Forget(Incarnation worker);

  // The open window's metrics, of all workers; the next window opens. Empty without samples.
  std::vector<MetricValue> Close();

 private:
  const std::vector<TaskConfig> tasks_;  // that have progressive metrics
  std::map<Incarnation, bool> expected_;
  std::map<Incarnation, std::map<std::string, TaskProgress>> newest_;
  std::map<std::string, TaskProgress> open_;  // by task
};

}  // namespace tidegate
