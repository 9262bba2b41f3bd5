// Planned promotions: a primary drains its log, then its successor leads, and every replica stays in sync.

#include <catch2/catch.hpp>

#include "tests/server/shard/replication_testing.h"

namespace tidegate {
namespace {

constexpr auto kUnavailable = absl::StatusCode::kUnavailable;

void NameSuccessor(ReplicaHarness& harness, Incarnation successor) {
  for (ShardId shard = 0; shard < 4; ++shard) harness.SetSuccessor(shard, successor);
  harness.NextEpoch();
}
Epoch HandOverAll(ReplicaHarness& harness) {
  for (ShardId shard = 0; shard < 4; ++shard) harness.HandOver(shard);
  const Epoch epoch = harness.NextEpoch(true);
  harness.table().set_worker_set_version(1);
  return epoch;
}
bool AllDrained(ReplicaHarness& harness, Incarnation server) {
  for (ShardId shard = 0; shard < 4; ++shard) {
    if (!harness.drained().contains({server, shard})) return false;
  }
  return true;
}
void AnnounceBy(ReplicaHarness& harness, Incarnation server, Epoch epoch, Clock clock = -1) {
  for (Incarnation worker : {1, 2}) harness.Announce(server, worker, epoch, Kind::kTick, clock, epoch);
}

TEST_CASE("a shard with a successor takes no new push, and is drained when every follower has all of its log") {
  for (int strands : {1, 2}) {
    ReplicaHarness harness(Async(strands), OneTable(), 3);
    Start(harness, {kB, kC});
    const CallToken before = harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
    NameSuccessor(harness, kB);
    harness.PublishToAll();
    const CallToken refused = harness.Push(kA, PushOf(1, 2, 0, SomeKeys()));
    REQUIRE(harness.Answered(refused));
    CHECK(harness.Answer(refused).status.code() == kUnavailable);
    CHECK_THAT(std::string(harness.Answer(refused).status.message()), Catch::Contains("is handed over"));
    REQUIRE(harness.Deliver().ok());
    harness.Acknowledge(kA, kB);
    CHECK(harness.drained().empty());
    CHECK(Total(harness, kA, SomeKeys()) == -32);  // still served
    harness.Acknowledge(kA, kC);
    CHECK(harness.Answer(before).status.ok());
    CHECK(AllDrained(harness, kA));
    TestPull pull = PullOf(0, 0, kNoBound, SomeKeys());
    pull.eval = true;
    CHECK(harness.Answer(harness.Pull(kA, pull)).status.code() == kUnavailable);
  }
}

TEST_CASE("where nothing is under way a shard is drained at once, and a backup that is gone is not waited for") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB, kC});
  SECTION("at once") {
    harness.Settle();
    NameSuccessor(harness, kB);
    REQUIRE(harness.Publish(kA).ok());
    CHECK(AllDrained(harness, kA));
    harness.NextEpoch();
    REQUIRE(harness.Publish(kA).ok());
    CHECK(harness.drained().at({kA, 0}) == 3);  // said again, by the newest table
  }
  SECTION("without the backup") {
    harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
    REQUIRE(harness.Deliver(kA, kB).ok());
    harness.Acknowledge();
    NameSuccessor(harness, kB);
    REQUIRE(harness.Publish(kA).ok());
    CHECK(harness.drained().empty());
    for (ShardId shard = 0; shard < 4; ++shard) {
      harness.SetReplicas(shard, kA, {kB});
      harness.SetSuccessor(shard, kB);
    }
    harness.NextEpoch();
    REQUIRE(harness.Publish(kA).ok());
    CHECK(AllDrained(harness, kA));
  }
}

TEST_CASE("a primary drains nothing before the grants of the one before it have run out") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB});
  harness.Settle();
  harness.SetNow(1000);
  Promote(harness, 1400);
  harness.SetAllReplicas(kB, {kC});
  NameSuccessor(harness, kC);
  harness.PublishToAll();
  harness.Settle();
  harness.HandoverStep(kB);
  CHECK(harness.drained().empty());
  harness.SetNow(1400);
  harness.HandoverStep(kB);
  CHECK(AllDrained(harness, kB));
}

TEST_CASE("after a handover all replicas follow the new primary as they are, and one that missed tables too") {
  for (int strands : {1, 2}) {
    ReplicaHarness harness(Async(strands), OneTable(), 3);
    Start(harness, {kB, kC});
    harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
    harness.Settle();
    NameSuccessor(harness, kB);
    REQUIRE(harness.Publish(kA).ok());
    REQUIRE(AllDrained(harness, kA));
    const Epoch epoch = HandOverAll(harness);
    REQUIRE(harness.Publish(kB).ok());
    AnnounceBy(harness, kB, epoch);
    const CallToken again = harness.Push(kB, PushOf(1, 1, 0, SomeKeys(), 1, epoch));
    const CallToken next = harness.Push(kB, PushOf(1, 2, 0, SomeKeys(), 1, epoch));
    CHECK(harness.Deliver().code() == kUnavailable);  // their tables are older
    CHECK_FALSE(harness.Answered(next));
    for (Incarnation server : {kA, kC}) REQUIRE(harness.Publish(server).ok());
    harness.Settle();
    CHECK(harness.Answer(again).duplicate_rows == 32);
    CHECK(harness.Answer(next).status.ok());
    CHECK(harness.Answer(harness.Push(kA, PushOf(1, 3, 0, SomeKeys(), 1, epoch))).refused_shards.size() == 4);
    harness.SetGrant(kB, kA, 1'000'000);
    harness.SetGrant(kB, kC, 1'000'000);
    CHECK(Total(harness, kB, SomeKeys()) == -64);
    CHECK(harness.Differences(kB, kA) == "");
    CHECK(harness.Differences(kB, kC) == "");
    harness.Digests(kB);
    harness.Settle();
    CHECK(harness.diverged().empty());
  }
}

TEST_CASE("a primary that finds its shard led by another and had not drained it keeps nothing") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB, kC});
  harness.Settle();
  harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  for (ShardId shard = 0; shard < 4; ++shard) harness.SetSuccessor(shard, kB);
  HandOverAll(harness);
  harness.PublishToAll();
  harness.Digests(kB);
  harness.Settle();
  for (ShardId shard = 0; shard < 4; ++shard) CHECK(harness.diverged().contains({kA, shard}));
}

TEST_CASE("a handover that is given up: the primary goes on, and its log too") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB, kC});
  harness.Settle();
  NameSuccessor(harness, kB);
  harness.PublishToAll();
  REQUIRE(AllDrained(harness, kA));
  NameSuccessor(harness, 0);
  REQUIRE(harness.Publish(kA).ok());
  const CallToken call = harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  for (Incarnation server : {kB, kC}) REQUIRE(harness.Publish(server).ok());
  harness.Settle();
  CHECK(harness.Answer(call).status.ok());
  CHECK(Total(harness, kA, SomeKeys()) == -32);
  CHECK(harness.Differences(kA, kB) == "");
}

TEST_CASE("handed over and back, a log goes on where it was, removed workers are forgotten everywhere") {
  ReplicaHarness harness(Async(2), OneTable(), 3);
  Start(harness, {kB, kC});
  harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  harness.Push(kA, PushOf(2, 1, 0, SomeKeys()));
  harness.Settle();
  NameSuccessor(harness, kB);
  harness.PublishToAll();
  harness.SetWorkers(kA, 2, 2, {1});  // A has heard of it; C gets the record too late
  REQUIRE(harness.Deliver(kA, kB).ok());
  harness.SetWorkers(kB, 2, 2, {1});
  Epoch epoch = HandOverAll(harness);
  harness.PublishToAll();
  harness.Announce(kB, 1, epoch, Kind::kTick, -1, epoch);
  harness.Push(kB, PushOf(1, 2, 0, SomeKeys(), 1, epoch));
  harness.Settle();
  CHECK(harness.Differences(kB, kA) == "");
  CHECK(harness.Differences(kB, kC) == "");
  NameSuccessor(harness, kA);
  harness.PublishToAll();
  harness.Settle();
  REQUIRE(AllDrained(harness, kB));
  epoch = HandOverAll(harness);
  harness.PublishToAll();
  harness.Announce(kA, 1, epoch, Kind::kTick, -1, epoch);
  const CallToken call = harness.Push(kA, PushOf(1, 3, 0, SomeKeys(), 1, epoch));
  harness.Settle();
  CHECK(harness.Answer(call).status.ok());
  CHECK(harness.Differences(kA, kB) == "");
  CHECK(harness.Differences(kA, kC) == "");
  CHECK(harness.diverged().empty());
}

TEST_CASE("a sweep passes over a shard that is handed over") {
  TableSpec spec = SparseTable(0, 1, "sgd { lr: 1 }");
  spec.mutable_eviction()->set_max_age_clocks(1);
  ReplicaHarness harness(Async(), {spec}, 3);
  Start(harness, {kB});
  harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  harness.Settle();
  harness.SetSuccessor(0, kB);
  harness.NextEpoch();
  harness.PublishToAll();
  harness.Sweep(kA, 50);
  harness.Settle();
  CHECK(harness.group(kA).table(0).shard(0).rows() > 0);
  CHECK(harness.group(kA).table(0).shard(1).rows() == 0);
  CHECK(harness.Differences(kA, kB) == "");
}

TEST_CASE("staleness 0: a strand with a shard that is handed over applies no clock; it goes on when that is given up") {
  ReplicaHarness harness(Synchronous(), OneTable(), 3);
  Start(harness, {kB, kC});
  harness.SetSuccessor(2, kB);
  harness.NextEpoch();
  harness.PublishToAll();
  const CallToken one = harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  const CallToken two = harness.Push(kA, PushOf(2, 1, 0, {}));
  harness.Settle();
  REQUIRE(harness.drained().contains({kA, 2}));
  CHECK_FALSE(harness.Answered(one));
  CHECK(harness.group(kA).released_clock() == -1);
  SECTION("given up") {
    harness.SetSuccessor(2, 0);
    harness.NextEpoch();
    harness.PublishToAll();
    CHECK(harness.group(kA).released_clock() == 0);
    harness.Settle();
    CHECK(harness.Answer(one).status.ok());
    CHECK(harness.Answer(two).status.ok());
    CHECK(harness.Differences(kA, kB) == "");
  }
  SECTION("handed over: the clock is split again") {
    harness.HandOver(2);
    const Epoch epoch = harness.NextEpoch(true);
    harness.table().set_worker_set_version(1);
    harness.PublishToAll();
    CHECK(harness.Answer(one).status.code() == kUnavailable);
    AnnounceBy(harness, kA, epoch);
    AnnounceBy(harness, kB, epoch);
    std::vector<Key> of_a, of_b;
    for (Key key : SomeKeys()) (ShardOfHash(PlacementHash(0, key), 2) == 2 ? of_b : of_a).push_back(key);
    std::vector<CallToken> calls;
    for (Incarnation worker : {1, 2}) {
      calls.push_back(harness.Push(kA, PushOf(worker, 2, 0, of_a, 1, epoch)));
      calls.push_back(harness.Push(kB, PushOf(worker, 3, 0, of_b, 1, epoch)));
    }
    harness.Settle();
    for (CallToken call : calls) CHECK(harness.Answer(call).status.ok());
    for (ShardId shard = 0; shard < 4; ++shard) CHECK(harness.GroupOf(kC, shard).AppliedClock(shard) == 0);
    CHECK(harness.Differences(kA, kB) == "");
    CHECK(harness.Differences(kA, kC) == "");
  }
}

}  // namespace
}  // namespace tidegate
