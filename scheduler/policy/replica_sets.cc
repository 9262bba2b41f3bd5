#include "scheduler/policy/replica_sets.h"

#include <algorithm>

namespace tidegate {

bool ShardReplicas::Follows(Incarnation server) const {
  return std::find(backups.begin(), backups.end(), server) != backups.end();
}

bool ShardReplicas::Holds(Incarnation server) const {
  return primary == server || joining == server || Follows(server);
}

ReplicaSets ReplicaSetsOf(const RoutingTable& table) {
  ReplicaSets sets(table.primary_size());
  const int slots = static_cast<int>(table.backup_slots());
  for (int shard = 0; shard < table.primary_size(); ++shard) {
    ShardReplicas& set = sets[shard];
    set.primary = table.primary(shard);
    for (int slot = 0; slot < slots; ++slot) {
      const Incarnation backup = table.backups(shard * slots + slot);
      if (backup != 0) set.backups.push_back(backup);
    }
    if (table.joining_size() > 0) set.joining = table.joining(shard);
    if (table.successor_size() > 0) set.successor = table.successor(shard);
    const Epoch drained = table.drained_epoch_size() > 0 ? table.drained_epoch(shard) : 0;
    set.handed_over = drained != 0 && table.shard_epoch_size() > 0 && drained == table.shard_epoch(shard);
  }
  return sets;
}

RoutingTable NextTable(const RoutingTable& old, const ReplicaSets& sets, std::span<const Member> servers,
                       uint32_t backup_slots, uint64_t worker_set_version) {
  RoutingTable table;
  const Epoch epoch = old.epoch() + 1;
  table.set_epoch(epoch);
  table.set_shards(static_cast<uint32_t>(sets.size()));
  for (const Member& server : servers) *table.add_servers() = server;
  bool replicated = backup_slots > 0, promoted = old.epoch() == 0, succession = false, handed_over = false;
  size_t slots = backup_slots;
  for (const ShardReplicas& set : sets) {
    slots = std::max(slots, set.backups.size());
    replicated = replicated || set.joining != 0;
    succession = succession || set.successor != 0;
    handed_over = handed_over || set.handed_over;
  }
  replicated = replicated || slots > 0 || old.shard_epoch_size() > 0;
  table.set_backup_slots(static_cast<uint32_t>(slots));
  table.mutable_primary()->Reserve(static_cast<int>(sets.size()));
  table.mutable_shard_epoch()->Reserve(static_cast<int>(sets.size()));
  table.mutable_backups()->Reserve(static_cast<int>(sets.size() * slots));
  for (size_t shard = 0; shard < sets.size(); ++shard) {
    const ShardReplicas& set = sets[shard];
    const int i = static_cast<int>(shard);
    const bool same = old.epoch() != 0 && old.primary(i) == set.primary;
    promoted = promoted || !same;
    table.add_primary(set.primary);
    // A table of one copy that never changed does not say it: its primaries are as of epoch 1.
    const Epoch before = i < old.shard_epoch_size() ? old.shard_epoch(i) : 1;
    if (!replicated) continue;
    table.add_shard_epoch(same ? before : epoch);
    for (size_t slot = 0; slot < slots; ++slot) {
      table.add_backups(slot < set.backups.size() ? set.backups[slot] : 0);
    }
    table.add_joining(set.joining);
    if (succession) table.add_successor(set.successor);
    if (handed_over) table.add_drained_epoch(set.handed_over ? table.shard_epoch(i) : 0);
  }
  if (!replicated) return table;
  table.set_primary_epoch(promoted ? epoch : std::max<Epoch>(1, old.primary_epoch()));
  table.set_worker_set_version(promoted ? worker_set_version : old.worker_set_version());
  return table;
}

}  // namespace tidegate
