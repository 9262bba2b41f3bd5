#pragma once
// Between gRPC and the cores: parses and checks messages once, hands each to the strands that have keys of
// it, merges their answers, and runs control inputs on all strands. Thread-safe.
//
// Each strand has one ShardGroup; a shard stays on its strand. Messages run on the thread that brought
// them when the strand is idle (common/executor/strand.h). Before Configure, messages are answered
// UNAVAILABLE.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "common/clock.h"
#include "common/executor/strand.h"
#include "common/routing_table.h"
#include "server/replication/inbox.h"
#include "server/rpc/shard_call.h"
#include "server/shard/shard_group.h"

namespace tidegate {

// Refused before the strands saw them.
struct RefusedMessages {
  uint64_t malformed = 0;
  uint64_t too_large = 0;
  uint64_t unknown_table = 0;
  uint64_t shape = 0;
  uint64_t non_finite = 0;
  uint64_t header = 0;
  uint64_t pushes = 0;  // of all these, those that were pushes
};

class ShardEngine final : private RowSink {
 public:
  static constexpr int kMaxStrands = 64;

  struct Options {
    int strands = 1;
    uint64_t memory_limit_bytes = 0;              // 0: none
    std::function<void(Epoch)> newer_epoch_seen;  // a sender's routing is newer; called from any thread
    const ClockSource* clock = nullptr;           // outlives this; null: the machine's
  };
  // What the strands have for replication; called on a strand, must not block. Set before Configure, or not at all.
  struct ReplicationHooks {
    std::function<void(uint32_t lane, OutRecord record)> record;
    std::function<void(const ReplicaInSync& replica, Epoch epoch)> in_sync;
    std::function<void(ShardId shard)> diverged;
    std::function<void(ShardId shard, Epoch epoch)> drained;
  };
  struct JobOptions {
    Incarnation incarnation = 0;  // own
    uint64_t generation = 0;
    bool synchronous = false;
    uint32_t drop_slowest = 0;       // ShardGroup's
    LearningRateSchedule schedule;
    std::optional<Clock> staleness;  // > 0; nullopt: inf
    uint64_t message_limit_bytes = 64 << 20;
    bool log_touched = false;        // incremental checkpoints are made
    bool durable = false;            // pushes are acknowledged when all backups have them
    size_t log_window_records = 0;   // ShardGroup's
  };
  struct TableStatistics {
    std::string name;
    uint64_t rows = 0;
    uint64_t bytes = 0;
  };
  struct Statistics {
    ShardMetrics shards;  // summed over the strands
    RefusedMessages refused;
    std::vector<TableStatistics> tables;
    uint64_t parked_pulls = 0;
    uint64_t held_pushes = 0;
    uint64_t sessions = 0;
    uint64_t shard_count = 0;
    Epoch epoch = 0;
    Clock released_clock = -1;  // the lowest over the strands
    uint64_t memory_used_bytes = 0;
    uint64_t led_shards = 0;         // of shard_count: those that this server is primary of
    std::vector<ShardLoad> shard_loads;  // of these, where they were asked for
  };
  // A record of a primary's log on its way through the strands.
  struct IncomingRecord {
    wire::ReplicaRequest request;
    std::shared_ptr<const void> owner;  // of what it views
    RecordSplit split;
    bool checked = false;               // CheckIncoming was OK
    // From each strand, once.
    std::function<void(int strand, const absl::Status& status, std::span<const ShardId> diverged)> done;
  };

  explicit ShardEngine(const Options& options);
  ~ShardEngine() override;

  // --- control; these return when every strand has done it ---
  void Configure(const JobOptions& job);  // once
  // `serves_from`: shards that come to be led here serve and acknowledge nothing before.
  absl::Status SetRouting(const Routing& routing, TimeMs serves_from = 0);
  // `fill` runs when all strands have the tables, before any message sees them; may be null.
  absl::Status OpenTables(std::span<const TableSpec> specs,
                          const std::function<absl::Status()>& fill = nullptr);
  void SetWorkers(const WorkerSet& workers);
  void SetLearningRateScale(float scale);
  void Sweep(Clock clock);
  // Checkpoints: every strand's next cut (server/shard/shard_cut.h); forgets the cut of this number.
  void ArmCut(uint64_t number, Clock clock, uint64_t base);
  void DropCut(uint64_t number);
  // After a restore's rows: pulls are released by `clock`.
  void Resume(Clock clock, float learning_rate_scale);
  // Runs `visit` with the group that has the shard, on its strand. NOT_FOUND: not a shard of this server.
  absl::Status VisitShard(ShardId shard, const std::function<void(ShardGroup&)>& visit);
  std::vector<ShardId> shards() const;      // all replicas, ascending
  std::vector<ShardId> led_shards() const;  // of these, those that this server is primary of
  std::shared_ptr<const Routing> routing() const;  // null: none yet
  uint32_t total_shards() const;  // of the job; 0 before routing
  Statistics Collect();
  // As Collect, without waiting for strands that are busy; `done` comes from one of them, or at once.
  void CollectThen(bool with_shards, std::function<void(Statistics)> done);

  // --- replication; these return at once, but for what is done on the calling thread ---
  void SetHooks(ReplicationHooks hooks) { hooks_ = std::move(hooks); }
  uint64_t all_lanes() const;  // a bit each
  // Those that lead one of the shards.
  uint64_t LanesLeading(const std::function<bool(ShardId)>& shards) const;
  // `here`: on this thread, where the strand is idle.
  void Acknowledged(Incarnation follower, uint32_t lane, uint64_t index, bool here);
  void SetGrant(Incarnation backup, TimeMs until);
  // Sends about `bytes` more of what these strands fill; `more(lane, whether something is being filled)`.
  void FillStep(uint64_t lanes, size_t bytes, std::function<void(uint32_t, bool)> more);
  // Looks whether shards with a successor are drained.
  void HandoverStep();
  // Each strand sends the digest of its next led shard to its followers.
  void AppendDigests();
  // Whether a record of a log can be one of this job's tables. UNAVAILABLE: they are not open yet.
  absl::Status CheckIncoming(const wire::Record& record) const;
  // Which strands the record concerns, and how it is split over them.
  RecordSplit Split(const wire::Record& record) const;
  // The strands' threads end; mail is left to whoever runs a strand.
  void StopMail();
  // Gives it to these strands, in the order of the calls; then Proceed with them, no lock held: one works on this
  // thread.
  void Apply(const std::shared_ptr<IncomingRecord>& record, uint64_t lanes);
  void Proceed(uint64_t lanes);

  // --- messages ---
  // Answers through call->source, now or later.
  void Handle(std::shared_ptr<ShardCall> call, MessageKind kind);
  // Its sender is gone: no answer is wanted (one may come all the same, if it was on its way).
  void Cancel(const std::shared_ptr<ShardCall>& call);

 private:
  struct Lane;   // a strand with its group
  struct View;   // what dispatch needs, immutable

  std::span<std::byte> RowsOf(CallToken token, size_t table_index) override;

  std::shared_ptr<const View> view() const;
  void Publish(std::shared_ptr<const View> view);
  static void AddStatistics(const Lane& lane, bool with_shards, Statistics* total);
  void OnEveryLane(const std::function<void(Lane&)>& work);
  void OnLanes(uint64_t lanes, const std::function<void(Lane&)>& work);
  absl::Status Parse(ShardCall* call, MessageKind kind);
  absl::Status Check(ShardCall* call, const View& view);
  void Refuse(const std::shared_ptr<ShardCall>& call, const absl::Status& status);
  void Split(ShardCall* call, const View& view) const;
  uint64_t LanesOf(const ShardCall& call) const;
  void Dispatch(const std::shared_ptr<ShardCall>& call, uint64_t lanes);
  void RunOn(Lane& lane, const std::shared_ptr<ShardCall>& call);
  KeySelection SelectionOf(const ShardCall& call, const Lane& lane) const;
  void Deliver(Lane& lane);
  TimeMs NowMs() const;
  // Before each call of a strand's group: the time, and what came for it meanwhile.
  void Prepare(Lane& lane);
  // For the strand, whose thread sees to it if nothing else does first.
  void Mail(Lane& lane, absl::AnyInvocable<void(Lane&)> task);
  // The same without that. True: nobody else has it taken yet.
  bool Post(Lane& lane, absl::AnyInvocable<void(Lane&)> task);
  void HaveMailTaken(Lane& lane);
  void TakeMailHere(Lane& lane);
  void TakeMail(Lane& lane);  // on the strand
  void ApplyOn(Lane& lane, const IncomingRecord& record);
  static void RunMail(ShardEngine* engine, Lane* lane);
  void FinishShare(const Lane& lane, ShardCall* call);
  void StartJoining(const std::shared_ptr<ShardCall>& call);
  void Answer(const ShardCall& call);

  const Options options_;
  MemoryBudget budget_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  ReplicationHooks hooks_;
  JobOptions job_;  // set by Configure, before the first view is published

  mutable std::mutex mutex_;
  std::shared_ptr<const View> view_;
  RefusedMessages refused_;
};

}  // namespace tidegate
