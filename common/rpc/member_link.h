#pragma once
// A member's side of the scheduler protocol (proto/scheduler_service.proto), shared by servers and
// workers: Join, heartbeats, commands, and the plain calls, each with its retries. The data plane does
// not depend on it: with the scheduler gone, members go on and heartbeats are retried, for
// scheduler_timeout_s.
//
//   MemberLink link(options, callbacks);
//   status = link.Join();          // blocks
//   ... prepare for membership() ...
//   link.Start();                  // heartbeats from here on; callbacks may come
//   ... link.Leave("done"); link.Stop();
//
// Thread-safe from Start on, except Join and Stop, which only the owner calls. Callbacks come from two
// threads of the link: `run_command` from one (so that a long command does not stop heartbeats), all
// others from the heartbeat thread, one at a time; no lock is held; they may call any method but Join
// and Stop. Replies of an older scheduler term than the newest seen are dropped.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/types.h"
#include "proto/scheduler_messages.pb.h"

namespace tidegate {

class MemberLink {
 public:
  struct Options {
    std::string scheduler;            // host:port; or several by commas, of which one leads
    Role role = ROLE_UNSET;
    std::string address;              // servers: where workers reach ShardService
    std::string name;                 // for people; empty: host and pid
    uint64_t config_fingerprint = 0;  // of the config the caller was given; 0: none
    std::string zone;                 // servers: failure domain; empty: none
    int join_timeout_s = 60;          // of Join, all its attempts together
    int scheduler_timeout_s = 600;    // without an answer to heartbeats; 0: for ever
  };

  struct Callbacks {
    // Each only when newer than what came before.
    std::function<void(const RoutingTable&)> routing;
    std::function<void(const WorkerSet&)> workers;
    // On every change. FAILED: `message` says why.
    std::function<void(Phase, const std::string& message)> phase;
    // The scheduler does not know this incarnation (any more). Heartbeats have ended; Join (with a new
    // incarnation) and Start begin anew after Stop.
    std::function<void()> rejoin;
    // The scheduler did not answer for scheduler_timeout_s. Heartbeats have ended; blocked calls and
    // later ones return ABORTED with this reason.
    std::function<void(const std::string& why)> lost;
    // Does a command, once; its files go into the result.
    std::function<absl::StatusOr<std::vector<CheckpointFile>>(const Command&)> run_command;
    // Adds load and progress to a heartbeat about to be sent.
    std::function<void(HeartbeatRequest*)> fill_heartbeat;
  };

  struct Membership {
    Incarnation incarnation = 0;
    uint64_t generation = 0;
    std::string job_config;  // serialized JobConfig, resolved
    uint32_t heartbeat_interval_ms = 0;
    uint32_t lease_ms = 0;
    std::vector<uint64_t> train_file_bytes;  // as planned; empty: data.train has no files
    // Servers that join a running job: its tables, to open empty; none: a command opens them.
    std::vector<TableSpec> tables;
    float learning_rate_scale = 1;
    uint32_t grant_ms = 0;                   // servers: how long a grant to serve pulls lasts
  };

  MemberLink(Options options, Callbacks callbacks);
  ~MemberLink();  // as Stop

  // Tries until the scheduler answers. DEADLINE_EXCEEDED after join_timeout_s (says what it waited
  // for), CANCELLED after Cancel; a refusal (another config, no place for the role) is returned at once.
  absl::Status Join();
  const Membership& membership() const;  // valid after Join

  void Start();
  // Ends threads and makes every blocked call return CANCELLED. Safe to call twice. Join may follow.
  void Stop();
  // For good, and from any thread (a signal watcher), also during Join: blocked calls and later ones
  // but Leave and ReportFatalError return CANCELLED.
  void Cancel();

  // Sends a heartbeat now instead of at the end of the current long poll.
  void HeartbeatNow();
  // The job cannot go on with this member: sent with the next heartbeat, at once. Waits until the
  // scheduler has it, at most timeout_ms.
  void ReportFatalError(const std::string& message, int timeout_ms = 2000);

  // These retry until the scheduler answers, and return its refusals, or CANCELLED after Stop. The
  // incarnation is filled in. AcquireWork is a long poll.
  absl::StatusOr<AcquireWorkResponse> AcquireWork(AcquireWorkRequest request);
  absl::Status DeclareTables(const std::vector<TableSpec>& tables);
  // One attempt: UNAVAILABLE when the scheduler does not answer soon.
  absl::StatusOr<GetRoutingResponse> GetRouting(Epoch newer_than);
  // One attempt, at most a second: the scheduler notices a silent member by itself. Ends heartbeats.
  absl::Status Leave(const std::string& reason);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidegate
