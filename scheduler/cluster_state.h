#pragma once
// The scheduler's core: membership, placement, work and the flow of a job. A single-threaded class
// without thread, socket, file or clock: it takes requests and ticks with the time, and returns
// effects. The caller carries them out in this order: store Durable() when `persist` is set; write the
// manifest order if there is one (and report by ManifestWritten); send the replies; log the events.
// If storing fails the process must stop without sending anything.
//
// Every request may be duplicated, delayed and reordered. Heartbeat and AcquireWork are long polls: the
// core keeps their token and answers it in the effects of a later call, at the latest after the heartbeat interval; of
// workers, where there are more than a thousand, after up to a quarter of a lease. One poll of each kind is kept per
// member; a newer one has the older answered at once. Tokens are the caller's, unique and never 0.
//
// Restart: make a new one from the stored state. It counts a new term and renews every lease. Leases of
// training work survive (a worker that asks again gets the same work); an evaluation starts again.
//
// Work at staleness 0: a WorkDone that is not in_progress with 0 < next_step < end_step and no
// end_of_data gives the rest back; with next_step 0 it stands for all of the range. A worker that asks
// with live = false while it holds a SyncRange gives it back.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/learning_rate.h"
#include "common/types.h"
#include "proto/checkpoint.pb.h"
#include "proto/job.pb.h"
#include "proto/scheduler_messages.pb.h"
#include "proto/scheduler_state.pb.h"
#include "scheduler/evaluation.h"
#include "scheduler/failure_detector.h"
#include "scheduler/membership.h"
#include "scheduler/metrics_record.h"
#include "scheduler/policy/rebalance.h"
#include "scheduler/policy/replication.h"
#include "scheduler/progressive_windows.h"
#include "scheduler/shard_rates.h"
#include "scheduler/work_queue.h"
#include "scheduler/sync_plan.h"

namespace tidegate {

using CallToken = uint64_t;

struct SchedulerOptions {
  JobConfig job;                    // resolved; handed to members as it is
  uint64_t config_fingerprint = 0;  // of the config as its users know it
  bool synchronous = true;          // staleness 0
  bool bounded = true;              // staleness is finite
  std::vector<Split> train_splits;  // (scheduler/data_plan.h)
  std::vector<Split> valid_splits;  // empty: no evaluation
  std::string checkpoint_directory;  // empty: no checkpoints
  uint64_t generation = 1;           // of a new job; differs between jobs, so that a member of another one is known
  std::string version;               // of Tidegate; a member of another one is refused; empty: any
  TimeMs heartbeat_interval_ms = 250;
  TimeMs lease_ms = 3000;
  TimeMs return_ms = 0;             // after an outage of the scheduler: how long a member may take to try again
  // Primaries are levelled once no server came or went for so long: with each new table of primaries all workers announce themselves.
  TimeMs level_after_ms = 10'000;
  // With replicas: a server that has more than so many times the mean of rows per second gives some of its shards away; 0: never.
  double rebalance_load = 0;
  int64_t started_unix_ms = 0;       // the wall clock at Start, for people
  // Steps between two meetings with the scheduler at staleness 0: the first group's; later ones adapt to
  // last a second or more, up to the maximum.
  uint64_t sync_group_steps = 64;
  uint64_t sync_group_steps_max = 4096;
  TimeMs progressive_window_ms = 5000;  // of training
  // After a loss: how long a job with on_data_loss STOP stands still for `tidegate restore` before it fails.
  TimeMs restore_wait_ms = 0;
  bool restored = false;  // this core goes on where another one lost shards
  // Of routing in the answers that one call makes (at least one has it); the others hear of it from the next calls,
  // servers first.
  size_t table_bytes_per_call = 32 << 20;
};

using SchedulerResponse =
    std::variant<std::monostate, JoinResponse, DeclareTablesResponse, HeartbeatResponse,
                 AcquireWorkResponse, LeaveResponse, GetRoutingResponse, GetStatusResponse,
                 StopJobResponse, SaveCheckpointResponse, DrainResponse, RestoreJobResponse>;

struct SchedulerReply {
  CallToken token;
  absl::Status status;         // OK: `response` holds the call's type
  SchedulerResponse response;
};

// Write `manifest` as the last file of folder `directory`, then call ManifestWritten.
struct ManifestOrder {
  std::string directory;
  CheckpointManifest manifest;
};

struct SchedulerEffects {
  bool persist = false;
  std::vector<SchedulerReply> replies;
  std::optional<ManifestOrder> manifest;
  std::vector<std::string> remove_checkpoints;  // folders of superseded or failed ones; after persist
  std::vector<std::string> events;  // new lines for people
  std::vector<MetricsRecord> metrics;  // new lines of the metrics log; after persist
};

class ClusterState {
 public:
  // `stored` is the state of an earlier term, or a default one for a new job. FAILED_PRECONDITION when
  // it belongs to another config or a newer format; the message says what to do.
  static absl::StatusOr<std::unique_ptr<ClusterState>> Create(SchedulerOptions options,
                                                              SchedulerState stored);

  // First call: counts the term. Its effects always ask to persist.
  SchedulerEffects Start(TimeMs now);

  SchedulerEffects Handle(TimeMs now, CallToken token, const JoinRequest& request);
  SchedulerEffects Handle(TimeMs now, CallToken token, const DeclareTablesRequest& request);
  SchedulerEffects Handle(TimeMs now, CallToken token, const HeartbeatRequest& request);
  SchedulerEffects Handle(TimeMs now, CallToken token, const AcquireWorkRequest& request);
  SchedulerEffects Handle(TimeMs now, CallToken token, const LeaveRequest& request);
  SchedulerEffects Handle(TimeMs now, CallToken token, const GetRoutingRequest& request);
  SchedulerEffects Handle(TimeMs now, CallToken token, const GetStatusRequest& request);
  SchedulerEffects Handle(TimeMs now, CallToken token, const StopJobRequest& request);
  SchedulerEffects Handle(TimeMs now, CallToken token, const SaveCheckpointRequest& request);
  SchedulerEffects Handle(TimeMs now, CallToken token, const DrainRequest& request);
  SchedulerEffects Handle(TimeMs now, CallToken token, const RestoreJobRequest& request);

  // Failure detection and the ends of long polls; every 25 to 100 ms. REQUIRES: now never goes back.
  SchedulerEffects Tick(TimeMs now);
  SchedulerEffects ManifestWritten(TimeMs now, const absl::Status& status);

  // Shards are lost, and the job is to go on from a checkpoint (loss_flow.cc). The caller replaces this core by one of
  // RestoredState (checkpoint_resume.h), or calls RestoreFailed; it carries out the effects that came with
  // it all the same, as the answer to RestoreJob.
  bool WantsRestore() const { return restore_wanted_ && !Ended(); }
  // How often it went on from a checkpoint without a new complete one since.
  static uint32_t RestoresInRow(const SchedulerState& state);
  SchedulerEffects RestoreFailed(TimeMs now, const absl::Status& status);

  const SchedulerState& Durable() const { return state_; }
  GetStatusResponse Status(TimeMs now) const;
  bool Ended() const { return state_.phase() == FINISHED || state_.phase() == FAILED; }
  // The oldest HeartbeatResponse.probe that something waits for; 0: nothing does.
  uint64_t OldestProbe() const;
  // Ended, and no member is left that has not heard of it.
  bool Drained() const;

 private:
  struct HeartbeatPoll {
    CallToken token;
    TimeMs until;              // without news
    HeartbeatRequest request;  // without loads and reports
  };
  struct WorkPoll {
    CallToken token;
    TimeMs until;
    bool live;
    Clock clock;
  };
  // What is known of a member only as long as this process lives.
  struct Soft {
    Role role = ROLE_UNSET;
    std::optional<HeartbeatPoll> heartbeat;
    std::optional<WorkPoll> work;
    ServerLoad server_load;
    WorkerLoad worker_load;
    uint64_t order = 0;      // newest AcquireWork
    bool live = false;       // as of it
    bool asked = false;
    uint64_t answered_order = 0;  // its last answer, for a repeated call
    AcquireWorkResponse answer;
    int phase_told = -1;
    int lease_index = 0;  // where its lease stood last
    Epoch routing_epoch = 0;  // newest that it said it knows
    TimeMs advanced_at = 0;  // when its clock last moved
    bool stall_told = false;
    bool last_copy_told = false;
    uint64_t probe_told = 0;
    uint64_t seen_probe = 0;
    bool slow = false;  // its group ended without it: the next one does not wait for it
  };

  ClusterState(SchedulerOptions options, SchedulerState stored);

  // cluster_state.cc, heartbeat_flow.cc, work_flow.cc: what members say.
  SchedulerEffects Finish(TimeMs now, SchedulerEffects effects);
  // Of a call that can only have given its own poll something to wait for: costs nothing per member.
  SchedulerEffects FinishQuietly(TimeMs now, SchedulerEffects effects);
  void Reply(CallToken token, SchedulerResponse response, SchedulerEffects* effects);
  void Refuse(CallToken token, absl::Status status, SchedulerEffects* effects);
  void Event(TimeMs now, const std::string& text, SchedulerEffects* effects);
  absl::Status CheckReports(const HeartbeatRequest& request, const MemberRecord& member);
  absl::Status CheckReport(const WorkDone& done, Incarnation worker);
  Clock FirstClockMax() const;
  void TakeResults(TimeMs now, Incarnation server, const HeartbeatRequest& request,
                   SchedulerEffects* effects);
  void TakeWorkDone(TimeMs now, Incarnation worker, const WorkDone& done, SchedulerEffects* effects);
  // How long a call of a member that has no news is kept; at most, however many members there are.
  TimeMs PollMs(Role role) const;
  TimeMs PollMsMax(Role role) const;
  // The newest set of workers may be told: it is news for servers.
  void ReleaseWorkerSet(TimeMs now);
  const WorkerSet& Workers() const;
  bool HasNews(const HeartbeatPoll& poll, const MemberRecord& member, const Soft& soft) const;
  Phase PhaseFor(const MemberRecord& member) const;
  HeartbeatResponse MakeHeartbeat(const HeartbeatRequest& request, const MemberRecord& member) const;
  void AnswerHeartbeats(TimeMs now, SchedulerEffects* effects);
  void AnswerHeartbeat(TimeMs now, Incarnation member, Soft* soft, SchedulerEffects* effects);
  LeaseRecord* LeaseOf(Incarnation worker, uint64_t lease);
  // Work for a worker that asks, or nothing (it waits).
  std::optional<AcquireWorkResponse> AnswerFor(TimeMs now, Incarnation worker, const WorkPoll& poll,
                                               SchedulerEffects* effects);
  std::optional<AcquireWorkResponse> TrainingAnswer(TimeMs now, Incarnation worker,
                                                    const WorkPoll& poll,
                                                    SchedulerEffects* effects);
  void AnswerWorkPolls(TimeMs now, SchedulerEffects* effects);
  // The active member that sent it; nullptr also where it speaks of another job, whose incarnations count
  // from 1 as well.
  template <typename Request>
  MemberRecord* Sender(const Request& request) {
    if (request.generation() != 0 && request.generation() != state_.generation()) return nullptr;
    return membership_.FindActive(request.incarnation());
  }
  // Those that die at once are removed at once: none of them takes over for another.
  struct Removal {
    Incarnation member;
    std::string why;
    MemberRecord::State how = MemberRecord::DEAD;  // or LEFT
  };
  void RemoveMembers(TimeMs now, const std::vector<Removal>& removals, SchedulerEffects* effects);
  // At once, or when its heirs have answered; with those that are dead by now.
  void RemoveMember(TimeMs now, Removal removal, SchedulerEffects* effects);
  void RemoveOne(TimeMs now, const Removal& removal, SchedulerEffects* effects);
  void CheckStalls(TimeMs now, SchedulerEffects* effects);

  // job_flow.cc: from phase to phase.
  void Advance(TimeMs now, SchedulerEffects* effects);
  bool AdvanceOnce(TimeMs now, SchedulerEffects* effects);
  bool TryStart(TimeMs now, SchedulerEffects* effects);
  void Resume(TimeMs now, SchedulerEffects* effects);
  void BeginEpoch(TimeMs now, SchedulerEffects* effects);
  void BeginQueues();
  void FormSyncGroup(TimeMs now, SchedulerEffects* effects);
  void EndSlowGroup(TimeMs now, SchedulerEffects* effects);
  void EndEvaluation(TimeMs now, SchedulerEffects* effects);
  void AfterSaving(TimeMs now, SchedulerEffects* effects);
  void SendCommand(Command command, PendingCommand* pending);
  void End(TimeMs now, Phase phase);
  void Fail(TimeMs now, const std::string& why, SchedulerEffects* effects);
  void CountTime(TimeMs now);
  bool TrainingDone() const;
  // At staleness 0: how the data differs between readers or epochs. Empty: it does not.
  std::string DataDisagreement() const;

  // replica_flow.cc, detection_flow.cc: who has copies of which shards (docs/decisions/0010-replication.md).
  uint32_t Replicas() const { return std::max(1u, options_.job.cluster().replicas()); }
  // Servers may come and go while the job runs.
  bool Elastic() const { return Replicas() > 1; }
  std::vector<ReplicaServer> ReplicaServers(TimeMs now) const;
  ReplicationOptions PlanOptions(TimeMs now) const;
  bool MayLevel(TimeMs now) const {
    return options_.level_after_ms > 0 && now - servers_changed_at_ >= options_.level_after_ms && rebalanced_at_ < servers_changed_at_;
  }
  void PlaceFirst(TimeMs now);
  // Plans the next steps from `sets`; a table that differs from the newest is the next one.
  void Publish(TimeMs now, ReplicaSets sets, SchedulerEffects* effects);
  void TakeOver(TimeMs now, const std::vector<Removal>& gone, SchedulerEffects* effects);
  // Durability ASYNC: what a promotion may lose; empty: nothing.
  std::string TailBound() const;
  void StopWaitingFor(Incarnation server, PendingCommand* pending);
  void NoteReplicaReports(TimeMs now, const HeartbeatRequest& request, const MemberRecord& member);
  void TakeReplicaReports(TimeMs now, SchedulerEffects* effects, ReplicaSets* sets);
  // The report is of what the newest table names.
  bool IsOfSuccession(const tidegate::Drained& report, Incarnation sender) const;
  void AdvanceReplicas(TimeMs now, SchedulerEffects* effects);
  bool IsDrained(const MemberRecord& member) const;
  void FillReplicaStatus(GetStatusResponse* status) const;
  // load_flow.cc
  void TakeShardLoads(TimeMs now, Incarnation server, ServerLoad* load);
  bool MayRebalance(TimeMs now) const;
  void Rebalance(TimeMs now, SchedulerEffects* effects);
  void TellTooHot(TimeMs now, const RebalancePlan& plan, SchedulerEffects* effects);
  // Members whose lease ran out, and servers that others do not reach.
  std::vector<Removal> FindDead(TimeMs now, SchedulerEffects* effects);
  // Each shard that the server has a copy of has another that is heard of.
  bool LosesNothing(TimeMs now, Incarnation server) const;
  // Of a silent member: it is too early to call it dead.
  bool WaitsForLastCopy(TimeMs now, const MemberRecord& record, SchedulerEffects* effects);
  // Sends one to all servers with their next answers, at once: one that was in no answer before.
  uint64_t Probe();
  bool HasSeen(Incarnation server, uint64_t probe) const;
  // Takes out of `dead` those whose heirs have not answered yet.
  void AwaitHeirs(TimeMs now, std::vector<Removal>* dead);
  void CheckLinks(TimeMs now, SchedulerEffects* effects);
  // For more than a heartbeat and a half.
  bool Silent(TimeMs now, Incarnation member) const { return detector_.SilentMs(member, now) * 2 > options_.heartbeat_interval_ms * 3; }
  bool Suspected(TimeMs now, Incarnation server) const { return unreachable_.contains(server) || Silent(now, server); }

  // loss_flow.cc
  // Shards are lost, and it is not decided yet what follows: nothing goes on.
  bool Stands() const { return !lost_.empty() && !Ended(); }
  const CheckpointRecord* NewestCheckpoint() const;
  // "with 3 of 16 shards ...".
  std::string LossOf(const std::vector<ShardId>& lost) const;
  void LoseShards(TimeMs now, const std::string& who, std::vector<ShardId> lost, SchedulerEffects* effects);
  // At the start of a term.
  void LoseOrphans(TimeMs now, SchedulerEffects* effects);
  void CheckLoss(TimeMs now, SchedulerEffects* effects);

  // metrics_flow.cc: what goes to the metrics log.
  MetricsRecord Record(const char* kind, std::vector<MetricValue> values) const;
  // Where `window_ms` of training have passed since the window opened.
  void CloseProgressive(TimeMs window_ms, SchedulerEffects* effects);
  Clock HighestClock() const;
  double LearningRateFactor() const;
  double TrainSeconds() const;

  // checkpoint_flow.cc
  JobProgress Progress() const;
  bool KeepsBest() const;
  bool CheckpointWanted() const;  // by command
  bool CheckpointDue(TimeMs now, Clock next_clock) const;
  // At staleness 0 the next group waits until every server knows of the cut.
  bool AwaitsCut() const { return state_.has_saving() && !state_.saving().cut(); }
  std::string FolderOf(const SavingRecord& saving) const;
  // The one that this builds on; nullptr: it is full.
  const CheckpointRecord* BaseOf(const SavingRecord& saving) const;
  void BeginCheckpoint(TimeMs now, Clock cut_clock, SchedulerEffects* effects);
  bool AdvanceCheckpoint(TimeMs now, SchedulerEffects* effects);
  void OrderManifest(SchedulerEffects* effects);
  void TakeStock(SchedulerEffects* effects);
  // `again`: one that the job cannot go on without is begun anew.
  // The newest clock of which it holds an update.
  static Clock ClockOf(const SavingRecord& saving);
  void CheckpointFailed(TimeMs now, const std::string& why, SchedulerEffects* effects, bool again = false);
  void FillCheckpointStatus(CheckpointStatus* status) const;

  uint64_t NextLease() { return (state_.term() << 32) | ++leases_made_; }
  uint64_t SamplesSoFar() const;
  // train.limit_steps: no work is given out any more.
  bool LimitReached() const;
  double SamplesPerUnit() const;  // of the training data's bytes or rows; 0: not known yet
  std::string WaitsFor() const;  // while STARTING
  TimeMs StallTimeoutMs() const {
    return static_cast<TimeMs>(options_.job.train().stall_timeout_s() * 1000.0f);
  }

  const SchedulerOptions options_;
  const std::string job_bytes_;
  SchedulerState state_;
  Membership membership_;   // over state_
  WorkQueue train_;         // over state_.current
  SyncPlan sync_;           // over state_.current
  FailureDetector detector_;
  Evaluation evaluation_;
  std::map<Incarnation, Soft> soft_;
  // What heartbeats that wait may bring: where it is as it was told last, only new polls and those whose time is up
  // are looked at.
  struct News {
    Epoch routing_epoch = 0;
    uint64_t worker_set_version = 0, last_command = 0;
    Phase phase = STARTING;
    uint64_t probe = 0;
    bool operator==(const News&) const = default;
  };
  std::optional<News> told_;
  std::vector<Incarnation> new_polls_;
  using PollEnd = std::pair<TimeMs, Incarnation>;
  std::priority_queue<PollEnd, std::vector<PollEnd>, std::greater<>> poll_ends_;  // soonest first; some are answered
  std::set<Incarnation> work_polls_;   // whose AcquireWork waits
  uint64_t workers_told_ = 0;          // version of the set that is news; a newer one waits for its turn
  TimeMs workers_told_at_ = 0;
  mutable WorkerSet workers_;          // as of its version
  // What members that are gone said last, for the summary.
  std::map<Incarnation, std::pair<ServerLoad, WorkerLoad>> last_loads_;
  uint64_t leases_made_ = 0;
  bool manifest_ordered_ = false;
  TimeMs checkpoint_begun_at_ = 0;
  TimeMs started_at_ = 0;
  TimeMs counted_at_ = 0;       // train time is counted up to here
  // Staleness 0.
  TimeMs forming_since_ = -1;  // a group waits for its members
  TimeMs group_started_ = 0;
  TimeMs slow_since_ = -1;     // train.drop_slowest: only the slowest of a group are not done with it
  bool group_full_ = false;    // the last group was no leftover
  Incarnation leftover_worker_ = 0;  // told to announce itself for one
  uint64_t group_steps_;
  bool told_no_workers_ = false;
  uint64_t observed_samples_ = 0;  // by the workers' own counts; for the rate
  std::vector<std::pair<TimeMs, uint64_t>> rate_window_;
  // Replicas: what was reported since the last tick, and what may not be planned now.
  struct Filled {
    Incarnation primary;
    InSync report;
  };
  struct Reports {
    TimeMs first, last;
  };
  static constexpr int kReportGapIntervals = 3;  // of heartbeats: a reporter that says nothing for longer begins anew
  std::vector<Filled> filled_;
  std::map<ShardId, std::pair<Incarnation, tidegate::Drained>> drained_;  // with its primary
  std::map<ShardId, Epoch> successor_since_;  // the table that named it first; a new term gives handovers up
  std::vector<std::pair<ShardId, Incarnation>> refills_;
  std::map<std::pair<ShardId, Incarnation>, Epoch> banned_copies_;  // until both ends know that epoch
  std::map<Incarnation, std::map<Incarnation, Reports>> unreachable_;  // server -> by whom
  std::map<std::pair<Incarnation, Incarnation>, TimeMs> banned_links_;  // primary, follower: until then
  // What is given up because others have it waits until they have seen a probe that was sent since that was decided:
  // who was heard a moment ago may have died, and what is given up may be the last copy.
  uint64_t probe_ = 0;       // the newest
  uint64_t probe_sent_ = 0;  // the newest that is in an answer
  bool probe_seen_ = false;  // by one more server, since it was last planned
  std::map<Incarnation, Removal> going_;  // they left, or their address is another's
  std::set<Incarnation> doomed_;          // they are dead, as soon as heirs_ have seen heirs_probe_
  std::set<Incarnation> heirs_;
  uint64_t heirs_probe_ = 0;
  TimeMs doomed_at_ = 0;
  PendingDrops drops_;
  std::map<std::pair<Incarnation, Incarnation>, uint64_t> link_probes_;  // primary, follower
  bool replan_ = true;
  TimeMs planned_at_ = 0;
  TimeMs servers_changed_at_ = 0;  // one came, went or lost a copy
  bool levelled_ = false;          // planned since then, with primaries levelled
  // Loads: when shards were moved for theirs, and what was told.
  ShardRates shard_rates_;
  std::map<ShardId, TimeMs> moved_at_;
  std::set<ShardId> told_too_hot_;
  TimeMs looked_at_ = 0;
  TimeMs rebalanced_at_ = -1;  // primaries are placed by load since then
  int uneven_looks_ = 0;
  bool rebalancing_ = false;
  bool settling_ = false;  // copies are being made or moved: an event says when that ends
  std::vector<ShardId> lost_;
  std::string loss_;       // for people
  TimeMs lost_at_ = 0;
  bool restore_wanted_ = false;
  const LearningRateSchedule schedule_;
  ProgressiveWindows progressive_;
  double progressive_since_ms_ = 0;  // of the epoch's training time
  std::vector<MetricValue> newest_progressive_;
};

}  // namespace tidegate
