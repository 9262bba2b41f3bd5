#include "scheduler/cluster_state.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/counted.h"
#include "common/logging.h"

namespace tidegate {
namespace {

constexpr uint32_t kStateFormat = 1;
constexpr int kEventsMax = 256;
constexpr size_t kNameBytesMax = 256;

// Names and addresses stand in logs and in every status.
bool IsShortLine(const std::string& text) {
  return text.size() <= kNameBytesMax &&
         std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

// The first declared table that differs, for people.
std::string FirstDifference(const SchedulerState& state, const DeclareTablesRequest& request) {
  const int common = std::min(state.tables_size(), request.tables_size());
  for (int i = 0; i < common; ++i) {
    if (state.tables(i).SerializeAsString() != request.tables(i).SerializeAsString()) {
      return absl::StrCat("table ", i, " is {", state.tables(i).ShortDebugString(),
                          "} for the job, and {", request.tables(i).ShortDebugString(), "} here");
    }
  }
  if (state.tables_size() == request.tables_size()) return "";
  return absl::StrCat("the job has ", state.tables_size(), " tables, this worker ",
                      request.tables_size());
}

AcquireWorkResponse AnswerRejoin() {
  AcquireWorkResponse response;
  response.set_rejoin(true);
  return response;
}

}  // namespace

ClusterState::ClusterState(SchedulerOptions options, SchedulerState stored)
    : options_(std::move(options)),
      job_bytes_(options_.job.SerializeAsString()),
      state_(std::move(stored)),
      membership_(&state_),
      train_(state_.mutable_current(), &options_.train_splits, Work::TRAIN),
      sync_(state_.mutable_current()),
      detector_(options_.lease_ms, options_.return_ms),
      evaluation_(&options_.valid_splits),
      group_steps_(options_.sync_group_steps),
      schedule_(options_.job.train().schedule()),
      progressive_(options_.job) {}

absl::StatusOr<std::unique_ptr<ClusterState>> ClusterState::Create(SchedulerOptions options,
                                                                   SchedulerState stored) {
  if (stored.format() > kStateFormat) {
    return absl::FailedPreconditionError(
        absl::StrCat("the stored state has format ", stored.format(), ", this program knows ",
                     kStateFormat, ": use a newer tidegate-scheduler or an empty --state"));
  }
  if (stored.format() != 0 && stored.config_fingerprint() != options.config_fingerprint) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the stored state belongs to job \"", stored.job(), "\" with config ",
        absl::Hex(stored.config_fingerprint()), ", not to \"", options.job.name(), "\" with config ",
        absl::Hex(options.config_fingerprint), ": start with that job's config or an empty --state"));
  }
  if (stored.train_splits_size() > 0) {
    options.train_splits.assign(stored.train_splits().begin(), stored.train_splits().end());
  }
  bool fits = true;
  for (uint32_t split : stored.current().done()) fits = fits && split < options.train_splits.size();
  for (const LeaseRecord& lease : stored.current().leases()) {
    fits = fits && (lease.work().has_sync() ? options.synchronous
                                            : lease.split() < options.train_splits.size());
  }
  if (!fits) {
    return absl::FailedPreconditionError(
        "the stored state speaks of splits that the data does not have: the files in data.train "
        "changed since it was stored; bring them back or start with an empty --state");
  }
  if (stored.format() == 0) {
    stored.set_format(kStateFormat);
    stored.set_job(options.job.name());
    stored.set_config_fingerprint(options.config_fingerprint);
    stored.set_generation(options.generation);
    stored.set_lr_scale(1);
  }
  return std::unique_ptr<ClusterState>(new ClusterState(std::move(options), std::move(stored)));
}

SchedulerEffects ClusterState::Start(TimeMs now) {
  SchedulerEffects effects;
  state_.set_term(state_.term() + 1);
  servers_changed_at_ = now;
  started_at_ = counted_at_ = group_started_ = checkpoint_begun_at_ = now;
  for (Role role : {SERVER, WORKER}) {
    for (Incarnation member : membership_.Active(role)) {
      detector_.Heard(member, now);
      Soft& soft = soft_[member];
      soft.role = role;
      soft.advanced_at = now;
      if (role == WORKER) progressive_.Expect(member);
    }
  }
  BeginQueues();
  if (options_.restored) {
    Event(now, absl::StrCat("goes on from ", state_.restored_from(), ", after clock ", state_.restored_clock(),
                            ": all servers and workers are told to join again"), &effects);
  } else if (state_.term() > 1) {
    Event(now, absl::StrCat("scheduler started again, term ", state_.term()), &effects);
  } else if (!state_.restored_from().empty()) {
    Event(now, absl::StrCat("resumes from ", state_.restored_from(), ", after clock ", state_.restored_clock()), &effects);
    for (const TaskConfig& task : options_.job.model().task()) {
      if (task.loss() != TaskConfig::SOFTMAX) continue;
      Event(now, absl::StrCat("task \"", task.name(), "\": workers count the item frequencies of in-batch softmax anew; checkpoints do not hold them"), &effects);
    }
  }
  LoseOrphans(now, &effects);
  effects.persist = true;
  return Finish(now, std::move(effects));
}

void ClusterState::Reply(CallToken token, SchedulerResponse response, SchedulerEffects* effects) {
  std::visit(
      [this](auto& r) {
        if constexpr (!std::is_same_v<std::decay_t<decltype(r)>, std::monostate>) {
          r.set_term(state_.term());
        }
      },
      response);
  effects->replies.push_back({token, absl::OkStatus(), std::move(response)});
}

void ClusterState::Refuse(CallToken token, absl::Status status, SchedulerEffects* effects) {
  effects->replies.push_back({token, std::move(status), std::monostate()});
}

void ClusterState::Event(TimeMs now, const std::string& text, SchedulerEffects* effects) {
  char time[48];
  std::snprintf(time, sizeof(time), "[%.1f s] ", static_cast<double>(now - started_at_) / 1000.0);
  state_.add_events(time + text);
  state_.set_events_total(state_.events_total() + 1);
  if (state_.events_size() > kEventsMax) {
    state_.mutable_events()->DeleteSubrange(0, state_.events_size() - kEventsMax);
  }
  effects->events.push_back(text);
  effects->persist = true;
}

// Ends every call into the core: takes what became possible, then answers what can be answered.
SchedulerEffects ClusterState::Finish(TimeMs now, SchedulerEffects effects) {
  if (WantsRestore()) return effects;
  if (Stands()) {
    AnswerWorkPolls(now, &effects);
    AnswerHeartbeats(now, &effects);
    return effects;
  }
  const int rounds_max = 8;  // an answer may free work or complete a group; the rest waits for a tick
  for (int round = 0; round < rounds_max; ++round) {
    Advance(now, &effects);
    if (replan_) AdvanceReplicas(now, &effects);
    const size_t before = effects.replies.size();
    AnswerWorkPolls(now, &effects);
    if (effects.replies.size() == before) break;
  }
  AnswerHeartbeats(now, &effects);
  return effects;
}

SchedulerEffects ClusterState::FinishQuietly(TimeMs now, SchedulerEffects effects) {
  if (effects.persist || replan_) return Finish(now, std::move(effects));
  AnswerHeartbeats(now, &effects);
  return effects;
}

SchedulerEffects ClusterState::Handle(TimeMs now, CallToken token, const JoinRequest& request) {
  SchedulerEffects effects;
  CountTime(now);
  const auto refuse = [&](const std::string& why) {
    Refuse(token, absl::FailedPreconditionError(why), &effects);
    return Finish(now, std::move(effects));
  };
  if (request.role() != SERVER && request.role() != WORKER) {
    Refuse(token, absl::InvalidArgumentError("Join: role must be SERVER or WORKER"), &effects);
    return Finish(now, std::move(effects));
  }
  if (!IsShortLine(request.name()) || !IsShortLine(request.address()) || !IsShortLine(request.zone())) {
    Refuse(token,
           absl::InvalidArgumentError(absl::StrCat("Join: name, address and zone are lines of at most ",
                                                   kNameBytesMax, " bytes")),
           &effects);
    return Finish(now, std::move(effects));
  }
  if (request.config_fingerprint() != 0 &&
      request.config_fingerprint() != options_.config_fingerprint) {
    return refuse(absl::StrCat("this scheduler runs job \"", options_.job.name(), "\" with config ",
                               absl::Hex(options_.config_fingerprint), ", you were given config ",
                               absl::Hex(request.config_fingerprint()),
                               ": one scheduler runs one job; start another for the other config"));
  }
  if (!request.version().empty() && !options_.version.empty() &&
      request.version() != options_.version) {
    return refuse(absl::StrCat("the scheduler is Tidegate ", options_.version, ", you are ",
                               request.version(), ": use one version for all processes of a job"));
  }
  MemberRecord* record = membership_.FindActive(request.role(), request.nonce());
  if (record == nullptr) {
    if (request.role() == SERVER && !Ended()) {
      if (request.address().empty()) {
        Refuse(token, absl::InvalidArgumentError("Join: a server needs its address"), &effects);
        return Finish(now, std::move(effects));
      }
      if (const MemberRecord* old = membership_.FindActiveServer(request.address())) {
        // Who takes over has to be heard first.
        if (Elastic() && state_.routing().epoch() != 0 && detector_.Wakes(now, 2 * options_.heartbeat_interval_ms)) {
          Refuse(token, absl::UnavailableError("the scheduler has begun or slept, and does not know yet who lives"), &effects);
          return Finish(now, std::move(effects));
        }
        RemoveMember(now, {old->member().incarnation(), "another process joined with its address"}, &effects);
        if (membership_.FindActiveServer(request.address()) != nullptr) {
          Refuse(token, absl::UnavailableError("those who take over from the process that was at this address are asked first"), &effects);
          return Finish(now, std::move(effects));
        }
      }
      const bool placed = state_.routing().epoch() != 0 && !Elastic() && !Ended();
      if (Stands() || (placed && options_.job.cluster().on_data_loss() == ClusterConfig::RESTORE)) {
        Refuse(token, absl::UnavailableError("the job takes this server when it goes on from a checkpoint"), &effects);
        return Finish(now, std::move(effects));
      }
      if (placed) {
        return refuse(absl::StrCat("the job's shards are placed on ",
                                   Counted(static_cast<uint64_t>(state_.routing().servers_size()), "server"),
                                   " already: servers cannot join a running job of one copy in this "
                                   "version; set cluster.servers before the job starts"));
      }
    }
    record = membership_.Add(request);
    Soft& soft = soft_[record->member().incarnation()];
    soft.role = request.role();
    soft.advanced_at = now;
    told_no_workers_ = false;
    if (request.role() == SERVER) {
      replan_ = true;
      servers_changed_at_ = now;
    }
    Event(now, absl::StrCat(DescribeMember(record->member()), " joined"), &effects);
  }
  detector_.Heard(record->member().incarnation(), now);
  JoinResponse response;
  response.set_incarnation(record->member().incarnation());
  response.set_generation(state_.generation());
  response.set_job_config(job_bytes_);
  response.set_heartbeat_interval_ms(static_cast<uint32_t>(PollMsMax(request.role())));
  response.set_lease_ms(static_cast<uint32_t>(options_.lease_ms));
  for (uint64_t bytes : PlannedFileBytes(options_.train_splits)) response.add_train_file_bytes(bytes);
  if (request.role() == SERVER) {
    response.set_grant_ms(static_cast<uint32_t>(std::max<TimeMs>(1, options_.lease_ms / 6)));
    response.set_learning_rate_scale(state_.phase() == ADJUSTING ? state_.next_lr_scale() : state_.lr_scale());
    if (state_.routing().epoch() != 0) *response.mutable_tables() = state_.tables();
  }
  Reply(token, std::move(response), &effects);
  return Finish(now, std::move(effects));
}

SchedulerEffects ClusterState::Handle(TimeMs now, CallToken token,
                                      const DeclareTablesRequest& request) {
  SchedulerEffects effects;
  CountTime(now);
  const MemberRecord* record = Sender(request);
  absl::Status status;
  if (record == nullptr || record->member().role() != WORKER) {
    status = absl::FailedPreconditionError(
        absl::StrCat("rejoin: ", request.incarnation(), " is no worker of this job (any more)"));
  } else if (request.tables_size() == 0) {
    status = absl::InvalidArgumentError("DeclareTables: no tables");
  }
  for (int i = 0; status.ok() && i < request.tables_size(); ++i) {
    if (request.tables(i).id() != static_cast<uint32_t>(i) || request.tables(i).parts_size() == 0) {
      status = absl::InvalidArgumentError(
          absl::StrCat("DeclareTables: table ", i, " (\"", request.tables(i).name(),
                       "\") needs id ", i, " and at least one part"));
    }
  }
  if (status.ok() && state_.tables_size() > 0) {
    const std::string difference = FirstDifference(state_, request);
    if (!difference.empty()) {
      status = absl::FailedPreconditionError(
          absl::StrCat("this worker's tables differ from the job's: ", difference,
                       "; every worker must be the same program"));
    }
  }
  if (record != nullptr) detector_.Heard(request.incarnation(), now);
  if (!status.ok()) {
    Refuse(token, std::move(status), &effects);
    return Finish(now, std::move(effects));
  }
  if (state_.tables_size() == 0) {
    *state_.mutable_tables() = request.tables();
    effects.persist = true;
  }
  Reply(token, DeclareTablesResponse(), &effects);
  return Finish(now, std::move(effects));
}

SchedulerEffects ClusterState::Handle(TimeMs now, CallToken token, const LeaveRequest& request) {
  SchedulerEffects effects;
  CountTime(now);
  if (Sender(request) != nullptr) {
    RemoveMember(now, {request.incarnation(), request.reason(), MemberRecord::LEFT}, &effects);
  }
  Reply(token, LeaveResponse(), &effects);
  return Finish(now, std::move(effects));
}

SchedulerEffects ClusterState::Handle(TimeMs now, CallToken token, const GetRoutingRequest& request) {
  SchedulerEffects effects;
  GetRoutingResponse response;
  response.set_generation(state_.generation());
  if (state_.routing().epoch() > request.newer_than()) *response.mutable_routing() = state_.routing();
  *response.mutable_tables() = state_.tables();
  Reply(token, std::move(response), &effects);
  return effects;
}

SchedulerEffects ClusterState::Handle(TimeMs now, CallToken token, const GetStatusRequest& request) {
  SchedulerEffects effects;
  CountTime(now);
  Reply(token, Status(now), &effects);
  return effects;
}

SchedulerEffects ClusterState::Handle(TimeMs now, CallToken token, const StopJobRequest& request) {
  SchedulerEffects effects;
  CountTime(now);
  Fail(now, absl::StrCat("stopped: ", request.reason()), &effects);
  Reply(token, StopJobResponse(), &effects);
  return Finish(now, std::move(effects));
}

SchedulerEffects ClusterState::Tick(TimeMs now) {
  SchedulerEffects effects;
  CountTime(now);
  RemoveMembers(now, FindDead(now, &effects), &effects);
  CheckLoss(now, &effects);
  CheckLinks(now, &effects);
  AdvanceReplicas(now, &effects);
  Rebalance(now, &effects);
  CheckStalls(now, &effects);
  CloseProgressive(options_.progressive_window_ms, &effects);
  return Finish(now, std::move(effects));
}

void ClusterState::CheckStalls(TimeMs now, SchedulerEffects* effects) {
  if (state_.phase() != TRAINING || Stands()) return;
  for (const LeaseRecord& lease : state_.current().leases()) {
    const auto it = soft_.find(lease.worker());
    if (it == soft_.end() || it->second.stall_told) continue;
    if (now - it->second.advanced_at <= StallTimeoutMs()) continue;
    it->second.stall_told = true;
    Event(now,
          absl::StrCat(DescribeMember(membership_.FindActive(lease.worker())->member()),
                       " sends heartbeats, but has not advanced for ", now - it->second.advanced_at,
                       " ms; it is at clock ", it->second.worker_load.clock()),
          effects);
  }
}

void ClusterState::RemoveMember(TimeMs now, Removal removal, SchedulerEffects* effects) {
  going_.try_emplace(removal.member, removal);
  RemoveMembers(now, FindDead(now, effects), effects);
}

void ClusterState::RemoveMembers(TimeMs now, const std::vector<Removal>& removals, SchedulerEffects* effects) {
  std::vector<Removal> servers;
  bool workers = false;
  for (const Removal& removal : removals) {
    const Role role = membership_.FindActive(removal.member)->member().role();
    if (role == SERVER) servers.push_back(removal);
    workers = workers || role == WORKER;
    RemoveOne(now, removal, effects);
  }
  if (Ended()) return;
  if (!servers.empty() && state_.routing().epoch() != 0) TakeOver(now, servers, effects);
  if (workers && membership_.CountActive(WORKER) == 0 && state_.phase() != STARTING && !told_no_workers_) {
    told_no_workers_ = true;
    Event(now, "no workers are left: the job waits for new ones", effects);
  }
}

void ClusterState::RemoveOne(TimeMs now, const Removal& removal, SchedulerEffects* effects) {
  const Incarnation incarnation = removal.member;
  const Member member = membership_.FindActive(incarnation)->member();
  const char* verb = removal.how == MemberRecord::LEFT ? " left" : " is dead";
  std::string line = absl::StrCat(DescribeMember(member), verb, removal.why.empty() ? "" : ": ", removal.why);
  bool gave_back = false;
  if (member.role() == WORKER && !Ended()) {
    gave_back = options_.synchronous ? sync_.GiveBack(incarnation) : train_.GiveBack(incarnation);
    gave_back = evaluation_.queue().GiveBack(incarnation) || gave_back;
  }
  if (gave_back) line += "; its work goes to others";
  membership_.Remove(incarnation, removal.how);
  detector_.Forget(incarnation);
  going_.erase(incarnation);
  doomed_.erase(incarnation);
  if (const auto soft = soft_.find(incarnation); soft != soft_.end()) {
    HeartbeatResponse rejoin;
    rejoin.set_rejoin(true);
    rejoin.set_phase(state_.phase());
    rejoin.set_message(state_.message());
    if (soft->second.heartbeat) Reply(soft->second.heartbeat->token, rejoin, effects);
    if (soft->second.work) Reply(soft->second.work->token, AnswerRejoin(), effects);
    progressive_.Forget(incarnation);
    last_loads_[incarnation] = {soft->second.server_load, soft->second.worker_load};
    soft_.erase(soft);
    work_polls_.erase(incarnation);
  }
  Event(now, line, effects);
}

bool ClusterState::Drained() const {
  return Ended() && membership_.CountActive(SERVER) == 0 && membership_.CountActive(WORKER) == 0;
}

}  // namespace tidegate
