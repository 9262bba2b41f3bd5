// Planned promotions through the scheduler's core: primaries are handed over, servers are drained.
#include <catch2/catch.hpp>

#include <algorithm>

#include "common/exit_codes.h"
#include "scheduler/policy/replication.h"
#include "tests/scheduler/replica_cases.h"

namespace tidegate {
namespace {

TEST_CASE("a planned promotion takes no server that is not heard") {
  ReplicaSets sets(8);
  for (ShardReplicas& set : sets) set = {.primary = 1, .backups = {2}};
  std::vector<ReplicaServer> servers = {{1, "", false, false}, {2, "", false, true}};
  ReplicationOptions options;
  options.replicas = 2;
  PlanReplicas(servers, options, &sets, nullptr);
  for (const ShardReplicas& set : sets) CHECK(set.successor == 0);
  servers[1].suspect = false;
  PlanReplicas(servers, options, &sets, nullptr);
  CHECK(std::count_if(sets.begin(), sets.end(), [](const ShardReplicas& set) { return set.successor == 2; }) == 4);
}

// Every table of a run in which nothing dies: no shard has fewer copies in sync, and who leads one was handed it.
void WatchTables(ClusterHarness& cluster, uint32_t replicas) {
  cluster.before_call = [&cluster, replicas, last = RoutingTable()](uint64_t) mutable {
    const RoutingTable& table = cluster.stored().routing();
    if (table.epoch() == last.epoch()) return;
    const ReplicaSets sets = ReplicaSetsOf(table), before = ReplicaSetsOf(last);
    for (size_t s = 0; s < sets.size(); ++s) {
      REQUIRE(sets[s].InSync() >= replicas);
      if (last.epoch() == 0 || sets[s].primary == before[s].primary) continue;
      REQUIRE(sets[s].handed_over);
      REQUIRE(before[s].successor == sets[s].primary);
    }
    last = table;
  };
}
ShardId FirstWithSuccessor(const RoutingTable& table) {
  for (int s = 0; s < table.successor_size(); ++s) {
    if (table.successor(s) != 0) return static_cast<ShardId>(s);
  }
  return ~0u;
}

TEST_CASE("drained is believed of the succession that the table names, from the primary alone") {
  HarnessOptions options = Replicated(3, 2);
  options.drain_ms = 1'000'000;
  ClusterHarness cluster(options);
  REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
  REQUIRE(AnswerTo(cluster, DrainOf("host:1")).ok());
  REQUIRE(cluster.RunUntil([&] { return cluster.stored().routing().successor_size() > 0; }));
  const RoutingTable table = cluster.stored().routing();
  const ShardId shard = FirstWithSuccessor(table);
  const int s = static_cast<int>(shard);
  CHECK_FALSE(cluster.core().Status(cluster.now()).settled());
  HeartbeatRequest beat;
  beat.set_incarnation(table.primary(s));
  beat.set_seen_term(1);
  Drained* report = beat.add_drained();
  report->set_shard(shard);
  report->set_epoch(table.epoch());
  bool believed = false;
  SECTION("believed") { believed = true; }
  SECTION("of an older table") { report->set_epoch(table.epoch() - 1); }
  SECTION("by the successor") { beat.set_incarnation(table.successor(s)); }
  SECTION("of a shard without a successor") {
    for (int other = 0; other < 16; ++other) {
      if (table.successor(other) == 0) {
        report->set_shard(static_cast<uint32_t>(other));
        beat.set_incarnation(table.primary(other));
      }
    }
  }
  cluster.core().Handle(cluster.now(), 1'000'000'000, beat);
  if (believed) REQUIRE(cluster.RunUntil([&] { return cluster.stored().routing().primary(s) != table.primary(s); }, 200));
  if (!believed) cluster.RunFor(200);
  const RoutingTable after = cluster.stored().routing();
  for (int i = 0; i < 16; ++i) CHECK((after.primary(i) != table.primary(i)) == (believed && i == s));
  if (!believed) return;
  CHECK(after.primary(s) == table.successor(s));
  CHECK(after.shard_epoch(s) == after.drained_epoch(s));
  CHECK(after.primary_epoch() == after.shard_epoch(s));
  const ReplicaSets sets = ReplicaSetsOf(after);
  CHECK(sets[shard].Follows(table.primary(s)));
}

TEST_CASE("a checkpoint, a new term and the successor's death give a handover up; it is begun again") {
  HarnessOptions options = Replicated(3, 2);
  options.drain_ms = 1'000'000;
  options.splits = 20'000;
  options.adjust = [](SchedulerOptions* o) { o->level_after_ms = 0; };
  ClusterHarness cluster(options);
  REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
  REQUIRE(AnswerTo(cluster, DrainOf("host:1")).ok());
  const auto handing_over = [&] { return cluster.stored().routing().successor_size() > 0; };
  REQUIRE(cluster.RunUntil(handing_over));
  const RoutingTable before = cluster.stored().routing();
  SECTION("a checkpoint") {
    cluster.AskForCheckpoint();
    REQUIRE(cluster.RunUntil([&] { return cluster.stored().has_saving(); }));
    REQUIRE(cluster.RunUntil([&] { return !handing_over(); }, 1000));
    REQUIRE(cluster.RunUntil([&] { return !cluster.stored().has_saving(); }));
    CHECK(cluster.stored().checkpoint_failed() == 0);
  }
  SECTION("a new term") {
    cluster.CrashScheduler();
    cluster.StartScheduler();
    cluster.RunFor(100);
    CHECK_FALSE(handing_over());
  }
  SECTION("the successor dies") {
    const Incarnation successor = before.successor(static_cast<int>(FirstWithSuccessor(before)));
    for (int server : {0, 2}) {
      if (cluster.member(server).incarnation == successor) cluster.Kill(server);
    }
    REQUIRE(cluster.RunUntil([&] { return cluster.stored().failovers() > 0; }));
    for (const uint64_t server : cluster.stored().routing().successor()) CHECK(server != successor);
  }
  const RoutingTable given_up = cluster.stored().routing();
  for (int s = 0; s < 16; ++s) {
    if (before.successor_size() > 0 && before.successor(s) != 0) CHECK(given_up.primary(s) == before.primary(s));
  }
  REQUIRE(cluster.RunUntil(handing_over));
}

TEST_CASE("a server dies at any moment of a drain: nothing is lost") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    HarnessOptions options = Replicated(3 + seed % 2, 2);
    options.seed = seed;
    options.splits = 20'000;
    options.checkpoints = false;
    options.drain_ms = static_cast<TimeMs>(seed % 3 * 40);
    options.fill_ms = 20;
    ClusterHarness cluster(options);
    REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
    REQUIRE(AnswerTo(cluster, DrainOf("host:1")).ok());
    cluster.RunFor(static_cast<TimeMs>(cluster.random().Below(seed % 5 == 0 ? 3000 : 500)));
    const int victim = static_cast<int>(cluster.random().Below(options.servers));
    if (cluster.member(victim).ended) continue;
    cluster.Kill(victim);
    cluster.RunFor(5000);
    INFO(cluster.stored().message());
    REQUIRE(cluster.stored().phase() == TRAINING);
    REQUIRE(cluster.RunUntil([&] { return cluster.core().Status(cluster.now()).settled(); }));
    CHECK(Holds(cluster, 1) == 0);
  }
}

TEST_CASE("a drained server ends empty and as finished, and the job goes on") {
  for (const uint32_t replicas : {2u, 3u}) {
    ClusterHarness cluster(Replicated(3, replicas));
    REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
    if (replicas == 2) WatchTables(cluster, replicas);
    CHECK(absl::IsNotFound(AnswerTo(cluster, DrainOf("host:7"))));
    CHECK(absl::IsNotFound(AnswerTo(cluster, DrainOf(""))));
    CHECK(AnswerTo(cluster, DrainOf("host:1")).ok());
    REQUIRE(cluster.RunUntil([&] { return cluster.member(1).ended; }));
    CHECK(cluster.member(1).finished);
    CHECK(Holds(cluster, 1) == 0);
    CHECK(Training(cluster));
    CHECK(cluster.HasEvent("is drained: its shards are on other servers"));
    cluster.before_call = nullptr;
    CHECK(AnswerTo(cluster, DrainOf("host:0")).ok());
    CHECK_THAT(std::string(AnswerTo(cluster, DrainOf("host:2")).message()), Catch::Contains("no other one can take its shards"));
    REQUIRE(cluster.RunToEnd());
    CHECK(cluster.stored().phase() == FINISHED);
    CHECK(cluster.stored().failovers() == 0);
  }
}

TEST_CASE("a server that is drained to start again is told so, by the newest wish") {
  for (const bool restart : {true, false}) {
    ClusterHarness cluster(Replicated(3, 2));
    REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
    DrainRequest request = DrainOf("host:1");
    request.set_restart(!restart);
    CHECK(AnswerTo(cluster, request).ok());
    request.set_restart(restart);
    CHECK(AnswerTo(cluster, request).ok());
    REQUIRE(cluster.RunUntil([&] { return cluster.member(1).ended; }));
    CHECK(cluster.member(1).finished);
    CHECK(IsToRestart(cluster.member(1).message) == restart);
    REQUIRE(cluster.RunToEnd());
    CHECK(cluster.stored().phase() == FINISHED);
  }
}

TEST_CASE("a job of one copy keeps its servers") {
  ClusterHarness cluster(Replicated(2, 1));
  REQUIRE(cluster.RunUntil([&] { return Training(cluster); }));
  CHECK(cluster.core().Status(cluster.now()).settled());
  CHECK(absl::IsFailedPrecondition(AnswerTo(cluster, DrainOf("host:1"))));
}

}  // namespace
}  // namespace tidegate
