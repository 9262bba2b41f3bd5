#include "scheduler/checkpoint_resume.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/job_config/same_job.h"

namespace tidegate {
namespace {

absl::Status Refuse(const StoredCheckpoint& from, const std::string& why) {
  return absl::FailedPreconditionError(
      absl::StrCat("cannot resume from ", from.folder, ": ", why,
                   "; bring that back, name another --checkpoint_dir, or start anew with --fresh"));
}

// Of each file its size as far as splits tell, in order of first mention.
std::map<std::string, uint64_t> SizesOf(const google::protobuf::RepeatedPtrField<Split>& splits) {
  std::map<std::string, uint64_t> sizes;
  for (const Split& split : splits) {
    uint64_t& size = sizes[split.file()];
    size = std::max<uint64_t>(size, split.end());
  }
  return sizes;
}

std::string DataDifference(const google::protobuf::RepeatedPtrField<Split>& before,
                           const std::vector<Split>& now) {
  google::protobuf::RepeatedPtrField<Split> other;
  other.Assign(now.begin(), now.end());
  const std::map<std::string, uint64_t> old_sizes = SizesOf(before), new_sizes = SizesOf(other);
  for (const auto& [file, size] : old_sizes) {
    const auto found = new_sizes.find(file);
    if (found == new_sizes.end()) return absl::StrCat("training file ", file, " is gone");
    if (found->second != size) {
      return absl::StrCat("training data ", file, " had ", size, " bytes, and has ", found->second);
    }
  }
  for (const auto& [file, size] : new_sizes) {
    if (!old_sizes.contains(file)) return absl::StrCat("training file ", file, " is new");
  }
  return "";
}

bool StoppedEarly(const TrainConfig& train, const JobProgress& progress) {
  return train.has_stop() && train.stop().patience() > 0 &&
         progress.stop().bad_epochs() >= train.stop().patience();
}

void TakeProgress(const JobProgress& progress, SchedulerState* state) {
  state->set_epoch(progress.epoch());
  state->set_lr_scale(progress.lr_scale());
  state->set_next_lr_scale(progress.next_lr_scale());
  *state->mutable_current() = progress.current();
  *state->mutable_results() = progress.results();
  *state->mutable_plateau() = progress.plateau();
  *state->mutable_stop() = progress.stop();
  state->set_best_epoch(progress.best_epoch());
  state->set_steps_per_epoch(progress.steps_per_epoch());
  *state->mutable_train_splits() = progress.train_splits();
}

}  // namespace

absl::StatusOr<SchedulerState> ResumeFrom(const std::vector<StoredCheckpoint>& stored,
                                          const SchedulerOptions& options) {
  const StoredCheckpoint& from = stored.back();
  const CheckpointManifest& manifest = from.manifest;
  const JobProgress& progress = manifest.progress();
  if (!manifest.has_progress() || progress.epoch() == 0) {
    return Refuse(from, "it does not say how far its job was (written by an older version)");
  }
  JobConfig before;
  if (!before.ParseFromString(manifest.job_config())) return Refuse(from, "its config cannot be read");
  if (const std::string diff = JobDifferences(before, options.job); !diff.empty()) {
    return Refuse(from, absl::StrCat("it is of a job with another config:\n", diff));
  }
  if (const std::string diff = DataDifference(progress.train_splits(), options.train_splits); !diff.empty()) {
    return Refuse(from, diff);
  }
  SchedulerState state;
  state.set_format(1);
  state.set_job(options.job.name());
  state.set_config_fingerprint(options.config_fingerprint);
  state.set_generation(options.generation);
  *state.mutable_tables() = manifest.tables();
  TakeProgress(progress, &state);
  state.set_restored_from(from.folder);
  state.set_restored_clock(manifest.clock());
  state.set_max_clock(manifest.clock() + 1);
  state.set_checkpoint_clock(manifest.clock() + 1);
  state.set_last_checkpoint(manifest.number());
  for (const StoredCheckpoint& checkpoint : stored) {
    CheckpointRecord* record = state.add_checkpoints();
    record->set_number(checkpoint.manifest.number());
    record->set_folder(checkpoint.folder);
    record->set_epoch(checkpoint.manifest.progress().epoch());
    record->set_clock(checkpoint.manifest.clock());
    record->set_best(checkpoint.manifest.best());
    record->set_base(checkpoint.manifest.base());
    if (record->best() || state.best_epoch() == 0) state.set_checkpoint(record->folder());
  }
  if (state.checkpoint().empty()) state.set_checkpoint(from.folder);
  const TrainConfig& train = options.job.train();
  const bool complete = progress.phase() == SAVING;
  const bool limit_reached = train.limit_steps() > 0 && state.max_clock() >= static_cast<Clock>(train.limit_steps());
  state.set_last_epoch(complete && (progress.epoch() >= train.epochs() || limit_reached || StoppedEarly(train, progress)));
  const uint32_t epochs_done = progress.epoch() - (complete ? 0 : 1);
  if (state.last_epoch() || epochs_done >= train.epochs()) {
    state.set_phase(FINISHED);
    state.set_last_epoch(true);
  }
  return state;
}

absl::StatusOr<SchedulerState> RestoredState(const std::vector<StoredCheckpoint>& stored, const SchedulerOptions& options,
                                             const SchedulerState& lost) {
  const auto& records = lost.checkpoints();
  std::vector<StoredCheckpoint> own;
  for (const StoredCheckpoint& checkpoint : stored) {
    const bool known = std::any_of(records.begin(), records.end(),
                                   [&](const CheckpointRecord& r) { return r.folder() == checkpoint.folder; });
    if (known) own.push_back(checkpoint);
  }
  if (own.empty()) return absl::NotFoundError(absl::StrCat("the job's checkpoints are gone from ", options.checkpoint_directory));
  auto state = ResumeFrom(own, options);
  if (!state.ok()) return state;
  state->set_term(lost.term());
  state->set_last_incarnation(lost.last_incarnation());
  state->set_worker_set_version(lost.worker_set_version());
  state->set_last_command(lost.last_command());
  state->set_failovers(lost.failovers());
  state->set_restores(lost.restores() + 1);
  state->set_restores_in_row(ClusterState::RestoresInRow(lost) + 1);
  *state->mutable_events() = lost.events();
  state->set_events_total(lost.events_total());
  state->set_last_checkpoint(lost.last_checkpoint());
  state->set_checkpoint_failures(lost.checkpoint_failures());
  // One that was being made: servers of before may still write into its folder, so the next has another name.
  state->set_checkpoint_failed(lost.has_saving() ? lost.saving().number() : lost.checkpoint_failed());
  if (lost.has_saving()) state->set_checkpoint_error("shards were lost while it was made");
  return state;
}

}  // namespace tidegate
