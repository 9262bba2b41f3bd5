#include "server/replication/grants.h"

#include <algorithm>

namespace tidegate {

bool GivenGrants::Give(Incarnation primary, Epoch epoch, TimeMs now) {
  if (epoch < epoch_) return false;
  TimeMs& last = given_[primary];
  last = std::max(last, now);
  return true;
}

TimeMs GivenGrants::TakeRouting(const Routing* old, const Routing& next, Incarnation self) {
  if (next.epoch() <= epoch_) return 0;
  const bool consecutive = old != nullptr && old->epoch() + 1 == next.epoch() && old->shards() == next.shards();
  epoch_ = next.epoch();
  TimeMs end = 0;
  const auto wait_for = [&](Incarnation primary) {
    const auto it = given_.find(primary);
    if (it != given_.end() && primary != self) end = std::max(end, EndOf(it->second));
  };
  for (ShardId shard = 0; shard < next.shards(); ++shard) {
    if (next.PrimaryOf(shard) != self || next.WasHandedOver(shard)) continue;
    if (old != nullptr && shard < old->shards() && old->PrimaryOf(shard) == self &&
        old->ShardEpoch(shard) == next.ShardEpoch(shard)) {
      continue;
    }
    if (consecutive) {
      wait_for(old->PrimaryOf(shard));
      continue;
    }
    // Tables between the two may have had another primary, whom we do not know.
    for (const auto& [primary, given] : given_) end = std::max(end, primary == self ? 0 : EndOf(given));
    break;
  }
  // A grant that has run out by any clock is never looked at again; who left the table gets no more.
  return end;
}

}  // namespace tidegate
