#pragma once
// Which servers hold copies of which shards: stateless policies, a snapshot in, the next one out. Recovery,
// scale-out, draining and rebalancing are all made of three steps: add a copy (it joins, is filled, and is in
// sync), promote one that is in sync, drop one (docs/design.md, section 7).
//
// A death's promotion leaves the new primary alone in sync: the others may hold entries that it lacks, so they are
// filled anew, one at a time. A planned one is a handover: the shard gets a successor, the primary drains its log and
// says so, then the successor leads, and every copy stays in sync. At any step before, the successor may be taken back.

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/types.h"
#include "scheduler/policy/replica_sets.h"

namespace tidegate {

// A server that is alive, as of a snapshot.
struct ReplicaServer {
  Incarnation incarnation = 0;
  std::string zone;       // failure domain; empty: none named
  bool draining = false;  // gets nothing new, and gives away what it has
  bool suspect = false;   // was not heard lately: promoted only where nobody else can be
  uint64_t seen_probe = 0;  // it has lived since this one was sent
};

struct ReplicationOptions {
  uint32_t replicas = 1;
  uint32_t fills_max = 64;        // at a time, into a server and out of one
  uint32_t handovers_max = 64;    // at a time, to a server and from one
  bool may_promote = true;   // planned promotions; else those under way are given up
  bool may_drop = true;      // copies beyond `replicas`
  bool may_level = true;     // those for the sake of level primaries
  std::set<std::pair<ShardId, Incarnation>> banned_copies;         // not to be made now
  std::set<std::pair<Incarnation, Incarnation>> banned_links;      // primary, follower: do not reach each other
};

// Contiguous ranges of primaries in the order of `servers`; each range has few servers that follow it, of other
// zones where there are any; primaries and copies are level. REQUIRES: servers not empty.
ReplicaSets PlaceReplicas(uint32_t shards, std::span<const ReplicaServer> servers, uint32_t replicas);

// Takes the copies of `dead` out, and promotes where they were primaries: of the backups that are neither dead
// nor suspect, and have seen `probe`, the one with the fewest primaries. `servers`: those that are left, in rising order.
struct RemovalResult {
  std::vector<ShardId> lost;  // nobody else was in sync; their primary stays as it was
  size_t promoted = 0;
};
RemovalResult RemoveServers(const std::set<Incarnation>& dead, std::span<const ReplicaServer> servers, uint64_t probe,
                            ReplicaSets* sets);

// A primary says that `server` is filled, and waits for it. False where it is not joining.
bool TakeInSync(ShardId shard, Incarnation server, ReplicaSets* sets);
// Its primary says that it has drained the shard: the successor leads. The old primary stays as a backup, where there
// are several copies. False where there is no successor.
bool TakeDrained(ShardId shard, uint32_t replicas, ReplicaSets* sets);
// A copy that cannot follow any more is neither promoted nor waited for. False where there is none, or it leads.
bool TakeOut(ShardId shard, Incarnation server, ReplicaSets* sets);

// The next steps towards `replicas` copies of each shard (or as many as there are servers) on level servers, none
// of them draining. Called again after each change it comes to an end: then it is false, and nothing changes.
// `servers`: in rising order. `drops`: the shards that are to have a copy less, each with the probe that `replicas` of the
// others have to have seen first; 0: it is to be sent. Null: who is heard is taken to live.
using PendingDrops = std::map<ShardId, uint64_t>;
bool PlanReplicas(std::span<const ReplicaServer> servers, const ReplicationOptions& options, ReplicaSets* sets,
                  PendingDrops* drops);

// Shards with fewer copies in sync than `replicas`.
size_t CountDegraded(const ReplicaSets& sets, uint32_t replicas);

}  // namespace tidegate
