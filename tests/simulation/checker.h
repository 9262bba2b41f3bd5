#pragma once
// What checkers see of a run, and how they say that something is wrong. Events are reported by the
// simulated processes, never from inside the cores.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/routing_table.h"
#include "proto/scheduler_messages.pb.h"
#include "proto/scheduler_state.pb.h"
#include "scheduler/cluster_state.h"
#include "server/shard/shard_group.h"
#include "tests/simulation/plan.h"
#include "tests/simulation/workload.h"

namespace tidegate::simulation {

// A message that a server works on; kept as long as any strand does.
struct ServerCall {
  CallToken token = 0;
  wire::Request request;
  std::string bytes;  // what `request` views
  // [strand][table]; empty with one strand
  std::vector<std::vector<std::vector<uint32_t>>> positions;
};

// One call into one ShardGroup, after it returned.
struct GroupCall {
  enum Kind {
    kPull, kPush, kAnnounce, kJoinAt, kWorkers, kRouting, kOpenTables, kLearningRate, kCancel, kCut,
    kRecord, kAcknowledged, kFill, kDigests,
  };
  TimeMs now = 0;
  int server = 0;
  Incarnation incarnation = 0;       // of the server
  const Routing* routing = nullptr;  // of the strand
  int strand = 0;
  Kind kind = kPull;
  const ShardGroup* group = nullptr;
  const ServerCall* call = nullptr;  // kPull, kPush, kAnnounce, kCancel
  Incarnation joiner = 0;            // kJoinAt
  uint64_t order = 0;                // kCut: the checkpoint's number
  Clock clock = 0;
  const WorkerSet* workers = nullptr;
  float learning_rate_scale = 1;
  Clock released_before = -1;
  const ShardEffects* effects = nullptr;
  const wire::ReplicaRequest* record = nullptr;  // kRecord: applied

  std::pair<int, int> where() const { return {server, strand}; }
};

struct PushIssued {
  Incarnation worker = 0;
  uint64_t number = 0;  // counts this worker's pushes
  Clock clock = 0;
  double weight = 0;
  uint32_t epoch = 0;
  RowRange rows;
  Gradients gradients;
};

struct PulledRows {
  Incarnation worker = 0;
  Clock clock = 0;
  Clock bound = 0;
  bool eval = false;
  std::map<TableId, std::vector<Key>> keys;
  std::map<TableId, std::vector<float>> rows;
  uint64_t issue = 0;  // counts pulls
};

struct SimDisk;

class Report {
 public:
  void Fail(const std::string& checker, TimeMs now, const std::string& text) {
    if (!failed()) {
      checker_ = checker;
      text_ = text;
      at_ = now;
    }
  }
  bool failed() const { return !checker_.empty(); }
  const std::string& checker() const { return checker_; }
  const std::string& text() const { return text_; }
  TimeMs at() const { return at_; }

 private:
  std::string checker_, text_;
  TimeMs at_ = 0;
};

class Checker {
 public:
  Checker(const char* name, const Plan* plan, Report* report) : plan_(plan), name_(name), report_(report) {}
  virtual ~Checker() = default;

  // --- servers ---
  virtual void OnGroupCall(const GroupCall& call) {}
  // A server that has lost its memory, or begins anew without it.
  virtual void OnServerGone(TimeMs now, Incarnation server) {}
  // --- workers ---
  virtual void OnPushIssued(TimeMs now, const PushIssued& push) {}
  // A message of the newest push of this clock leaves, for the first time or again.
  virtual void OnPushSent(TimeMs now, Incarnation worker, Sequence sequence, Clock clock) {}
  virtual void OnPushAcknowledged(TimeMs now, Incarnation worker, uint64_t number) {}
  // With drop_slowest: it is applied nowhere, and over.
  virtual void OnPushDropped(TimeMs now, Incarnation worker, uint64_t number) {}
  virtual void OnPullIssued(TimeMs now, const PulledRows& pull) {}
  virtual void OnPullDone(TimeMs now, const PulledRows& pull) {}
  // A worker that will never push again: crashed, removed or ended.
  virtual void OnWorkerGone(TimeMs now, Incarnation worker, bool failed) {}
  virtual void OnWorkDone(TimeMs now, Incarnation worker, const Work& work, const WorkDone& done) {}
  // --- scheduler ---
  virtual void OnSchedulerStart(TimeMs now, uint64_t term) {}
  virtual void OnSchedulerTick(TimeMs now) {}
  virtual void OnHeard(TimeMs now, Incarnation member) {}
  virtual void OnHeartbeat(TimeMs now, const HeartbeatRequest& request) {}
  virtual void OnJoin(TimeMs now, const JoinRequest& request) {}
  virtual void OnPersist(TimeMs now, const SchedulerState& state) {}
  virtual void OnReply(TimeMs now, const SchedulerReply& reply, Incarnation to) {}
  // A manifest is written: the checkpoint is complete.
  virtual void OnManifest(TimeMs now, const ManifestOrder& order) {}
  // --- the run ---
  virtual void OnEnd(TimeMs now) {}

 protected:
  void Fail(TimeMs now, const std::string& text) { report_->Fail(name_, now, text); }
  const Plan* const plan_;

 private:
  const char* const name_;
  Report* const report_;
};

class Checkers {
 public:
  void Add(std::unique_ptr<Checker> checker) { all_.push_back(std::move(checker)); }
  template <typename Method, typename... Args>
  void Tell(Method method, const Args&... args) {
    for (auto& checker : all_) (checker.get()->*method)(args...);
  }

 private:
  std::vector<std::unique_ptr<Checker>> all_;
};

// All of them, by the plan.
void AddCheckers(const Plan* plan, Report* report, SimDisk* disk, Checkers* checkers);

}  // namespace tidegate::simulation
