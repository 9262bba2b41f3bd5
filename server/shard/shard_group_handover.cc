// ShardGroup: shards that go to a successor which routing names. Their log is drained; then the scheduler makes the
// successor their primary, and all replicas stay in sync (docs/decisions/0010-replication.md).

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/shard/shard_group.h"

namespace tidegate {

bool ShardGroup::ChangeHandovers(const Routing& routing, ShardEffects* effects) {
  handovers_ = 0;
  bool given_up = false;
  for (uint32_t local = 0; local < replicas_.size(); ++local) {
    Replica& replica = replicas_[local];
    const bool was_handing_over = replica.handing_over;
    replica.handing_over = replica.led && routing.SuccessorOf(shard_map_.shards()[local]) != 0;
    if (!replica.handing_over) {
      given_up = given_up || (was_handing_over && replica.led);
      replica.drained = false;
      replica.drains.clear();
      continue;
    }
    ++handovers_;
    if (!was_handing_over) replica.drains = log_.Unacknowledged(local);
    if (replica.drained) effects->drained.push_back(shard_map_.shards()[local]);
  }
  HandoverStep(effects);
  return given_up;
}

bool ShardGroup::HandoverStep(ShardEffects* effects) {
  bool open = false;
  for (uint32_t local = 0; local < replicas_.size() && handovers_ > 0; ++local) {
    Replica& replica = replicas_[local];
    if (!replica.handing_over || replica.drained) continue;
    std::erase_if(replica.drains, [&](const ReplicaLog::Place& place) { return log_.IsPassed(place, local); });
    // Until its predecessor's grants have run out that one may serve: the successor waits for no grant.
    replica.drained = replica.drains.empty() && now_ >= replica.serves_from;
    if (replica.drained) effects->drained.push_back(shard_map_.shards()[local]);
    open = open || !replica.drained;
  }
  return open;
}

absl::Status ShardGroup::CheckHandovers(std::span<const uint8_t> touched, bool writes) const {
  for (uint32_t local = 0; local < touched.size() && handovers_ > 0; ++local) {
    const Replica& replica = replicas_[local];
    if (touched[local] == 0 || !(writes ? replica.handing_over : replica.drained)) continue;
    return absl::UnavailableError(
        absl::StrCat("is handed over: shard ", shard_map_.shards()[local], " is about to be led by another server"));
  }
  return absl::OkStatus();
}

}  // namespace tidegate
