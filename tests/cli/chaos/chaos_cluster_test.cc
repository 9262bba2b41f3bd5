#include "cli/chaos/chaos_cluster.h"

#include <catch2/catch.hpp>

namespace tidegate::cli {

TEST_CASE("shards between a primary and its backup, and those that have no copy on a server") {
  RoutingTable routing;
  routing.set_epoch(1);
  routing.set_shards(4);
  for (uint64_t s : {1, 2, 3}) {
    Member* server = routing.add_servers();
    server->set_incarnation(s);
    server->set_role(SERVER);
    server->set_address("127.0.0.1:" + std::to_string(1000 + s));
  }
  for (uint64_t p : {1, 2, 1, 1}) routing.add_primary(p);
  routing.set_backup_slots(2);
  for (uint64_t b : {2, 3, 1, 0, 3, 2, 3, 0}) routing.add_backups(b);
  for (int shard = 0; shard < 4; ++shard) {
    routing.add_joining(0);
    routing.add_shard_epoch(1);
  }
  routing.set_primary_epoch(1);
  CHECK(*ShardsBetween(routing, 1, 0) == std::set<ShardId>{0, 2, 3});
  CHECK(*ShardsBetween(routing, 1, 2) == std::set<ShardId>{0, 2});
  CHECK(ShardsBetween(routing, 2, 3)->empty());
  CHECK(*ShardsWithout(routing, {3}) == std::set<ShardId>{1});
  CHECK(*ShardsWithout(routing, {2}) == std::set<ShardId>{3});
  CHECK(ShardsWithout(routing, {2, 3})->empty());
  routing.set_primary(0, 9);
  CHECK_FALSE(ShardsBetween(routing, 1, 0).ok());
  CHECK_FALSE(ShardsWithout(routing, {3}).ok());
}

}  // namespace tidegate::cli
