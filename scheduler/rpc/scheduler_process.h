#pragma once
// A whole scheduler: config, data, state, service, metrics, summary, until the job has ended. Where the state is in
// etcd, it leads when it is its turn and stands by else. Stop may be called from any thread.

#include <atomic>
#include <optional>

#include "absl/status/status.h"
#include "common/file_system.h"
#include "scheduler/rpc/process_options.h"

namespace tidegate {

class ClusterState;
class EtcdCompaction;
class Leadership;
struct Job;
struct JobPlan;

class SchedulerProcess {
 public:
  SchedulerProcess(SchedulerProcessOptions options, FileSystem* files)
      : options_(std::move(options)), files_(files) {}

  // Blocks until the end; the exit code (common/exit_codes.h).
  int Run();
  // Stops the job (members are told); Run returns 128 + signal. Where the state is in etcd: SIGTERM gives the lead up
  // and leaves the job to the others, and so does any signal to a standby.
  void Stop(int signal) { signal_ = signal; }

 private:
  struct Front;
  struct Term;
  struct Turn {
    Leadership* leadership;
    EtcdCompaction* compaction;
  };
  int RunJob();
  // State in etcd: leads, stands by, leads ... until the job has ended.
  int RunInTurns(const JobPlan& plan);
  // Until the job has ended: the exit code. Empty: another one leads now. `turn` is null where there are no others.
  std::optional<int> Lead(Job job, Turn* turn, Front* front);
  absl::Status Open(Front* front);
  absl::Status WriteAddress(const Front& front);
  int TellOfFinished(const ClusterState& core);

  const SchedulerProcessOptions options_;
  FileSystem* const files_;
  std::atomic<int> signal_{0};
};

}  // namespace tidegate
