#pragma once
// Who holds a copy of which shard, as the policies work on it, and its way from and to a routing table
// (docs/decisions/0010-replication.md). Plain values.

#include <span>
#include <vector>

#include "common/types.h"
#include "proto/cluster.pb.h"

namespace tidegate {

// INVARIANT: no server twice. Any of `backups` may be promoted; `joining` may not. `successor` is one of the backups,
// and nobody joins while there is one.
struct ShardReplicas {
  Incarnation primary = 0;
  std::vector<Incarnation> backups;
  Incarnation joining = 0;    // is being filled; 0: none
  Incarnation successor = 0;  // is to lead when the primary has drained its log; 0: none
  bool handed_over = false;   // the primary came to lead that way

  size_t InSync() const { return 1 + backups.size(); }
  bool Follows(Incarnation server) const;  // as a backup
  bool Holds(Incarnation server) const;    // in any role
  bool operator==(const ShardReplicas&) const = default;
};
using ReplicaSets = std::vector<ShardReplicas>;  // by shard

ReplicaSets ReplicaSetsOf(const RoutingTable& table);

// The table that follows `old` (epoch 0: none yet): its epoch, and where a shard's primary changed the shard's,
// are the next. `backup_slots`: at least so many. `worker_set_version` counts where a primary changed. A table
// of one copy that never changed says nothing of replicas.
RoutingTable NextTable(const RoutingTable& old, const ReplicaSets& sets, std::span<const Member> servers,
                       uint32_t backup_slots, uint64_t worker_set_version);

}  // namespace tidegate
