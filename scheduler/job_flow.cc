// The flow of a job, from phase to phase:
//
//   STARTING -> TRAINING -> EVALUATING -> SAVING -> ADJUSTING -> TRAINING ... -> FINISHED
//
// EVALUATING is left out without validation data, SAVING when nothing is worth saving, ADJUSTING when
// the learning rate stays. FAILED follows from any of them.
#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/counted.h"
#include "common/stable_hash.h"
#include "scheduler/cluster_state.h"
#include "scheduler/policy/checkpoint_policy.h"
#include "scheduler/policy/epoch_policy.h"

namespace tidegate {
namespace {

constexpr uint64_t kGroupStepsMin = 8;
constexpr TimeMs kGroupShortMs = 1000;
constexpr TimeMs kGroupLongMs = 4000;
constexpr TimeMs kFewerAfterLeases = 10;

std::string EpochLine(const EpochResult& result) {
  std::string line = absl::StrCat("epoch ", result.epoch(), ":");
  for (const MetricValue& metric : result.metrics()) {
    char text[160];
    std::snprintf(text, sizeof(text), " %s %.6g", metric.name().c_str(), metric.value());
    line += text;
  }
  char text[80];
  std::snprintf(text, sizeof(text), " (%llu samples, %.1f s)",
                static_cast<unsigned long long>(result.samples()), result.seconds());
  return line + text;
}

}  // namespace

void ClusterState::CountTime(TimeMs now) {
  if (state_.phase() == TRAINING) {
    state_.mutable_current()->set_train_ms(state_.current().train_ms() +
                                           static_cast<double>(now - counted_at_));
  }
  counted_at_ = now;
}

bool ClusterState::TrainingDone() const {
  if (options_.synchronous) return sync_.AllDone();
  return train_.AllDone() || (LimitReached() && state_.current().leases().empty());
}

std::string ClusterState::DataDisagreement() const {
  if (!options_.synchronous) return "";
  const uint64_t end = state_.current().data_end(), before = state_.steps_per_epoch();
  if (end == 0 || before == 0 || end == before) return sync_.Disagreement();
  return absl::StrCat("data.train has ", Counted(end, "step"), " in epoch ", state_.epoch(), ", and had ", before,
                      ": its files changed while the job ran");
}

bool ClusterState::LimitReached() const {
  const uint64_t limit = options_.job.train().limit_steps();
  return limit > 0 && state_.max_clock() >= static_cast<Clock>(limit);
}

void ClusterState::Advance(TimeMs now, SchedulerEffects* effects) {
  while (AdvanceOnce(now, effects)) effects->persist = true;
}

bool ClusterState::AdvanceOnce(TimeMs now, SchedulerEffects* effects) {
  if (AdvanceCheckpoint(now, effects)) return true;
  switch (state_.phase()) {
    case STARTING:
      return TryStart(now, effects);
    case TRAINING: {
      if (const std::string diff = DataDisagreement(); !diff.empty()) {
        Fail(now, diff, effects);
        return true;
      }
      if (options_.synchronous) EndSlowGroup(now, effects);
      if (!TrainingDone()) {
        if (options_.synchronous) FormSyncGroup(now, effects);
        return false;
      }
      if (state_.current().samples() == 0) {
        Fail(now, "the training data holds no samples: see data.train in the job's config", effects);
        return true;
      }
      CloseProgressive(0, effects);
      EpochResult* result = state_.add_results();
      const EpochProgress& current = state_.current();
      result->set_epoch(state_.epoch());
      result->set_seconds(current.train_ms() / 1000.0);
      result->set_samples(current.samples());
      result->set_lr_scale(state_.lr_scale());
      MetricValue* loss = result->add_metrics();
      loss->set_name("train/loss");
      loss->set_value(current.weight_sum() > 0 ? current.loss_sum() / current.weight_sum() : 0);
      if (options_.synchronous) state_.set_steps_per_epoch(current.data_end());
      state_.set_phase(EVALUATING);
      evaluation_.Begin(state_.epoch());
      return true;
    }
    case EVALUATING:
      if (!evaluation_.queue().AllDone()) return false;
      EndEvaluation(now, effects);
      return true;
    case ADJUSTING:
      if (!state_.command().answered()) return false;
      state_.clear_command();
      state_.set_lr_scale(state_.next_lr_scale());
      BeginEpoch(now, effects);
      return true;
    default:
      return false;
  }
}

bool ClusterState::TryStart(TimeMs now, SchedulerEffects* effects) {
  const ClusterConfig& cluster = options_.job.cluster();
  if (state_.routing().epoch() == 0) {
    const size_t servers = membership_.CountActive(SERVER);
    // After a loss those that have not come by then are not waited for.
    const bool late = state_.restores() > 0 && now - started_at_ >= kFewerAfterLeases * options_.lease_ms;
    const auto wanted = [late](uint32_t configured) { return late ? 1u : std::max(1u, configured); };
    if (servers < wanted(cluster.servers()) || state_.tables_size() == 0 ||
        membership_.CountActive(WORKER) < wanted(cluster.workers())) {
      return false;
    }
    PlaceFirst(now);
    Command command;
    *command.mutable_open_tables()->mutable_tables() = state_.tables();
    if (!state_.restored_from().empty()) {
      RestoreTables* restore = command.mutable_open_tables()->mutable_restore();
      restore->set_directory(state_.restored_from());
      restore->set_clock(state_.restored_clock());
      restore->set_learning_rate_scale(state_.lr_scale());
    } else {
      *command.mutable_open_tables()->mutable_init() = options_.job.train().init_from();
    }
    SendCommand(std::move(command), state_.mutable_command());
    std::string placed = Counted(state_.routing().shards(), "shard") + " placed on " + Counted(servers, "server");
    if (Replicas() > 1) {
      absl::StrAppend(&placed, ", ", std::min<size_t>(Replicas(), servers), " copies of each");
      if (servers < Replicas()) {
        absl::StrAppend(&placed, "; degraded: cluster.replicas is ", Replicas(), ", until more servers join");
      }
    }
    Event(now, placed, effects);
    return true;
  }
  if (!state_.command().answered()) return false;
  state_.clear_command();
  // The first group waits for every worker that is here, whether it has asked already or not.
  for (MemberRecord& record : *state_.mutable_members()) {
    if (record.member().role() == WORKER) record.set_ready(true);
  }
  if (state_.restored_from().empty()) {
    BeginEpoch(now, effects);
  } else {
    Resume(now, effects);
  }
  return true;
}

void ClusterState::Resume(TimeMs now, SchedulerEffects* effects) {
  const int closed = state_.results_size();
  if (closed > 0 && state_.results(closed - 1).epoch() == state_.epoch()) return AfterSaving(now, effects);
  state_.set_phase(TRAINING);
  BeginQueues();
  forming_since_ = -1;
  counted_at_ = now;
}

void ClusterState::BeginEpoch(TimeMs now, SchedulerEffects* effects) {
  state_.set_epoch(state_.epoch() + 1);
  state_.set_phase(TRAINING);
  EpochProgress* current = state_.mutable_current();
  current->Clear();
  if (const uint64_t limit = options_.job.train().limit_steps(); limit > 0 && options_.synchronous) {
    current->set_end_known(true);  // the latest; the data may end before
    current->set_end_step(limit - std::min(limit, static_cast<uint64_t>(state_.max_clock())));
  }
  BeginQueues();
  forming_since_ = -1;
  counted_at_ = now;
}

void ClusterState::BeginQueues() {
  const DataConfig& data = options_.job.data();
  const bool shuffle = data.train().shuffle_window() > 0;
  const uint64_t seed = Mix64(Mix64(options_.job.seed()) ^ state_.epoch());
  if (!options_.synchronous) train_.Begin(state_.epoch(), shuffle ? seed | 1 : 0);
  evaluation_.Begin(state_.epoch());
}

// Those that are a step behind come in time.
void ClusterState::EndSlowGroup(TimeMs now, SchedulerEffects* effects) {
  if (!sync_.Running()) slow_since_ = -1;
  if (slow_since_ < 0 || now - slow_since_ < 2 * options_.heartbeat_interval_ms) return;
  slow_since_ = -1;
  for (const Incarnation worker : sync_.EndSlowest()) {
    if (const auto soft = soft_.find(worker); soft != soft_.end()) soft->second.slow = true;
  }
  effects->persist = true;
}

void ClusterState::FormSyncGroup(TimeMs now, SchedulerEffects* effects) {
  if (sync_.Running() || !sync_.HasNext()) return;
  if (forming_since_ < 0) {
    forming_since_ = now;
    const TimeMs took = now - group_started_;
    if (group_full_ && took < kGroupShortMs) {
      group_steps_ = std::min(group_steps_ * 2, std::max(options_.sync_group_steps,
                                                         options_.sync_group_steps_max));
    } else if (group_full_ && took > kGroupLongMs) {
      group_steps_ = std::max(group_steps_ / 2, std::min(options_.sync_group_steps, kGroupStepsMin));
    }
    group_full_ = false;
  }
  const TimeMs patience_ms = StallTimeoutMs();
  std::vector<Incarnation> members;
  Clock start = 0;
  bool waits = false;
  for (Incarnation worker : membership_.Active(WORKER)) {
    if (!membership_.FindActive(worker)->ready()) continue;
    const auto soft = soft_.find(worker);
    const WorkPoll* poll =
        soft != soft_.end() && soft->second.work.has_value() ? &*soft->second.work : nullptr;
    if (poll == nullptr || !poll->live) {
      if (soft != soft_.end() && soft->second.slow) continue;
      waits = waits || now - forming_since_ < patience_ms;
      continue;
    }
    members.push_back(worker);
    start = std::max(start, poll->clock);
  }
  if (members.empty()) return;
  const bool leftover = sync_.NextIsLeftover();
  if (leftover) {
    members.erase(members.begin() + 1, members.end());
    start = soft_.at(members[0]).work->clock;
  } else if (waits) {
    return;
  }
  if (CheckpointDue(now, start)) BeginCheckpoint(now, start - 1, effects);
  if (AwaitsCut()) return;
  uint64_t steps = group_steps_;
  const uint64_t to_checkpoint =
      ClocksToCheckpoint(options_.job.train().checkpoint(), start, state_.checkpoint_clock());
  if (to_checkpoint > 0) steps = std::min(steps, to_checkpoint);
  sync_.Start(members, state_.epoch(), start, steps, [this] { return NextLease(); });
  for (Incarnation worker : members) {
    soft_.at(worker).advanced_at = now;
    membership_.FindActive(worker)->set_acquire_order(soft_.at(worker).order);
  }
  group_started_ = now;
  group_full_ = !leftover;
  forming_since_ = -1;
  leftover_worker_ = 0;
  effects->persist = true;
}

void ClusterState::EndEvaluation(TimeMs now, SchedulerEffects* effects) {
  EpochResult* result = state_.mutable_results(state_.results_size() - 1);
  if (!options_.valid_splits.empty()) {
    if (evaluation_.samples() == 0) {
      const auto& files = options_.job.data().valid().files();
      return Fail(now, absl::StrCat("the held-out data holds no samples that can be scored: see data.valid in the job's config",
                                    files.empty() ? "" : ": ", absl::StrJoin(files, ", ")), effects);
    }
    for (const MetricValue& metric : evaluation_.Metrics(options_.job)) {
      *result->add_metrics() = metric;
    }
  }
  const EpochDecision decision = DecideAfterEpoch(options_.job.train(), state_, *result);
  *state_.mutable_plateau() = decision.plateau;
  *state_.mutable_stop() = decision.stop;
  if (decision.best) state_.set_best_epoch(state_.epoch());
  state_.set_last_epoch(decision.last);
  state_.set_next_lr_scale(decision.lr_scale);
  Event(now, EpochLine(*result), effects);
  effects->metrics.push_back(Record("epoch", {result->metrics().begin(), result->metrics().end()}));
  if (!decision.warning.empty()) Event(now, decision.warning, effects);
  if (!decision.reason.empty()) Event(now, decision.reason, effects);
  const bool save = decision.save || CheckpointDue(now, HighestClock()) || CheckpointWanted();
  if (!save || options_.checkpoint_directory.empty()) return AfterSaving(now, effects);
  state_.set_phase(SAVING);  // checkpoint_flow.cc
}

void ClusterState::SendCommand(Command command, PendingCommand* pending) {
  state_.set_last_command(state_.last_command() + 1);
  command.set_id(state_.last_command());
  pending->Clear();
  *pending->mutable_command() = std::move(command);
  for (const Member& server : state_.routing().servers()) pending->add_waiting(server.incarnation());
}

void ClusterState::AfterSaving(TimeMs now, SchedulerEffects* effects) {
  effects->persist = true;
  if (state_.last_epoch()) {
    End(now, FINISHED);
    Event(now, absl::StrCat("finished after epoch ", state_.epoch()), effects);
  } else if (state_.next_lr_scale() != state_.lr_scale()) {
    state_.set_phase(ADJUSTING);
    Command command;
    command.mutable_set_learning_rate()->set_scale(state_.next_lr_scale());
    SendCommand(std::move(command), state_.mutable_command());
  } else {
    BeginEpoch(now, effects);
  }
}

void ClusterState::End(TimeMs now, Phase phase) {
  state_.set_phase(phase);
  state_.set_ended_unix_ms(options_.started_unix_ms + (now - started_at_));
}

void ClusterState::Fail(TimeMs now, const std::string& why, SchedulerEffects* effects) {
  if (Ended()) return;
  End(now, FAILED);
  state_.set_message(why);
  effects->persist = true;
  Event(now, absl::StrCat("failed: ", why), effects);
}

}  // namespace tidegate
