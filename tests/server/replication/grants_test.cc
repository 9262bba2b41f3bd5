#include "server/replication/grants.h"

#include <catch2/catch.hpp>

namespace tidegate {
namespace {

constexpr Incarnation kOld = 1, kSelf = 2, kOther = 3;

// Two shards: of `first` and `second`.
Routing Table(Epoch epoch, Incarnation first, Incarnation second, Epoch first_since = 1, Epoch drained = 0) {
  RoutingTable table;
  table.set_epoch(epoch);
  table.set_shards(2);
  table.add_primary(first);
  table.add_primary(second);
  table.add_shard_epoch(first_since);
  table.add_shard_epoch(1);
  table.add_drained_epoch(drained);
  table.add_drained_epoch(0);
  for (Incarnation server : {kOld, kSelf, kOther}) table.add_servers()->set_incarnation(server);
  return *Routing::FromProto(table);
}

}  // namespace

TEST_CASE("a promoted server waits for the last grant of its predecessor, with room for unlike clocks") {
  GivenGrants grants(400);
  const Routing before = Table(5, kOld, kSelf), after = Table(6, kSelf, kSelf, 6);
  grants.TakeRouting(nullptr, before, kSelf);
  CHECK(grants.Give(kOld, 5, 1000));
  CHECK(grants.Give(kOld, 5, 900));  // told late: the last counts
  CHECK(grants.Give(kOther, 5, 5000));
  const TimeMs until = grants.TakeRouting(&before, after, kSelf);
  CHECK(until > 1400);
  CHECK(until < 1500);
}

TEST_CASE("nothing is granted to a table older than ours") {
  GivenGrants grants(400);
  const Routing before = Table(5, kOld, kSelf), after = Table(6, kSelf, kSelf, 6);
  grants.TakeRouting(nullptr, before, kSelf);
  CHECK(grants.Give(kOld, 6, 10));  // newer than ours: it cannot have been deposed by ours
  grants.TakeRouting(&before, after, kSelf);
  CHECK(!grants.Give(kOld, 5, 20));
  CHECK(grants.Give(kOld, 6, 20));
}

TEST_CASE("a server that leads nothing new waits for nobody") {
  GivenGrants grants(400);
  const Routing before = Table(5, kOld, kSelf), same = Table(6, kOld, kSelf), other = Table(7, kOther, kSelf, 7);
  grants.TakeRouting(nullptr, before, kSelf);
  grants.Give(kOld, 5, 1000);
  CHECK(grants.TakeRouting(&before, same, kSelf) == 0);
  CHECK(grants.TakeRouting(&same, other, kSelf) == 0);
}

TEST_CASE("where tables were missed, anybody may have been the predecessor") {
  GivenGrants grants(400);
  const Routing before = Table(5, kOld, kSelf), later = Table(8, kSelf, kSelf, 8);
  grants.TakeRouting(nullptr, before, kSelf);
  grants.Give(kOld, 5, 1000);
  grants.Give(kOther, 6, 2000);
  CHECK(grants.TakeRouting(&before, later, kSelf) > 2400);
}

TEST_CASE("who lost a shard and got it back unseen waits as well") {
  GivenGrants grants(400);
  const Routing before = Table(5, kSelf, kSelf, 2), again = Table(7, kSelf, kSelf, 7);
  grants.TakeRouting(nullptr, before, kSelf);
  grants.Give(kOther, 6, 2000);
  CHECK(grants.TakeRouting(&before, again, kSelf) > 2400);
}

TEST_CASE("who is handed a shard by a primary that had drained it waits for nobody") {
  GivenGrants grants(400);
  const Routing before = Table(5, kOld, kOther), after = Table(6, kSelf, kOther, 6, 6), died = Table(6, kSelf, kOther, 6, 5);
  grants.TakeRouting(nullptr, before, kSelf);
  CHECK(grants.Give(kOld, 5, 1000));
  SECTION("at once") { CHECK(grants.TakeRouting(&before, after, kSelf) == 0); }
  SECTION("also where tables were missed") {
    CHECK(grants.TakeRouting(&before, Table(8, kSelf, kOther, 7, 7), kSelf) == 0);
  }
  SECTION("not where an earlier primary had been drained") { CHECK(grants.TakeRouting(&before, died, kSelf) > 1400); }
}

TEST_CASE("an older table changes nothing") {
  GivenGrants grants(400);
  const Routing newer = Table(6, kOld, kSelf), older = Table(5, kSelf, kSelf);
  grants.TakeRouting(nullptr, newer, kSelf);
  grants.Give(kOld, 6, 1000);
  CHECK(grants.TakeRouting(&newer, older, kSelf) == 0);
  CHECK(grants.epoch() == 6);
}

}  // namespace tidegate
