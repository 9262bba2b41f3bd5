// Checkpoints while a job runs. One at a time:
//
//   due -> progress taken, CutShards sent -> every server knows of the cut -> WriteCheckpoint sent
//       -> every server has written its files -> MANIFEST -> complete
//
// The progress is taken before any shard is cut, and work counts as done only when its pushes are
// acknowledged: so every shard's cut holds the pushes of all work that the progress calls done. With
// staleness > 0 it also holds some of the work that was under way, which a resumed job does again.
// At staleness 0 the cut is at the clock between two groups of steps, and the next group starts when
// every server knows of it: the cut is exactly the steps that the progress calls done.
// A checkpoint that fails changes nothing: the job goes on, and the ones before it stay.
#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/cluster_state.h"
#include "scheduler/policy/checkpoint_policy.h"

namespace tidegate {

JobProgress ClusterState::Progress() const {
  JobProgress progress;
  progress.set_phase(state_.phase());
  progress.set_epoch(state_.epoch());
  progress.set_lr_scale(state_.lr_scale());
  progress.set_next_lr_scale(state_.next_lr_scale());
  if (state_.phase() == TRAINING) *progress.mutable_current() = state_.current();
  progress.mutable_current()->clear_leases();
  *progress.mutable_results() = state_.results();
  *progress.mutable_plateau() = state_.plateau();
  *progress.mutable_stop() = state_.stop();
  progress.set_last_epoch(state_.last_epoch());
  progress.set_best_epoch(state_.best_epoch());
  progress.set_max_clock(state_.max_clock());
  progress.set_steps_per_epoch(state_.steps_per_epoch());
  progress.mutable_train_splits()->Assign(options_.train_splits.begin(), options_.train_splits.end());
  return progress;
}

bool ClusterState::CheckpointWanted() const {
  return !options_.checkpoint_directory.empty() && state_.checkpoint_wanted() > state_.last_checkpoint();
}

bool ClusterState::CheckpointDue(TimeMs now, Clock next_clock) const {
  if (options_.checkpoint_directory.empty() || state_.has_saving()) return false;
  return CheckpointWanted() || IsCheckpointDue(options_.job.train().checkpoint(), now - checkpoint_begun_at_,
                                               next_clock, state_.checkpoint_clock());
}

std::string ClusterState::FolderOf(const SavingRecord& saving) const {
  return absl::StrCat(options_.checkpoint_directory, "/", saving.name());
}

// Servers write a shard whole where they do not know what changed since: after a promotion, or after this base was followed by
// one that failed. The job's result and the best epoch's checkpoint stand for themselves.
const CheckpointRecord* ClusterState::BaseOf(const SavingRecord& saving) const {
  const CheckpointRecord* newest = NewestCheckpoint();
  const bool result = saving.best() || (state_.phase() != TRAINING && state_.last_epoch());
  if (newest == nullptr || result || newest->folder() == state_.restored_from()) return nullptr;
  return ChainLength(state_.checkpoints(), *newest) < options_.job.train().checkpoint().full_every() ? newest : nullptr;
}

void ClusterState::BeginCheckpoint(TimeMs now, Clock cut_clock, SchedulerEffects* effects) {
  const bool after_epoch = state_.phase() != TRAINING;
  state_.set_last_checkpoint(state_.last_checkpoint() + 1);
  state_.set_checkpoint_clock(cut_clock == kNoBound ? HighestClock() : cut_clock + 1);
  checkpoint_begun_at_ = now;
  SavingRecord* saving = state_.mutable_saving();
  saving->Clear();
  saving->set_number(state_.last_checkpoint());
  saving->set_clock(cut_clock);
  *saving->mutable_progress() = Progress();
  saving->set_best(after_epoch && KeepsBest() && state_.best_epoch() == state_.epoch());
  char name[48];
  if (after_epoch) {
    std::snprintf(name, sizeof(name), "epoch-%05u", state_.epoch());
  } else {
    std::snprintf(name, sizeof(name), "clock-%012lld", static_cast<long long>(state_.checkpoint_clock()));
  }
  saving->set_name(name);
  // By command there may be two at one clock: a complete one is never written over. Nor is one that failed just
  // now: its folder is being removed.
  const auto& records = state_.checkpoints();
  const bool failed_before = state_.checkpoint_failed() != 0 && state_.checkpoint_failed() + 1 == saving->number();
  if (failed_before || std::any_of(records.begin(), records.end(),
                                   [&](const CheckpointRecord& r) { return r.folder() == FolderOf(*saving); })) {
    saving->set_name(absl::StrCat(name, "-", saving->number()));
  }
  Command command;
  command.mutable_cut_shards()->set_number(saving->number());
  command.mutable_cut_shards()->set_clock(cut_clock);
  if (const CheckpointRecord* base = BaseOf(*saving)) command.mutable_cut_shards()->set_base(base->number());
  SendCommand(std::move(command), saving->mutable_command());
  manifest_ordered_ = false;
  effects->persist = true;
}

bool ClusterState::AdvanceCheckpoint(TimeMs now, SchedulerEffects* effects) {
  if (Ended()) return false;
  if (!state_.has_saving()) {
    if (state_.phase() == SAVING) {
      BeginCheckpoint(now, kNoBound, effects);
      return true;
    }
    // At staleness 0 only between groups (FormSyncGroup).
    if (state_.phase() != TRAINING || options_.synchronous || TrainingDone()) return false;
    const Clock highest = HighestClock();
    if (!CheckpointDue(now, highest)) return false;
    BeginCheckpoint(now, options_.bounded ? highest - 1 : kNoBound, effects);
    return true;
  }
  SavingRecord* saving = state_.mutable_saving();
  if (!saving->command().answered()) return false;
  if (state_.checkpoint_failed() == saving->number()) {
    CheckpointFailed(now, state_.checkpoint_error(), effects);
    return true;
  }
  if (!saving->cut()) {
    saving->set_cut(true);
    const uint64_t base = saving->command().command().cut_shards().base();
    Command command;
    command.mutable_write_checkpoint()->set_directory(options_.checkpoint_directory);
    command.mutable_write_checkpoint()->set_name(saving->name());
    command.mutable_write_checkpoint()->set_number(saving->number());
    for (const CheckpointRecord& record : state_.checkpoints()) {
      if (record.number() != base) continue;
      command.mutable_write_checkpoint()->set_base(base);
      command.mutable_write_checkpoint()->set_base_folder(record.folder().substr(record.folder().rfind('/') + 1));
    }
    SendCommand(std::move(command), saving->mutable_command());
    return true;
  }
  if (manifest_ordered_) return false;
  const uint32_t shards = state_.routing().shards();
  if (std::cmp_not_equal(saving->command().files_size(), shards)) {
    CheckpointFailed(now, absl::StrCat(saving->command().files_size(), " of ", shards, " shards were written"), effects, /*again=*/true);
    return true;
  }
  OrderManifest(effects);
  return false;
}

Clock ClusterState::ClockOf(const SavingRecord& saving) {
  Clock clock = saving.progress().max_clock() - 1;
  for (const CheckpointFile& file : saving.command().files()) clock = std::max(clock, file.clock());
  return clock;
}

void ClusterState::OrderManifest(SchedulerEffects* effects) {
  manifest_ordered_ = true;
  const SavingRecord& saving = state_.saving();
  const JobProgress& progress = saving.progress();
  ManifestOrder order;
  order.directory = FolderOf(saving);
  CheckpointManifest* m = &order.manifest;
  const WriteCheckpoint& written = saving.command().command().write_checkpoint();
  m->set_format(written.base() == 0 ? 1 : 2);
  m->set_base(written.base());
  m->set_base_folder(written.base_folder());
  m->set_version(options_.version);
  m->set_job_config(job_bytes_);
  m->set_generation(state_.generation());
  m->set_number(saving.number());
  m->set_best(saving.best());
  *m->mutable_progress() = progress;
  m->set_clock(ClockOf(saving));
  m->set_shards(state_.routing().shards());
  *m->mutable_tables() = state_.tables();
  *m->mutable_files() = saving.command().files();
  std::sort(m->mutable_files()->begin(), m->mutable_files()->end(),
            [](const CheckpointFile& a, const CheckpointFile& b) { return a.shard() < b.shard(); });
  if (progress.results_size() > 0) {
    const EpochResult& result = progress.results(progress.results_size() - 1);
    m->set_epoch(result.epoch());
    *m->mutable_metrics() = result.metrics();
  }
  effects->manifest = std::move(order);
}

SchedulerEffects ClusterState::ManifestWritten(TimeMs now, const absl::Status& status) {
  SchedulerEffects effects;
  CountTime(now);
  if (!state_.has_saving() || !state_.saving().cut() || !state_.saving().command().answered() || Ended()) {
    return Finish(now, std::move(effects));
  }
  manifest_ordered_ = false;
  if (!status.ok()) {
    CheckpointFailed(now, absl::StrCat("its manifest cannot be written: ", std::string(status.message())),
                     &effects);
    return Finish(now, std::move(effects));
  }
  const SavingRecord saving = state_.saving();
  state_.clear_saving();
  CheckpointRecord* record = state_.add_checkpoints();
  record->set_number(saving.number());
  record->set_folder(FolderOf(saving));
  record->set_epoch(saving.progress().epoch());
  record->set_clock(ClockOf(saving));
  record->set_best(saving.best());
  record->set_base(saving.command().command().write_checkpoint().base());
  Event(now, absl::StrCat("checkpoint ", record->folder(), " is complete", record->base() == 0 ? "" : ", incremental"), &effects);
  TakeStock(&effects);
  if (state_.phase() == SAVING && saving.progress().phase() == SAVING) AfterSaving(now, &effects);
  return Finish(now, std::move(effects));
}

void ClusterState::TakeStock(SchedulerEffects* effects) {
  auto* records = state_.mutable_checkpoints();
  for (const CheckpointRecord& old :
       SupersededCheckpoints(*records, options_.job.train().checkpoint().keep())) {
    effects->remove_checkpoints.push_back(old.folder());
    const auto it = std::find_if(records->begin(), records->end(),
                                 [&](const CheckpointRecord& r) { return r.number() == old.number(); });
    records->erase(it);
  }
  // What people are told of: the best epoch's, else the newest.
  state_.set_checkpoint("");
  for (const CheckpointRecord& record : *records) {
    if (record.best()) state_.set_checkpoint(record.folder());
  }
  if (state_.checkpoint().empty() && !records->empty()) {
    state_.set_checkpoint(records->rbegin()->folder());
  }
}

bool ClusterState::KeepsBest() const {
  return options_.job.train().has_stop() && options_.job.train().stop().keep() == EarlyStop::BEST;
}

void ClusterState::CheckpointFailed(TimeMs now, const std::string& why, SchedulerEffects* effects, bool again) {
  const SavingRecord saving = state_.saving();
  const std::string folder = FolderOf(saving);
  state_.clear_saving();
  manifest_ordered_ = false;
  state_.set_checkpoint_failures(state_.checkpoint_failures() + 1);
  state_.set_checkpoint_failed(saving.number());
  state_.set_checkpoint_error(why);
  effects->remove_checkpoints.push_back(folder);
  effects->persist = true;
  const std::string what = absl::StrCat("the checkpoint ", folder, " could not be made: ", why);
  if (again) return Event(now, absl::StrCat(what, state_.phase() == SAVING ? "; it is made again" : "; the job goes on"), effects);
  if (state_.phase() == SAVING && saving.progress().phase() == SAVING) {
    if (state_.last_epoch()) return Fail(now, what, effects);  // it is the job's result
    Event(now, absl::StrCat(what, "; the job goes on"), effects);
    return AfterSaving(now, effects);
  }
  Event(now, absl::StrCat(what, "; the job goes on"), effects);
}

SchedulerEffects ClusterState::Handle(TimeMs now, CallToken token, const SaveCheckpointRequest& request) {
  SchedulerEffects effects;
  CountTime(now);
  if (Ended()) {
    Refuse(token, absl::FailedPreconditionError(absl::StrCat("the job has ended; its checkpoint is ",
                                                             state_.checkpoint())),
           &effects);
  } else if (options_.checkpoint_directory.empty()) {
    Refuse(token, absl::FailedPreconditionError("the job has no folder for checkpoints: see --checkpoint_dir"),
           &effects);
  } else {
    state_.set_checkpoint_wanted(state_.last_checkpoint() + 1);
    effects.persist = true;
    SaveCheckpointResponse response;
    response.set_number(state_.checkpoint_wanted());
    Reply(token, std::move(response), &effects);
  }
  return Finish(now, std::move(effects));
}

void ClusterState::FillCheckpointStatus(CheckpointStatus* status) const {
  if (state_.checkpoints_size() > 0) {
    const CheckpointRecord& newest = state_.checkpoints(state_.checkpoints_size() - 1);
    status->set_complete_number(newest.number());
    status->set_folder(newest.folder());
  }
  status->set_failed_number(state_.checkpoint_failed());
  status->set_error(state_.checkpoint_error());
  status->set_failures(state_.checkpoint_failures());
  status->set_saving(state_.has_saving());
  status->set_restored_from(state_.restored_from());
}

}  // namespace tidegate
