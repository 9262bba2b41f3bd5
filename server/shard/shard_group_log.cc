// Replication in a ShardGroup.

#include "server/shard/shard_group.h"

namespace tidegate {

void ShardGroup::SetGrant(Incarnation /*backup*/, TimeMs /*until*/) {}

void ShardGroup::Acknowledged(Incarnation /*follower*/, uint64_t /*index*/, ShardEffects* /*effects*/) {}

bool ShardGroup::FillStep(size_t /*bytes*/, ShardEffects* /*effects*/) { return false; }

void ShardGroup::AppendDigests(ShardEffects* /*effects*/) {}

absl::Status ShardGroup::ApplyRecord(Incarnation /*sender*/, Epoch /*epoch*/, const wire::Record& /*record*/,
                                     const KeySelection& /*selection*/, ShardEffects* /*effects*/) {
  return absl::UnimplementedError("replication is not in this version");
}

uint64_t ShardGroup::ShardDigest(ShardId /*shard*/) const { return 0; }

bool ShardGroup::Leads(ShardId shard) const { return shard_map_.Has(shard); }

Clock ShardGroup::AppliedClock(ShardId /*shard*/) const { return applied_clock_; }

}  // namespace tidegate
