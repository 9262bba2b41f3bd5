#pragma once
// Where the work is: a stateless policy that moves the leading of shards away from servers that have more of the
// job's rows per second than others. Counts of shards are scheduler/policy/replication.h's.

#include <cstddef>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "common/types.h"
#include "scheduler/policy/replication.h"

namespace tidegate {

struct RebalanceOptions {
  double begin = 1.3;   // of the mean: a server that has more gives away
  double end = 1.15;    // until no server has more than that
  bool begun = false;   // the last round moved something: `end` counts
  size_t moves_max = 16;
  std::set<ShardId> resting;  // moved lately
  std::set<std::pair<ShardId, Incarnation>> banned_copies;     // as in ReplicationOptions
  std::set<std::pair<Incarnation, Incarnation>> banned_links;
};

struct LoadMove {
  ShardId shard = 0;
  Incarnation to = 0;
  bool promote = false;  // `to` is a backup in sync, and is to lead; else a copy has to be made there first
  bool operator==(const LoadMove&) const = default;
};

struct RebalancePlan {
  std::vector<LoadMove> moves;       // each from the server that is busiest then, of those that can be relieved
  Incarnation busiest = 0;
  double highest = 0;                // the busiest server's load, in means; 0: there is no load
  std::optional<ShardId> too_hot;    // one shard that alone has more than the mean: no move helps
};

// `rates`: rows per second by shard, of its primary. `servers`: in rising order. Moves to a backup come first; where none
// helps, one more copy on a server with little load, which a later round promotes.
RebalancePlan PlanRebalance(std::span<const ReplicaServer> servers, const ReplicaSets& sets, std::span<const double> rates,
                            const RebalanceOptions& options);

}  // namespace tidegate
