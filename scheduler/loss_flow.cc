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

uint32_t ClusterState::RestoresInRow(const SchedulerState& state) {
  const auto& records = state.checkpoints();
  return !records.empty() && records.rbegin()->folder() == state.restored_from() ? state.restores_in_row() : 0;
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
  const uint32_t in_row = RestoresInRow(state_);
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

// The table of a term that ended while the job stood still.
void ClusterState::LoseOrphans(TimeMs now, SchedulerEffects* effects) {
  if (Ended() || state_.routing().epoch() == 0) return;
  std::vector<ShardId> lost;
  for (int shard = 0; shard < state_.routing().primary_size(); ++shard) {
    if (membership_.FindActive(state_.routing().primary(shard)) == nullptr) lost.push_back(static_cast<ShardId>(shard));
  }
  if (lost.empty()) return;
  std::string who = "a server is gone ";
  for (const MemberRecord& record : state_.members()) {
    const Member& member = record.member();
    if (member.incarnation() != state_.routing().primary(static_cast<int>(lost[0]))) continue;
    who = absl::StrCat(DescribeMember(member), " at ", member.address(), record.state() == MemberRecord::LEFT ? " left " : " is dead ");
  }
  LoseShards(now, who, std::move(lost), effects);
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
