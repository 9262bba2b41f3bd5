// What follows the death of a shard's last copy (cluster.on_data_loss): the job fails, or goes on from its newest
// checkpoint as a new generation, at once or by command.
//
//   lost -> RESTORE: WantsRestore()                      the caller makes a new core (checkpoint_resume.h), or RestoreFailed
//        -> STOP, restore_wait_ms: stands still -> RestoreJob: WantsRestore()
//                                               -> the time is up: FAILED
//        -> STOP: FAILED
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/counted.h"
#include "scheduler/cluster_state.h"

namespace tidegate {
namespace {

constexpr size_t kShardsNamed = 8;
constexpr uint32_t kRestoresInRowMax = 3;

std::string FirstOf(const std::vector<ShardId>& shards) {
  const size_t named = std::min(shards.size(), kShardsNamed);
  return absl::StrCat(absl::StrJoin(shards.begin(), shards.begin() + static_cast<std::ptrdiff_t>(named), ", "),
                      named < shards.size() ? ", ..." : "");
}

}  // namespace

const CheckpointRecord* ClusterState::NewestCheckpoint() const {
  return state_.checkpoints_size() == 0 ? nullptr : &state_.checkpoints(state_.checkpoints_size() - 1);
}

RestoreCount ClusterState::NextRestore() const {
  const CheckpointRecord* newest = NewestCheckpoint();
  const bool same = newest != nullptr && newest->folder() == state_.restored_from();
  return {options_.restores.total + 1, (same ? options_.restores.in_row : 0) + 1};
}

std::string ClusterState::LossOf(const std::vector<ShardId>& lost) const {
  const size_t shards = state_.routing().shards();
  if (Replicas() == 1) {
    return absl::StrCat("with ", lost.size(), " of ", shards, " shards; without replicas they are lost");
  }
  return absl::StrCat("with the last copy in sync of ", lost.size(), " of ", shards, " shards (", FirstOf(lost),
                      "); what was acknowledged there is lost");
}

void ClusterState::LoseShards(TimeMs now, const std::string& who, std::vector<ShardId> lost, SchedulerEffects* effects) {
  const std::string what = absl::StrCat(who, LossOf(lost));
  const CheckpointRecord* newest = NewestCheckpoint();
  lost_ = std::move(lost);
  lost_at_ = now;
  if (newest == nullptr) {
    return Fail(now, absl::StrCat(what, "; there is no complete checkpoint to go on from: start the job again"), effects);
  }
  const std::string from = absl::StrCat(newest->folder(), ", after clock ", newest->clock());
  loss_ = absl::StrCat(what, ": start the job again; it resumes from ", from);
  const uint32_t in_row = NextRestore().in_row - 1;
  if (options_.job.cluster().on_data_loss() == ClusterConfig::RESTORE) {
    if (in_row >= kRestoresInRowMax) {
      return Fail(now, absl::StrCat(what, "; it was restored from ", from, ", ", Counted(in_row, "time"),
                                    " without a new complete checkpoint: that does not help"), effects);
    }
    restore_wanted_ = true;
    return Event(now, what, effects);
  }
  if (options_.restore_wait_ms <= 0) return Fail(now, loss_, effects);
  Event(now, absl::StrCat(what, ": the job stands still for ", options_.restore_wait_ms / 1000,
                          " s; `tidegate restore` has it go on from ", from), effects);
}

void ClusterState::CheckLoss(TimeMs now, SchedulerEffects* effects) {
  if (Stands() && !restore_wanted_ && now - lost_at_ >= options_.restore_wait_ms) Fail(now, loss_, effects);
}

SchedulerEffects ClusterState::Handle(TimeMs now, CallToken token, const RestoreJobRequest&) {
  SchedulerEffects effects;
  CountTime(now);
  const CheckpointRecord* newest = NewestCheckpoint();
  if (Ended()) {
    Refuse(token, absl::FailedPreconditionError(absl::StrCat(
        "the job has ended: start it again, with an empty --state and the same --checkpoint_dir",
        newest == nullptr ? "" : absl::StrCat("; it resumes from ", newest->folder()))), &effects);
  } else if (!Stands()) {
    Refuse(token, absl::FailedPreconditionError("the job has lost no shard: there is nothing to restore"), &effects);
  } else {
    restore_wanted_ = true;
    RestoreJobResponse response;
    response.set_folder(newest->folder());
    response.set_clock(newest->clock());
    Reply(token, std::move(response), &effects);
  }
  return Finish(now, std::move(effects));
}

SchedulerEffects ClusterState::RestoreFailed(TimeMs now, const absl::Status& status) {
  SchedulerEffects effects;
  CountTime(now);
  restore_wanted_ = false;
  const std::string why = absl::StrCat("no checkpoint can be gone on from: ", std::string(status.message()));
  if (options_.job.cluster().on_data_loss() == ClusterConfig::RESTORE) {
    Fail(now, absl::StrCat(loss_, "; ", why), &effects);
  } else {
    Event(now, why, &effects);
  }
  return Finish(now, std::move(effects));
}

}  // namespace tidegate
