#pragma once
// The processes of a cluster under test: started, killed, stopped and started again by name; their output goes
// to log files. Only of the main thread.

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/chaos/fault_network.h"
#include "cli/process.h"
#include "cli/status_client.h"
#include "common/types.h"

namespace tidegate::cli {

class ChaosCluster {
 public:
  struct Options {
    std::string bin_dir;
    std::string run_dir;  // state and logs
    std::string config;   // path
    std::vector<std::string> sets;  // over it
    int servers = 3;
    int workers = 0;      // processes
    int schedulers = 1;   // one leads; several need `state`
    std::string state;    // etcd://...; empty: a folder of run_dir
    int lease_ms = 3000;
    int heartbeat_interval_ms = 250;
    int start_timeout_s = 30;
    FaultNetwork* network = nullptr;  // null: all on loopback
  };

  explicit ChaosCluster(Options options) : options_(std::move(options)) {}
  ~ChaosCluster();

  absl::Status Start();  // the schedulers, then the servers, then the workers
  // By name, as Poll tells it; one that has ended.
  absl::Status StartAgain(const std::string& name);
  // The scheduler that leads. UNAVAILABLE: none answers.
  absl::StatusOr<std::string> Leader() const;
  std::vector<std::string> Schedulers() const;
  void Signal(const std::string& name, int signal);
  // Writes what the processes said to their logs and returns the names of those that have ended since.
  std::vector<std::string> Poll();
  bool Running(const std::string& name) const;
  // How a process that has ended did so.
  std::string Ending(const std::string& name) const;
  int ExitStatus(const std::string& name) const;  // -1: it has not ended
  // Asks for its shards to be moved, and for its end with kExitRestart (common/exit_codes.h).
  absl::Status Drain(const std::string& name) const;
  // How the job ended, by the exit status of a scheduler that ended by itself; none yet: nullopt.
  std::optional<int> JobEnd() const { return job_end_; }
  // Ends the job, then the processes.
  void Stop(int grace_s);

  std::string address() const;  // of the schedulers, by commas
  absl::StatusOr<GetStatusResponse> Status() const;
  static std::string ServerName(int number);
  static std::string WorkerName(int number);

 private:
  absl::Status StartScheduler(const std::string& name);
  absl::Status StartMember(const std::string& name);
  // `listen`: where; empty: a free port.
  // Of what it logged, after ": "; empty: nothing.
  std::string LastLine(const std::string& name) const;
  absl::Status Launch(const std::string& name, std::vector<std::string> argv, std::string listen);

  const Options options_;
  std::map<std::string, std::string> addresses_;  // of schedulers
  std::map<std::string, std::unique_ptr<StatusClient>> clients_;
  std::unique_ptr<StatusClient> status_;           // of whoever leads
  std::optional<int> job_end_;
  std::map<std::string, std::unique_ptr<ChildProcess>> processes_;
  std::map<std::string, std::string> endings_;
  std::map<std::string, int> exit_statuses_;
};

// Shards of which `primary` is the primary and, where it is not 0, `backup` is in sync.
absl::StatusOr<std::set<ShardId>> ShardsBetween(const RoutingTable& table, Incarnation primary, Incarnation backup);
// Shards of which none of these is primary or backup.
absl::StatusOr<std::set<ShardId>> ShardsWithout(const RoutingTable& table, const std::set<Incarnation>& servers);

}  // namespace tidegate::cli
