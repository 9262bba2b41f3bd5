#pragma once
// A small cluster around the scheduler's core, in virtual time: servers that do commands, workers that do
// work, a network that may drop, delay and duplicate messages, a store that keeps what was persisted.
// Everything follows from a seed.

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/random.h"
#include "scheduler/cluster_state.h"

namespace tidegate {

struct HarnessOptions {
  uint32_t servers = 2;
  uint32_t workers = 2;
  uint32_t replicas = 1;
  TimeMs fill_ms = 30;          // of one copy
  TimeMs drain_ms = 0;          // of a shard with a successor, from a new table on
  bool synchronous = false;
  uint32_t epochs = 2;
  uint32_t splits = 10;
  uint32_t valid_splits = 3;
  uint64_t steps = 100;         // synchronous: of an epoch
  uint64_t steps_later = 0;     // of every epoch but the first; 0: the same
  uint64_t samples_per_step = 60;
  bool checkpoints = true;
  bool checkpoints_gone = false;  // where one is to be gone on from
  SchedulerState resumed;       // what the first scheduler starts from
  double drop = 0, duplicate = 0;
  TimeMs delay_ms_max = 2;
  uint64_t seed = 1;
  std::function<double(uint32_t shard)> shard_rate;  // rows per second; empty: servers report no load
  std::function<void(SchedulerOptions*)> adjust;
};

class ClusterHarness {
 public:
  struct FakeMember {
    Role role = WORKER;
    int index = 0;
    uint64_t nonce = 0;
    Incarnation incarnation = 0;
    bool dead = false, left = false, hung = false;
    bool silent = false;     // what it sends does not arrive
    bool deaf = false;       // what it is answered does not
    bool disk_full = false;  // servers: checkpoints fail
    bool ended = false;
    Phase phase = STARTING;
    uint64_t term = 0;
    uint64_t routing_epoch = 0, worker_set_version = 0, last_command = 0, probe = 0;
    std::map<uint64_t, CommandResult> results;
    std::vector<Command> commands_done;
    WorkerSet workers;
    float lr_scale = 1;
    // Workers.
    bool live = false;
    Clock clock = 0;
    uint64_t order = 0;
    // Servers.
    struct Fill {
      Incarnation server;
      Epoch epoch;  // that named it
      TimeMs ready_at;
    };
    RoutingTable routing;
    std::map<uint32_t, Fill> fills;
    TimeMs routed_at = 0;
    std::set<Incarnation> unreachable;  // it says so
    std::vector<uint32_t> refill;       // as well
    uint64_t samples = 0;
    std::vector<WorkDone> unreported;
    std::optional<Work> work;
    WorkDone progress;
    uint64_t life = 0;  // rises with every join: callbacks of an earlier one are stale
    bool finished = false, failed = false;
    std::string message;
  };

  explicit ClusterHarness(HarnessOptions options);

  int AddServer() { return Add(SERVER); }
  int AddWorker() { return Add(WORKER); }
  void Kill(int member) { members_[member]->dead = true; }
  void Restart(int member);  // another process, empty, at the same address
  void Hang(int member) { members_[member]->hung = true; }  // heartbeats go on, work does not
  // Crash: what was not persisted is lost. Start: from the store.
  void CrashScheduler() { core_.reset(); }
  void StartScheduler();
  // It sleeps: what arrives meanwhile is taken when it wakes.
  void PauseScheduler(TimeMs ms) { paused_until_ = now_ + ms; }

  // Until every living member has heard of the end; false when that does not come in time.
  bool RunToEnd(TimeMs limit_ms = 600'000);
  void RunFor(TimeMs ms);
  bool RunUntil(const std::function<bool()>& done, TimeMs limit_ms = 600'000);
  void At(TimeMs at, std::function<void()> event) { events_[at].push_back(std::move(event)); }

  ClusterState& core() { return *core_; }
  bool up() const { return core_ != nullptr; }
  const SchedulerState& stored() const { return stored_; }
  FakeMember& member(int index) { return *members_[index]; }
  size_t member_count() const { return members_.size(); }
  TimeMs now() const { return now_; }
  uint64_t calls() const { return calls_; }
  const std::vector<ManifestOrder>& manifests() const { return manifests_; }
  const std::vector<MetricsRecord>& metrics() const { return metrics_; }
  const std::vector<std::string>& removed() const { return removed_; }
  // Why manifests cannot be written; OK: they are.
  void SetManifestStatus(absl::Status status) { manifest_status_ = std::move(status); }
  // As `tidegate checkpoint` does; the number promised.
  uint64_t AskForCheckpoint();
  Random& random() { return random_; }
  bool HasEvent(const std::string& text) const;
  uint64_t ExpectedSamples() const;
  // Called before every call into the core.
  std::function<void(uint64_t call)> before_call;

 private:
  using Reply = std::function<void(const absl::Status&, const SchedulerResponse&)>;

  int Add(Role role);
  template <typename Request>
  void Send(const Request& request, Reply reply);
  template <typename Request>
  void Call(int member, uint64_t life, const Request& request, TimeMs timeout_ms, Reply reply);
  void Apply(SchedulerEffects effects);
  void Restore();
  void Join(int member);
  void Heartbeat(int member, uint64_t life);
  void TakeRouting(FakeMember& m, const RoutingTable& table);
  void TakeHeartbeat(FakeMember& m, const HeartbeatResponse& response);
  void DoCommand(FakeMember& m, const Command& command);
  void Acquire(int member, uint64_t life);
  void TakeWork(int member, uint64_t life, const AcquireWorkResponse& response);
  void RunSplit(int member, uint64_t life);
  void RunStep(int member, uint64_t life);
  void Done(int member, uint64_t life, WorkDone done);
  void Rejoin(int member);
  bool Alive(int member, uint64_t life) const;
  void After(TimeMs ms, std::function<void()> event) { At(now_ + ms, std::move(event)); }
  TimeMs Delay() { return 1 + static_cast<TimeMs>(random_.Below(static_cast<uint64_t>(options_.delay_ms_max))); }

  HarnessOptions options_;
  SchedulerOptions scheduler_;
  std::unique_ptr<ClusterState> core_;
  SchedulerState stored_;
  Random random_;
  TimeMs now_ = 0;
  TimeMs next_tick_ = 0;
  TimeMs paused_until_ = 0;
  std::map<TimeMs, std::deque<std::function<void()>>> events_;
  std::vector<std::unique_ptr<FakeMember>> members_;
  std::map<CallToken, Reply> pending_;
  CallToken last_token_ = 0;
  uint64_t calls_ = 0;
  Clock applied_ = -1;
  std::vector<ManifestOrder> manifests_;
  std::vector<MetricsRecord> metrics_;
  std::vector<std::string> removed_;
  absl::Status manifest_status_;
  std::unique_ptr<ClusterState> replaced_;
};

}  // namespace tidegate
