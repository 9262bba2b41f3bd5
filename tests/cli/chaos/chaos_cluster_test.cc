#include "cli/chaos/chaos_cluster.h"

#include <catch2/catch.hpp>

namespace tidegate::cli {

TEST_CASE("shards with too few replicas are counted") {
  RoutingTable routing;
  routing.set_shards(4);
  for (uint64_t p : {1, 2, 1, 2}) routing.add_primary(p);
  CHECK(DegradedShards(routing, 1) == 0);
  CHECK(DegradedShards(routing, 2) == 4);  // a table that knows no backups
  routing.set_backup_slots(2);
  for (uint64_t b : {2, 3, 0, 1, 0, 0, 3, 0}) routing.add_backups(b);
  CHECK(DegradedShards(routing, 2) == 1);
  CHECK(DegradedShards(routing, 3) == 3);
}

TEST_CASE("shards between a primary and its backup") {
  RoutingTable routing;
  for (uint64_t p : {1, 2, 1, 1}) routing.add_primary(p);
  routing.set_backup_slots(2);
  for (uint64_t b : {2, 3, 1, 0, 0, 2, 3, 0}) routing.add_backups(b);
  CHECK(ShardsBetween(routing, 1, 0) == std::set<ShardId>{0, 2, 3});
  CHECK(ShardsBetween(routing, 1, 2) == std::set<ShardId>{0, 2});
  CHECK(ShardsBetween(routing, 2, 3).empty());
}

TEST_CASE("primaries are counted by server") {
  RoutingTable routing;
  for (uint64_t p : {7, 2, 7, 7}) routing.add_primary(p);
  CHECK(PrimariesOf(routing) == std::map<Incarnation, int>{{2, 1}, {7, 3}});
}

}  // namespace tidegate::cli
