#pragma once
// A job that goes on from a checkpoint: the state that a new scheduler starts from. Functions without I/O.
//
// The job begins as a new one (new generation, members and shards), and its servers restore the tables:
// whatever workers and servers of the old run still send is refused by its generation.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/checkpoint.pb.h"
#include "proto/scheduler_state.pb.h"
#include "scheduler/cluster_state.h"

namespace tidegate {

struct StoredCheckpoint {
  std::string folder;
  CheckpointManifest manifest;
};

// `stored` rise by number; the last is resumed from. FAILED_PRECONDITION: it is of another job (says in
// which fields), the data changed, or it says nothing of a job's progress. A job that the checkpoint shows
// finished comes back as FINISHED.
absl::StatusOr<SchedulerState> ResumeFrom(const std::vector<StoredCheckpoint>& stored,
                                          const SchedulerOptions& options);

// ... of a job that runs, has lost shards (`lost` is its state), and goes on in the same scheduler. Only checkpoints that it
// made or resumed from are taken, of `stored`; NOT_FOUND: none is left. What tells one of its lives from another rises.
absl::StatusOr<SchedulerState> RestoredState(const std::vector<StoredCheckpoint>& stored, const SchedulerOptions& options,
                                             const SchedulerState& lost);

}  // namespace tidegate
