// What members report with their heartbeats, and what they are told.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/exit_codes.h"
#include "scheduler/cluster_state.h"
#include "scheduler/request_check.h"

namespace tidegate {
namespace {

constexpr TimeMs kRateWindowMs = 5000;
constexpr TimeMs kWorkersPerInterval = 1000;  // more of them are asked less often
constexpr int kPollsPerLease = 4;
// A set of so many workers, times the servers that hear of it, is told a millisecond after the one before.
constexpr size_t kWorkersToldPerMs = 20'000;

}  // namespace

absl::Status ClusterState::CheckReports(const HeartbeatRequest& request, const MemberRecord& member) {
  absl::Status status = CheckHeartbeat(request, member.member().role(), state_.routing().shards());
  for (const WorkDone& progress : request.progress()) {
    if (status.ok()) status = CheckReport(progress, request.incarnation());
  }
  return status;
}

absl::Status ClusterState::CheckReport(const WorkDone& done, Incarnation worker) {
  const LeaseRecord* lease = LeaseOf(worker, done.lease());
  return CheckWorkDone(done, lease == nullptr ? Work() : lease->work());
}

SchedulerEffects ClusterState::Handle(TimeMs now, CallToken token, const HeartbeatRequest& request) {
  SchedulerEffects effects;
  CountTime(now);
  const Incarnation incarnation = request.incarnation();
  MemberRecord* record = Sender(request);
  if (record == nullptr) {
    HeartbeatResponse response;
    response.set_rejoin(true);
    response.set_generation(state_.generation());
    response.set_phase(state_.phase());
    response.set_message(state_.message());
    Reply(token, std::move(response), &effects);
    return Finish(now, std::move(effects));
  }
  if (absl::Status status = CheckReports(request, *record); !status.ok()) {
    Refuse(token, std::move(status), &effects);
    return Finish(now, std::move(effects));
  }
  detector_.Heard(incarnation, now);
  Soft& soft = soft_[incarnation];
  if (request.has_server_load()) {
    soft.server_load = request.server_load();
    TakeShardLoads(now, incarnation, &soft.server_load);
  }
  if (request.has_worker_load()) {
    const WorkerLoad& load = request.worker_load();
    if (load.clock() != soft.worker_load.clock() ||
        load.samples_total() != soft.worker_load.samples_total()) {
      soft.advanced_at = now;
      soft.stall_told = false;
    }
    if (load.samples_total() > soft.worker_load.samples_total()) {
      observed_samples_ += load.samples_total() - soft.worker_load.samples_total();
    }
    progressive_.Take(incarnation, load);
    if (load.samples_total() >= soft.worker_load.samples_total()) soft.worker_load = load;
    soft.worker_load.clear_progressive();
    if (rate_window_.empty() || now - rate_window_.back().first >= options_.heartbeat_interval_ms) {
      rate_window_.emplace_back(now, observed_samples_);
      while (now - rate_window_.front().first > kRateWindowMs) rate_window_.erase(rate_window_.begin());
    }
  }
  for (const WorkDone& progress : request.progress()) {
    WorkDone report = progress;
    report.set_in_progress(true);
    TakeWorkDone(now, incarnation, report, &effects);
  }
  TakeResults(now, incarnation, request, &effects);
  const bool answers = request.seen_probe() > soft.seen_probe && request.seen_probe() <= probe_;
  if (answers) soft.seen_probe = request.seen_probe();
  probe_seen_ = probe_seen_ || answers;
  NoteReplicaReports(now, request, *record);
  if (!request.fatal_error().empty()) {
    Fail(now, absl::StrCat(DescribeMember(record->member()), ": ", request.fatal_error()), &effects);
  }
  // Who misses a server says so as often as a server speaks: a server's death is found no later for many workers.
  const Role role = record->member().role();
  HeartbeatPoll poll{token, now + (request.unreachable().empty() ? PollMs(role) : PollMs(SERVER)), request};
  poll.request.clear_results();
  poll.request.clear_server_load();
  poll.request.clear_worker_load();
  poll.request.clear_progress();
  poll.request.clear_in_sync();
  poll.request.clear_drained();
  poll.request.clear_unreachable();
  poll.request.clear_refill();
  if (soft.heartbeat) {
    Reply(soft.heartbeat->token, MakeHeartbeat(soft.heartbeat->request, *record), &effects);
    probe_sent_ = probe_;
  }
  poll_ends_.emplace(poll.until, incarnation);
  soft.heartbeat = std::move(poll);
  new_polls_.push_back(incarnation);
  if (answers && heirs_.contains(incarnation)) RemoveMembers(now, FindDead(now, &effects), &effects);
  return request.results().empty() ? FinishQuietly(now, std::move(effects)) : Finish(now, std::move(effects));
}

void ClusterState::TakeResults(TimeMs now, Incarnation server, const HeartbeatRequest& request,
                               SchedulerEffects* effects) {
  for (const CommandResult& result : request.results()) {
    const bool of_checkpoint = state_.saving().command().command().id() == result.id();
    if (!of_checkpoint && state_.command().command().id() != result.id()) continue;
    if (result.id() == 0 || Ended()) continue;
    PendingCommand* pending = of_checkpoint ? state_.mutable_saving()->mutable_command() : state_.mutable_command();
    auto* waiting = pending->mutable_waiting();
    const auto it = std::find(waiting->begin(), waiting->end(), server);
    if (it == waiting->end()) continue;  // said before
    effects->persist = true;
    if (result.code() != 0 && of_checkpoint) {
      state_.set_checkpoint_failed(state_.saving().number());
      state_.set_checkpoint_error(absl::StrCat(DescribeMember(membership_.FindActive(server)->member()),
                                               ": ", result.error()));
    } else if (result.code() != 0) {
      const char* what = pending->command().open_tables().has_restore() ? "restore the checkpoint"
                         : pending->command().has_open_tables()         ? "open the tables"
                                                                        : "change the learning rate";
      Fail(now,
           absl::StrCat(DescribeMember(membership_.FindActive(server)->member()), " could not ", what,
                        ": ", result.error()),
           effects);
      return;
    }
    waiting->erase(it);
    pending->mutable_files()->MergeFrom(result.files());
    pending->set_answered(waiting->empty());
  }
}

namespace {

bool IsFor(const PendingCommand& pending, const HeartbeatRequest& request, Incarnation member) {
  const auto& waiting = pending.waiting();
  return pending.command().id() > request.last_command() && std::find(waiting.begin(), waiting.end(), member) != waiting.end();
}

}  // namespace

TimeMs ClusterState::PollMsMax(Role role) const {
  const TimeMs interval = options_.heartbeat_interval_ms;
  return role == WORKER ? std::max(interval, options_.lease_ms / kPollsPerLease) : interval;
}

TimeMs ClusterState::PollMs(Role role) const {
  const TimeMs interval = options_.heartbeat_interval_ms;
  if (role != WORKER) return interval;
  const TimeMs workers = static_cast<TimeMs>(membership_.CountActive(WORKER));
  return std::clamp(interval * workers / kWorkersPerInterval, interval, PollMsMax(WORKER));
}

void ClusterState::ReleaseWorkerSet(TimeMs now) {
  const size_t told = membership_.CountActive(SERVER) * membership_.CountActive(WORKER);
  const TimeMs gap = std::min(options_.heartbeat_interval_ms, static_cast<TimeMs>(told / kWorkersToldPerMs));
  if (workers_told_ == state_.worker_set_version() || now - workers_told_at_ < gap) return;
  workers_told_ = state_.worker_set_version();
  workers_told_at_ = now;
}

const WorkerSet& ClusterState::Workers() const {
  if (workers_.version() != state_.worker_set_version()) workers_ = membership_.Workers();
  return workers_;
}

bool ClusterState::HasNews(const HeartbeatPoll& poll, const MemberRecord& member,
                           const Soft& soft) const {
  const HeartbeatRequest& request = poll.request;
  if (request.seen_term() != state_.term() || soft.phase_told != PhaseFor(member) ||
      state_.routing().epoch() > request.routing_epoch()) {
    return true;
  }
  if (member.member().role() != SERVER) return false;
  const Incarnation server = member.member().incarnation();
  return soft.probe_told < probe_ || workers_told_ > request.worker_set_version() ||
         (!Ended() && (IsFor(state_.command(), request, server) || IsFor(state_.saving().command(), request, server)));
}

// Servers hear of the end when the last worker has: none of them loses its connection in mid-sentence. One that
// is drained hears of it at once.
Phase ClusterState::PhaseFor(const MemberRecord& member) const {
  if (!Ended() && IsDrained(member)) return FINISHED;
  const bool early = state_.phase() == FINISHED && member.member().role() == SERVER &&
                     membership_.CountActive(WORKER) > 0;
  return early ? SAVING : state_.phase();
}

HeartbeatResponse ClusterState::MakeHeartbeat(const HeartbeatRequest& request,
                                              const MemberRecord& member) const {
  HeartbeatResponse response;
  response.set_phase(PhaseFor(member));
  response.set_message(state_.message());
  if (response.phase() == FINISHED && !Ended()) {
    response.set_message(std::string(member.restarting() ? kRestartPrefix : "drained: ") + "its shards are on other servers");
  }
  if (state_.routing().epoch() > request.routing_epoch()) {
    *response.mutable_routing() = state_.routing();
  }
  if (member.member().role() != SERVER) return response;
  response.set_probe(probe_);
  if (state_.worker_set_version() > request.worker_set_version()) {
    *response.mutable_workers() = Workers();
  }
  const PendingCommand* pending[] = {&state_.command(), &state_.saving().command()};
  if (pending[0]->command().id() > pending[1]->command().id()) std::swap(pending[0], pending[1]);
  for (const PendingCommand* p : pending) {
    if (!Ended() && IsFor(*p, request, member.member().incarnation())) *response.add_commands() = p->command();
  }
  return response;
}

void ClusterState::AnswerHeartbeats(TimeMs now, SchedulerEffects* effects) {
  ReleaseWorkerSet(now);
  const News news{state_.routing().epoch(), workers_told_, state_.last_command(), state_.phase(), probe_};
  if (news != told_) {
    told_ = news;
    const size_t table_bytes = state_.routing().SpaceUsedLong();
    size_t room = options_.table_bytes_per_call;
    for (const Role role : {SERVER, WORKER}) {
      for (auto& [incarnation, soft] : soft_) {
        if (!soft.heartbeat || soft.role != role) continue;
        const size_t bytes = soft.heartbeat->request.routing_epoch() < news.routing_epoch ? table_bytes : 0;
        if (bytes > room && room < options_.table_bytes_per_call) {
          told_.reset();
          continue;
        }
        room -= std::min(room, bytes);
        AnswerHeartbeat(now, incarnation, &soft, effects);
      }
    }
  }
  const auto answer = [&](Incarnation member) {
    if (const auto soft = soft_.find(member); soft != soft_.end()) AnswerHeartbeat(now, member, &soft->second, effects);
  };
  for (const Incarnation member : std::exchange(new_polls_, {})) answer(member);
  while (!poll_ends_.empty() && poll_ends_.top().first <= now) {
    answer(poll_ends_.top().second);
    poll_ends_.pop();
  }
}

void ClusterState::AnswerHeartbeat(TimeMs now, Incarnation incarnation, Soft* soft, SchedulerEffects* effects) {
  if (!soft->heartbeat) return;
  const MemberRecord& member = *membership_.FindActive(incarnation);
  const HeartbeatPoll& poll = *soft->heartbeat;
  if (!poll.request.no_wait() && now < poll.until && !HasNews(poll, member, *soft)) return;
  soft->phase_told = PhaseFor(member);
  soft->probe_told = probe_sent_ = probe_;
  Reply(poll.token, MakeHeartbeat(poll.request, member), effects);
  soft->heartbeat.reset();
}

}  // namespace tidegate
