// Deaths that are not noticed yet: nothing is given up for copies on servers that may have died a moment ago.
#include <catch2/catch.hpp>

#include <algorithm>
#include <limits>

#include "scheduler/policy/replication.h"
#include "tests/scheduler/replica_cases.h"

namespace tidegate {
namespace {

void Settle(ClusterHarness& cluster) {
  REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
}
// After all that a death may take to be noticed, and a loss to be declared.
void RequireNothingLost(ClusterHarness& cluster) {
  cluster.RunFor(40'000);
  INFO(cluster.stored().message());
  REQUIRE(cluster.stored().phase() != FAILED);
}
HarnessOptions Long(uint32_t servers, uint32_t replicas) {
  HarnessOptions options = Replicated(servers, replicas);
  options.splits = 100'000;
  options.checkpoints = false;
  return options;
}

TEST_CASE("with three copies a second death that is not noticed yet loses nothing, whenever it comes") {
  const auto noticed = [](ClusterHarness& cluster) {
    Settle(cluster);
    cluster.member(4).unreachable = {cluster.member(0).incarnation};
    cluster.Kill(0);
  };
  ClusterHarness calm(Long(4, 3));
  noticed(calm);
  const TimeMs at = calm.now();
  REQUIRE(calm.RunUntil([&] { return calm.stored().failovers() == 1; }));
  const TimeMs promoted = calm.now() - at;
  CHECK(promoted < 1000);
  for (int second : {1, 2, 3}) {
    for (TimeMs after = 0; after + 25 < promoted; after += 50) {
      CAPTURE(second, after);
      ClusterHarness cluster(Long(4, 3));
      noticed(cluster);
      cluster.RunFor(after);
      REQUIRE(cluster.stored().failovers() == 0);
      cluster.Kill(second);
      RequireNothingLost(cluster);
    }
  }
}

TEST_CASE("another process comes to a server's address when an heir has died as well") {
  for (int second : {1, 2, 3}) {
    CAPTURE(second);
    ClusterHarness cluster(Long(4, 3));
    Settle(cluster);
    cluster.Kill(second);
    cluster.RunFor(100);
    cluster.Kill(0);
    const Incarnation before = cluster.member(0).incarnation;
    cluster.Restart(0);
    REQUIRE(cluster.RunUntil([&] { return cluster.stored().failovers() > 0; }, 1000));
    CHECK(cluster.HasEvent("another process joined with its address"));
    RequireNothingLost(cluster);
    CHECK(cluster.member(0).incarnation > before);
  }
}

TEST_CASE("a server leaves when an heir has just died") {
  for (int second : {1, 2, 3}) {
    CAPTURE(second);
    ClusterHarness cluster(Long(4, 3));
    Settle(cluster);
    cluster.Kill(second);
    cluster.RunFor(100);
    LeaveRequest leave;
    leave.set_incarnation(cluster.member(0).incarnation);
    leave.set_reason("told to end");
    REQUIRE(AnswerTo(cluster, leave).ok());
    cluster.member(0).left = cluster.member(0).dead = true;
    REQUIRE(cluster.RunUntil([&] { return cluster.stored().failovers() > 0; }, 1000));
    CHECK(cluster.HasEvent("left: told to end"));
    RequireNothingLost(cluster);
  }
}

TEST_CASE("a drain lets no copy go for a server that died before the drain was decided") {
  for (TimeMs before : {0, 100, 200, 300, 400}) {
    CAPTURE(before);
    ClusterHarness cluster(Long(2, 2));
    Settle(cluster);
    cluster.Kill(1);
    cluster.RunFor(before);
    REQUIRE(AnswerTo(cluster, DrainOf("host:0")).ok());
    RequireNothingLost(cluster);
    CHECK(Holds(cluster, 0) == 16);
    cluster.Restart(1);
    REQUIRE(cluster.RunUntil([&] { return Holds(cluster, 0) == 0; }));
    CHECK(Holds(cluster, 1) == 16);
  }
}

TEST_CASE("a primary that died before it was decided bans no follower of its own") {
  for (TimeMs last = 1200; last <= 1800; last += 25) {
    CAPTURE(last);
    ClusterHarness cluster(Long(3, 2));
    Settle(cluster);
    cluster.member(0).unreachable = {cluster.member(1).incarnation};
    cluster.RunFor(last);
    if (cluster.core().OldestProbe() != 0) {  // it is being asked
      CHECK(last > 1500);
      break;
    }
    cluster.Kill(0);
    RequireNothingLost(cluster);
    CHECK(cluster.stored().failovers() == 1);
  }
}

TEST_CASE("a backup that is silent is not called dead while its primary may be") {
  for (TimeMs before : {50, 150, 250, 350}) {
    CAPTURE(before);
    ClusterHarness cluster(Long(2, 2));
    Settle(cluster);
    cluster.member(1).silent = true;
    cluster.RunFor(3000 - before);
    cluster.Kill(0);
    cluster.RunFor(2000);
    cluster.member(1).silent = false;
    RequireNothingLost(cluster);
    CHECK(Holds(cluster, 1) == 16);
  }
}

TEST_CASE("an heir that is heard and hears nothing takes over after another lease") {
  ClusterHarness cluster(Long(2, 2));
  Settle(cluster);
  cluster.member(1).deaf = true;
  cluster.Kill(0);
  cluster.RunFor(2 * 3000 - 100);
  CHECK(cluster.stored().failovers() == 0);
  REQUIRE(cluster.RunUntil([&] { return cluster.stored().failovers() == 1; }, 1000));
  cluster.member(1).deaf = false;
  RequireNothingLost(cluster);
}

TEST_CASE("a probe that was never sent is seen by nobody") {
  ClusterHarness cluster(Long(4, 3));
  Settle(cluster);
  CHECK(cluster.core().OldestProbe() == 0);
  HeartbeatRequest beat;
  beat.set_seen_term(1);
  for (int server : {1, 2, 3}) {
    beat.set_incarnation(cluster.member(server).incarnation);
    beat.set_seen_probe(std::numeric_limits<uint64_t>::max());
    cluster.core().Handle(cluster.now(), 1'000'000'000 + static_cast<CallToken>(server), beat);
    cluster.member(server).silent = true;
  }
  LeaveRequest leave;
  leave.set_incarnation(cluster.member(0).incarnation);
  REQUIRE(AnswerTo(cluster, leave).ok());
  CHECK(cluster.core().OldestProbe() != 0);
  CHECK(cluster.core().Durable().failovers() == 0);
  for (int server : {1, 2, 3}) {
    beat.set_incarnation(cluster.member(server).incarnation);
    beat.set_seen_probe(cluster.core().OldestProbe());
    cluster.core().Handle(cluster.now(), 1'000'000'010 + static_cast<CallToken>(server), beat);
  }
  CHECK(cluster.core().Durable().failovers() == 1);
  CHECK(cluster.core().OldestProbe() == 0);
}

TEST_CASE("what is decided after a probe was sent waits for another one, also in the same moment") {
  ClusterHarness cluster(Long(4, 3));
  Settle(cluster);
  uint64_t last = 0;
  for (int server : {0, 1}) {
    LeaveRequest leave;
    leave.set_incarnation(cluster.member(server).incarnation);
    REQUIRE(AnswerTo(cluster, leave).ok());
    CHECK(cluster.core().OldestProbe() > last);
    last = cluster.core().OldestProbe();
  }
  CHECK(cluster.core().Durable().failovers() == 0);
}

TEST_CASE("of several heirs one leads that has seen the probe, though it has more to do") {
  ReplicaSets sets(4);
  for (ShardReplicas& set : sets) set = {.primary = 1, .backups = {2, 3}};
  sets[3] = {.primary = 3, .backups = {2, 1}};
  std::vector<ReplicaServer> servers = {{2, "", false, false}, {3, "", false, false}};
  servers[0].seen_probe = 6;
  servers[1].seen_probe = 7;
  ReplicaSets after = sets;
  CHECK(RemoveServers({1}, servers, 7, &after).promoted == 3);
  for (const ShardReplicas& set : after) CHECK(set.primary == 3);
  servers[1].draining = true;
  after = sets;
  RemoveServers({1}, servers, 7, &after);
  CHECK(after[0].primary == 3);
  servers[1].suspect = true;
  after = sets;
  RemoveServers({1}, servers, 7, &after);
  CHECK(after[0].primary == 2);
}

TEST_CASE("a copy too many goes when as many as are wanted have seen the probe that was sent for it") {
  ReplicaSets sets(2);
  for (ShardReplicas& set : sets) set = {.primary = 1, .backups = {2, 3}};
  std::vector<ReplicaServer> servers = {{1, "", false, false}, {2, "", true, false}, {3, "", false, false}};
  ReplicationOptions options;
  options.replicas = 2;
  options.may_level = false;
  PendingDrops drops;
  CHECK_FALSE(PlanReplicas(servers, options, &sets, &drops));
  CHECK(drops == PendingDrops{{0, 0}, {1, 0}});
  drops = {{0, 5}, {1, 6}};
  for (ReplicaServer& server : servers) server.seen_probe = 5;
  servers[2].seen_probe = 4;
  CHECK_FALSE(PlanReplicas(servers, options, &sets, &drops));
  servers[2].seen_probe = 5;
  servers[1].seen_probe = 9;  // who leaves does not count
  CHECK(PlanReplicas(servers, options, &sets, &drops));
  CHECK(sets[0].backups == std::vector<Incarnation>{3});
  CHECK(sets[1].backups == std::vector<Incarnation>{2, 3});
  CHECK(drops == PendingDrops{{1, 6}});
  servers[0].suspect = true;
  CHECK_FALSE(PlanReplicas(servers, options, &sets, &drops));
  CHECK(drops.empty());
}

}  // namespace
}  // namespace tidegate
