#pragma once
// The server's core: the shards of one strand. Takes checked messages and control inputs, applies
// pushes exactly once, keeps the staleness contract, and returns effects. Owns no thread, socket, file
// or clock; the same inputs in the same order give the same state and effects, bit for bit.
//
// Not thread-safe: one call at a time (a strand). A server with several strands has a group for each:
// - pulls and pushes go to the strands that have keys of them, with `selection`;
// - at staleness 0 every push goes to every strand, also without keys: it ends the worker's clock; one that asks
//   goes to the strand that has shard 0;
// - every clock announcement and every control input goes to every strand; after a Hello was answered
//   by all of them, JoinAt with the highest answer goes to all, before the answer leaves.
//
// Errors in effects (a refused message changed nothing in this strand):
//   UNAVAILABLE          retry: the sender's routing is newer than ours, no set of workers names it yet,
//                        tables are not open yet, the worker has not said Hello (staleness 0), its push
//                        is too far ahead of the others, too many pulls are parked; "takes over": this server
//                        leads the shard since a moment; "no grant" of a backup; a full window of the log;
//                        "moved"; "is handed over" to the successor that routing names; at staleness 0 a push that
//                        was split by a table of older primaries
//   ABORTED              "replaced" by a retry of the same call, or its worker parked
//   FAILED_PRECONDITION  "rejoin" (removed by the scheduler), "generation" (of another restore)
//   INVALID_ARGUMENT     the message contradicts earlier ones
//   RESOURCE_EXHAUSTED   --memory_limit_bytes

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/learning_rate.h"
#include "common/routing_table.h"
#include "common/types.h"
#include "common/wire/shard_wire.h"
#include "proto/cluster.pb.h"
#include "server/shard/clock_table.h"
#include "server/shard/memory_budget.h"
#include "server/shard/message_check.h"
#include "server/shard/parked_pulls.h"
#include "server/shard/replica_log.h"
#include "server/shard/sessions.h"
#include "server/shard/shard_cut.h"
#include "server/shard/shard_fill.h"
#include "server/shard/shard_map.h"
#include "server/shard/shard_messages.h"
#include "server/shard/sync_aggregator.h"
#include "server/table/gradient_accumulator.h"
#include "server/table/table_group.h"

namespace tidegate {

class ShardGroup {
 public:
  struct Options {
    bool synchronous = false;        // staleness 0; else pushes are applied as they arrive
    uint32_t drop_slowest = 0;       // staleness 0: a clock does not wait for so many of the live workers
    std::optional<Clock> staleness;  // > 0; nullopt: inf
    uint64_t generation = 0;         // of the job
    size_t max_parked_per_worker = 16;
    size_t max_workers = 4096;       // sessions and clocks
    LearningRateSchedule schedule;   // by the clock of a push, in every strand of every server alike
    MemoryBudget* budget = nullptr;  // shared by the strands; null: no limit
    Incarnation self = 0;            // own, by which routing says what is led here; 0: all shards are
    bool durable = false;            // pushes are acknowledged when all backups of their shards have them
    bool log_touched = false;        // each cut may be the base of an incremental one
    size_t clock_record_bytes = 16 << 20;  // staleness 0: a clock's sums beyond it are cut by shard
    size_t log_window_bytes = 64 << 20;  // not acknowledged, per follower; beyond it pushes are refused
    size_t log_window_records = 0;   // the same in records; 0: no limit. Not durable: what a promotion may lose
  };

  // `sink` outlives the group.
  ShardGroup(const Options& options, RowSink* sink);
  ~ShardGroup();

  // --- control ---
  // The server's newest routing and the shards of it of which this strand holds a replica, ascending. An older
  // epoch is ignored. Shards that come are empty; those that leave are freed. Pulls parked, and pushes not
  // acknowledged, for a shard that is not led here any more are answered UNAVAILABLE "moved".
  // FAILED_PRECONDITION: a shard to lead of which there is no copy here, after tables were opened.
  // `serves_from`: shards that come to be led here by this table serve and acknowledge nothing before that time.
  absl::Status SetRouting(const Routing& routing, std::span<const ShardId> shards, TimeMs serves_from,
                          ShardEffects* effects);
  // Once, after SetRouting; again with equal specs is OK, with others FAILED_PRECONDITION. Strands
  // share the catalog.
  absl::Status OpenTables(std::shared_ptr<const TableCatalog> catalog);
  // Removes workers that the set says are gone. An older version is ignored.
  void SetWorkers(const WorkerSet& workers, ShardEffects* effects);
  // Times the schedule's factor.
  void SetLearningRateScale(float scale) { learning_rate_scale_ = scale; }
  // Evicts by the tables' rules as of `clock`. Also done by the group itself whenever the released
  // clock crosses a multiple of a table's sweep_every_clocks.
  void Sweep(Clock clock, ShardEffects* effects);

  // Checkpoints: cuts where the released clock first reaches `clock` (staleness 0: right after applying it
  // and its sweeps), which may be now, or where no worker is live. One cut at a time. `base`: ShardCut.
  void ArmCut(uint64_t number, Clock clock, uint64_t base = 0);
  ShardCut& cut() { return cut_; }
  const ShardCut& cut() const { return cut_; }
  // After the rows of a checkpoint were loaded, before any message: pulls are released by `clock`.
  void Resume(Clock clock, float learning_rate_scale);

  // --- messages ---
  void Pull(PullCall call, ShardEffects* effects);
  void Push(PushCall call, ShardEffects* effects);
  void Announce(CallToken token, const wire::ClockRequest& request, ShardEffects* effects);
  // Counts a worker whose Hello (with this order) all strands have answered at `clock`, the highest of
  // their answers.
  void JoinAt(Incarnation worker, uint64_t order, Clock clock, ShardEffects* effects);
  // Forgets a call whose sender is gone (its stream broke). No effect is given for it.
  void Cancel(CallToken token);

  // --- replication: shards that are led here ---
  void SetNow(TimeMs now) { now_ = now > now_ ? now : now_; }  // before every call
  // Pulls of shards that this backup follows are served until then.
  void SetGrant(Incarnation backup, TimeMs until);
  // The follower has everything of this strand's log for it up to `index`.
  void Acknowledged(Incarnation follower, uint64_t index, ShardEffects* effects);
  // Sends about `bytes` more of the shards that are being filled. False: none is.
  bool FillStep(size_t bytes, ShardEffects* effects);
  // Sends digests of the next so many shards, round robin, to their followers. Each reads a whole shard.
  void AppendDigests(size_t shards, ShardEffects* effects);
  // Pushes that wait for followers, and the records that followers have not acknowledged.
  const ReplicaLog& log() const { return log_; }
  bool filling() const { return fills_open_ > 0; }
  // Shards with a successor take no more pushes (staleness 0: their strand no clock) and are not swept. When all their
  // followers have the whole log they serve no pulls either, and are in effects.drained: by this, by what brought the
  // last acknowledgement, and again by each table. Call it every few milliseconds while it is true.
  bool HandoverStep(ShardEffects* effects);

  // --- replication: shards that are led elsewhere ---
  // Applies a record of the log of one of `sender`'s strands, in order; `selection` as for a push: the keys that
  // are of this strand's shards. All other kinds of records go to every strand of the follower, and so does a push
  // record with ended_shards: each takes what is its own. REQUIRES: CheckRecord (message_check.h) was OK.
  // Nothing was applied in this strand where the status is not OK:
  //   FAILED_PRECONDITION  `sender`, whose table is older than ours, leads a shard of it no more
  //   UNAVAILABLE          its table is newer than ours, or tables are not open yet
  // A shard in effects.diverged has to be filled anew.
  absl::Status ApplyRecord(Incarnation sender, Epoch epoch, const wire::Record& record,
                           const KeySelection& selection, ShardEffects* effects);

  // --- state ---
  Epoch epoch() const { return epoch_; }
  // What pulls are released by: the minimum of the live workers, or the clock last applied.
  Clock released_clock() const;
  // By local index, ShardMap::kVacant between them.
  std::span<const ShardId> shards() const { return shard_map_.shards(); }
  const TableCatalog* catalog() const { return catalog_.get(); }
  size_t tables() const { return tables_.size(); }
  const TableGroup& table(TableId id) const { return *tables_[id]; }  // rows, bytes, serialisation
  TableGroup& mutable_table(TableId id) { return *tables_[id]; }      // loading
  uint64_t rows() const;   // of shards that are led here
  uint64_t rows(TableId table) const;
  uint64_t bytes() const;  // of all replicas
  // Of each shard that is led here.
  void AppendLoads(std::vector<ShardLoad>* loads) const;
  size_t parked_pulls() const { return parked_.size(); }
  size_t held_pushes() const { return aggregator_.held(); }
  size_t sessions() const { return sessions_.size(); }
  const ShardMetrics& metrics() const { return metrics_; }
  // Of the content of all tables, of shards that are led here. A sum over shards (mod 2^64): the digests of
  // strands and servers, added, are that of the whole, however the shards are placed.
  uint64_t Digest() const;
  // Of one replica that is here; the same at equal places of a log.
  uint64_t ShardDigest(ShardId shard) const;
  bool Leads(ShardId shard) const { return shard_map_.Leads(shard); }
  // Staleness 0: the clock last applied in the replica.
  Clock AppliedClock(ShardId shard) const;
  // drop_slowest, of the strand that leads shard 0: up to where it is decided whose pushes count, and whose (of the last 64
  // clocks, without workers that are gone).
  Clock DecidedClock() const;
  std::vector<Incarnation> ContributorsOf(Clock clock) const;
  // What the replica remembers of the workers' pushes.
  std::vector<SessionRecord> SessionsOf(ShardId shard) const;

 private:
  struct Replica {
    bool led = false;
    bool joining = false;               // of one that is not: is being filled
    bool begun = false;                 // ... its content is that of a place in the log
    bool handing_over = false;          // of one that is led: it has a successor
    bool drained = false;               // ... who may lead from now on
    std::vector<ReplicaLog::Place> drains;  // ... up to where followers have to come first
    TimeMs serves_from = 0;
    Clock applied = -1;                 // staleness 0
    Clock decided = -1;                 // ... with drop_slowest, of shard 0: the newest clock decided
    std::unique_ptr<ShardFill> fill;    // of one that is led: of its `joining` replica
  };
  enum class Standing { kFollowed, kIgnored, kDeposed };

  // Shards that come, leave, or change between led and not. `left`: by local index, led no more.
  void ChangeShards(const Routing& routing, std::span<const ShardId> shards, TimeMs serves_from,
                    std::vector<uint8_t>* left, std::vector<uint8_t>* gained);
  absl::Status CheckLed(const Routing& routing, std::span<const ShardId> shards) const;
  void ForgetShards(int log2_shards);
  void AddReplica(ShardId shard);
  void RemoveReplica(uint32_t local);
  void StopTouchLog(uint32_t local);  // it is led no more: its next checkpoint here is full
  void ChangeFollowers(const Routing& routing);
  // Whether a shard has no successor any more, and stays.
  bool ChangeHandovers(const Routing& routing, ShardEffects* effects);
  void RefuseMoved(ShardEffects* effects);
  bool LeadsSomewhere(const Routing& routing) const;
  void UpdateAppliedClock();
  Clock JoinClock() const;  // at which a Hello counts its sender
  absl::Status CheckServing(std::span<const uint8_t> touched) const;
  absl::Status CheckHandovers(std::span<const uint8_t> touched, bool writes) const;
  absl::Status CheckGrants(TimeMs* valid_until);

  // --- the log ---
  // Staleness > 0, and guests: a push that was just applied, in touched_ but where skip_ says.
  void LogPush(const PushCall& call, Clock clock, ShardEffects* effects);
  void LogSweep(TableId table, Clock clock, std::span<const uint8_t> swept, ShardEffects* effects);
  void LogClock(const SyncAggregator::Contributions& batch, std::span<const GradientBatch> sums,
                std::span<const uint8_t> skip, ShardEffects* effects);
  void LogClockOf(const SyncAggregator::Contributions& batch, std::span<const GradientBatch> sums,
                  std::span<const uint8_t> skip, ShardEffects* effects);
  // Before these keys are applied: what the fill of a shard needs then.
  void BeforeFilledWrite(TableId table, const GradientBatch& batch, ShardEffects* effects);
  void SendRows(uint32_t local, size_t bytes, ShardEffects* effects);
  void BeginFill(uint32_t local, ReplicaLog::Follower* follower, ShardEffects* effects);
  void EndFill(uint32_t local, ReplicaLog::Follower* follower, ShardEffects* effects);
  ReplicaLog::Follower* FollowerOf(Incarnation server);
  void LogWorkers(ReplicaLog::Follower* follower, ShardEffects* effects);
  // Keys of a batch that go to the follower; false: all of them.
  bool SelectFor(const ReplicaLog::Follower& follower, TableId table, const GradientBatch& batch,
                 std::span<const uint8_t> skip, std::vector<uint32_t>* positions) const;
  void AppendGradients(const ReplicaLog::Follower& follower, TableId table, const GradientBatch& batch,
                       std::span<const uint8_t> skip, struct RecordBytes* bytes, wire::PushRecord* record) const;

  // --- following ---
  Standing StandingOf(ShardId shard, Incarnation sender, Epoch epoch) const;
  // FAILED_PRECONDITION where the sender is deposed. `kept`: the positions that are followed.
  absl::Status SelectFollowed(Incarnation sender, Epoch epoch, const wire::PushRecord& record,
                              const KeySelection& selection, std::vector<std::vector<uint32_t>>* kept);
  bool FollowsAll(Incarnation sender, Epoch epoch, const wire::PushRecord& record, const KeySelection& selection);
  // Touches the shards that the record ends a clock in.
  absl::Status CheckEnded(Incarnation sender, Epoch epoch, const wire::PushRecord& record);
  absl::Status Follow(Incarnation sender, Epoch epoch, const wire::PushRecord& record,
                      const KeySelection& selection, ShardEffects* effects);
  absl::Status Follow(Incarnation sender, Epoch epoch, const wire::SweepRecord& record);
  absl::Status Follow(Incarnation sender, const wire::WorkersRecord& record, ShardEffects* effects);
  absl::Status Follow(Incarnation sender, Epoch epoch, const wire::DigestRecord& record, ShardEffects* effects);
  absl::Status Follow(Incarnation sender, Epoch epoch, const wire::FillRecord& record, ShardEffects* effects);

  float LearningRateAt(Clock clock) const { return learning_rate_scale_ * options_.schedule.Factor(clock); }
  absl::Status CheckStamp(const wire::Stamp& stamp) const;
  absl::Status CheckAhead(const wire::PushRequest& request) const;
  // `needed_bytes`: what its new rows may take at most.
  absl::Status CheckMemory(const PushCall& call, uint64_t* needed_bytes) const;
  // Answers now, or when the followers of the touched shards have all that they must.
  void FinishPush(PushDone done, std::span<const uint8_t> touched, ShardEffects* effects) {
    if (log_.any()) {
      log_.Finish(std::move(done), touched, effects);
    } else {
      effects->pushes.push_back(std::move(done));
    }
  }
  void RefusePush(CallToken token, absl::Status status, ShardEffects* effects);
  void DiscardHeld(Incarnation worker, ShardEffects* effects);  // of one that has parked

  // --- drop_slowest ---
  bool drops() const { return options_.synchronous && options_.drop_slowest > 0; }
  // Its worker has said that nothing of the clock is to come: what comes was on its way.
  bool IsDropped(const wire::PushRequest& request) const;
  void Ask(PushCall call, ShardEffects* effects);
  absl::Status CheckAsk(const wire::PushRequest& request) const;
  void AnswerAsk(CallToken token, Clock clock, ShardEffects* effects);
  void AnswerAsks(ShardEffects* effects);  // of clocks that are decided
  void RefuseAsks(std::optional<Incarnation> worker, const absl::Status& status, ShardEffects* effects);
  bool LeadsAny() const;
  absl::Status CheckClosed(const wire::ClockRequest& request) const;
  void TakeTick(const wire::ClockRequest& request, ShardEffects* effects);
  // The next clock's contributions, when they are all here that count.
  std::optional<SyncAggregator::Contributions> TakeNextClock(ShardEffects* effects);
  std::optional<SyncAggregator::Contributions> TakeNextClockOfSome();
  void Decide(Clock clock, ShardEffects* effects);
  absl::Status FollowDecision(Incarnation sender, Epoch epoch, const wire::PushRecord& record);
  // In the sessions of shard 0 a worker's pushes are counted by clock.
  void MarkContributors(Clock clock, const SyncAggregator::Workers& contributors, uint32_t local);
  void PushAtOnce(PushCall call, ShardEffects* effects);
  void PushForClock(PushCall call, ShardEffects* effects);
  // Fills touched_; keys of shards that are not ours leave the selection (the call then owns it).
  template <typename Call>
  std::vector<ShardId> SelectOwned(Call* call);
  uint64_t Apply(const wire::PushRequest& request, const KeySelection& selection, const UpdateArguments& arguments,
                 std::span<const uint8_t> skip_shard, ShardEffects* effects);
  void ApplyClock(const SyncAggregator::Contributions& batch, ShardEffects* effects);
  void Release(PullCall call, ShardEffects* effects);
  // Applies the clocks that are complete (staleness 0) and releases pulls.
  void AfterClocks(Clock before, ShardEffects* effects);
  void ReleaseParked(ShardEffects* effects);
  // `skip`: by local index, shards that are not to be swept; empty: none.
  void SweepCrossed(Clock before, Clock after, std::span<const uint8_t> skip, ShardEffects* effects);
  void SweepTable(TableId id, Clock clock, std::span<const uint8_t> skip, ShardEffects* effects);
  void CutIfDue();
  void BeforeWrite(TableId id, const GradientBatch& batch);
  void ReportBytes();

  const Options options_;
  RowSink* const sink_;
  TimeMs now_ = 0;
  Epoch epoch_ = 0;
  Epoch primary_epoch_ = 0;
  bool leads_somewhere_ = false;      // this server, in any strand
  std::vector<Incarnation> leaders_;  // of the job's shards
  TimeMs serves_from_ = 0;            // the latest of the replicas'
  ShardMap shard_map_;
  std::vector<Replica> replicas_;     // by local index
  ReplicaLog log_;
  size_t fills_open_ = 0;             // that have not ended
  size_t handovers_ = 0;              // replicas that have a successor
  size_t next_digest_ = 0;
  std::shared_ptr<const TableCatalog> catalog_;
  std::vector<std::unique_ptr<TableGroup>> tables_;
  std::vector<std::unique_ptr<GradientAccumulator>> accumulators_;  // staleness 0
  float learning_rate_scale_ = 1;
  Clock applied_clock_ = -1;  // staleness 0: the lowest of the led replicas
  ClockTable clocks_;
  WorkerSet workers_;         // the newest
  Clock highest_clock_ = -1;  // of applied pushes
  Sessions sessions_;
  ShardCut cut_;
  TouchedSince touched_since_;
  ParkedPulls parked_;
  SyncAggregator aggregator_;
  std::map<std::pair<Clock, Incarnation>, CallToken> asks_;      // drop_slowest, where shard 0 is led: not answered
  std::map<Clock, SyncAggregator::Workers> told_;                // ... by ticks: of clocks that are not applied here
  std::vector<uint8_t> touched_;  // by local shard, of the call in work
  std::vector<uint8_t> skip_;
  std::vector<uint8_t> led_;      // by local shard: all that are led
  std::vector<uint64_t> shard_rows_;  // by local shard: pulled and pushed, about (ShardMap::CountRows)
  size_t next_counted_ = 0;
  uint64_t reported_bytes_ = 0;
  ShardMetrics metrics_;
};

}  // namespace tidegate
