#pragma once
// From flags to a job's core: config and data first, which need no state; then the state, wherever it is.

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "scheduler/cluster_state.h"
#include "scheduler/rpc/process_options.h"
#include "scheduler/store/etcd_address.h"
#include "scheduler/store/etcd_store.h"

namespace tidegate {

// What of a job is the same whoever leads it.
struct JobPlan {
  JobConfig config;       // as its users know it
  SchedulerOptions core;  // without checkpoint_directory
};
absl::StatusOr<JobPlan> PlanJob(const SchedulerProcessOptions& options, FileSystem* files);

// Where a job's state is.
struct StateHome {
  std::string name;         // folder or URL
  bool in_etcd = false;
  std::string checkpoints;  // folder
  std::unique_ptr<StateStore> store;
  // The config that the state was begun with, as text: NOT_FOUND before that.
  std::function<absl::StatusOr<std::string>()> read_config;
  std::function<absl::Status(const std::string&)> keep_config;
};
// Holds the folder.
absl::StatusOr<StateHome> OpenFolder(const SchedulerProcessOptions& options, FileSystem* files);
// INVALID_ARGUMENT: without --checkpoint_dir. `lead` with revision 0 reads only. `etcd` outlives it.
absl::StatusOr<StateHome> OpenEtcd(const SchedulerProcessOptions& options, const EtcdAddress& address, Etcd* etcd,
                                   LeaderKey::Lead lead);

// Whether a state that was begun, if any, is of this config; the error has the fields that differ.
absl::Status CheckSameConfig(const JobPlan& plan, const SchedulerState& stored, const StateHome& home);

struct Job {
  StateHome home;
  SchedulerOptions options;
  std::unique_ptr<FileLock> checkpoint_lock;  // null: see LockCheckpoints
  std::unique_ptr<ClusterState> core;
  std::unique_ptr<ClusterState> before;  // the core that RestoreJob replaced last
};
// Loads the state, or begins one, from the newest checkpoint where there is one.
absl::StatusOr<Job> BeginJob(const SchedulerProcessOptions& options, FileSystem* files, const JobPlan& plan, StateHome home);

// After a loss: a core of the newest good checkpoint takes the place of job->core, in a new generation.
absl::StatusOr<ClusterState*> RestoreJob(FileSystem* files, Job* job);

// Two jobs would write over each other's shards, and both would say that they are done. The lock is null where it is
// not needed (the folder is the state's, which is held), or where it cannot be had: a scheduler of the same job that
// leads no more, by etcd's word, may hold it for long (a stopped process). `generation`: of the state, 0: it is new.
absl::StatusOr<std::unique_ptr<FileLock>> LockCheckpoints(FileSystem* files, const StateHome& home, uint64_t generation);

}  // namespace tidegate
