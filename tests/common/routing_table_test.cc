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

TEST_CASE("a broken routing table is refused") {
  RoutingTable t = TwoServers();
  SECTION("shards no power of two") { t.set_shards(3); }
  SECTION("no shards") { t.set_shards(0); }
  SECTION("too few primaries") { t.mutable_primary()->RemoveLast(); }
  SECTION("unknown primary") { t.set_primary(0, 1234); }
  CHECK(Routing::FromProto(t).status().code() == absl::StatusCode::kInvalidArgument);
}

}  // namespace tidegate
