#include "common/routing_table.h"

#include <catch2/catch.hpp>

namespace tidegate {
namespace {
RoutingTable TwoServers() {
  RoutingTable t;
  t.set_epoch(3);
  t.set_shards(4);
  for (uint64_t p : {9, 5, 9, 5}) t.add_primary(p);
  for (uint64_t i : {9, 5}) {
    Member* m = t.add_servers();
    m->set_incarnation(i);
    m->set_address("127.0.0.1:" + std::to_string(i));
  }
  return t;
}
}  // namespace

TEST_CASE("routing maps shards to servers in order of incarnation") {
  auto r = Routing::FromProto(TwoServers());
  REQUIRE(r.ok());
  CHECK(r->epoch() == 3);
  CHECK(r->servers()[0].incarnation == 5);
  CHECK(r->ServerOfShard(0) == 1);
  CHECK(r->ServerOfShard(1) == 0);
  CHECK(r->ShardsOf(5) == std::vector<ShardId>{1, 3});
  CHECK(r->ShardsOf(77).empty());
}

TEST_CASE("routing names backups and joining replicas") {
  RoutingTable t = TwoServers();
  for (uint64_t i : {7, 3}) {
    Member* m = t.add_servers();
    m->set_incarnation(i);
  }
  t.set_backup_slots(2);
  for (uint64_t b : {5, 7, 0, 7, 0, 0, 9, 0}) t.add_backups(b);
  for (uint64_t j : {3, 0, 5, 0}) t.add_joining(j);
  for (uint64_t s : {0, 7, 0, 0}) t.add_successor(s);
  for (uint64_t e : {1, 1, 3, 2}) t.add_shard_epoch(e);
  for (uint64_t e : {0, 0, 3, 1}) t.add_drained_epoch(e);
  t.set_primary_epoch(3);
  t.set_worker_set_version(8);
  auto r = Routing::FromProto(t);
  REQUIRE(r.ok());
  CHECK(r->servers().size() == 2);  // that are primary of something
  CHECK(r->members().size() == 4);
  CHECK(r->PrimaryOf(1) == 5);
  CHECK(std::vector<Incarnation>(r->BackupsOf(0).begin(), r->BackupsOf(0).end()) == std::vector<Incarnation>{5, 7});
  CHECK(r->BackupsOf(1).size() == 1);
  CHECK(r->BackupsOf(2).empty());
  CHECK(r->JoiningOf(0) == 3);
  CHECK(r->SuccessorOf(0) == 0);
  CHECK(r->SuccessorOf(1) == 7);
  CHECK(r->ShardEpoch(2) == 3);
  CHECK_FALSE(r->WasHandedOver(1));
  CHECK(r->WasHandedOver(2));
  CHECK_FALSE(r->WasHandedOver(3));  // but by another primary than that of now
  CHECK(r->primary_epoch() == 3);
  CHECK(r->worker_set_version() == 8);
  CHECK(r->ReplicasOf(7) == std::vector<ShardId>{0, 1});
  CHECK(r->ReplicasOf(5) == std::vector<ShardId>{0, 1, 2, 3});
  CHECK(r->ShardsOf(7).empty());
  SECTION("a server twice for a shard") { t.set_backups(0, 9); }
  SECTION("the joining one is a backup already") { t.set_joining(0, 7); }
  SECTION("an unknown backup") { t.set_backups(0, 1234); }
  SECTION("an unknown joining replica") { t.set_joining(1, 1234); }
  SECTION("too few backups") { t.mutable_backups()->RemoveLast(); }
  SECTION("too few joining replicas") { t.mutable_joining()->RemoveLast(); }
  SECTION("too few shard epochs") { t.mutable_shard_epoch()->RemoveLast(); }
  SECTION("too few successors") { t.mutable_successor()->RemoveLast(); }
  SECTION("too few drained epochs") { t.mutable_drained_epoch()->RemoveLast(); }
  SECTION("a successor that is no backup") { t.set_successor(1, 9); }
  SECTION("the primary as its own successor") { t.set_successor(1, 5); }
  SECTION("an unknown successor") { t.set_successor(1, 1234); }
  SECTION("a successor while another joins") { t.set_successor(0, 7); }
  SECTION("drained after the primary had changed") { t.set_drained_epoch(3, 3); }
  SECTION("drained, but since when it is led is not told") { t.clear_shard_epoch(); }
  SECTION("absurd slots") { t.set_backup_slots(1u << 31); }
  CHECK(Routing::FromProto(t).status().code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("a broken routing table is refused") {
  RoutingTable t = TwoServers();
  SECTION("shards no power of two") { t.set_shards(3); }
  SECTION("no shards") { t.set_shards(0); }
  SECTION("too few primaries") { t.mutable_primary()->RemoveLast(); }
  SECTION("unknown primary") { t.set_primary(0, 1234); }
  CHECK(Routing::FromProto(t).status().code() == absl::StatusCode::kInvalidArgument);
}

}  // namespace tidegate
