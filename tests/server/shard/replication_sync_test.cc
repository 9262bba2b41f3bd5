// Replication at staleness 0.

#include <catch2/catch.hpp>

#include "tests/server/shard/replication_testing.h"

namespace tidegate {
namespace {

// B leads shard 3, A the rest, each backs the other.
void StartApart(ReplicaHarness& harness) {
  for (ShardId shard : {0, 1, 2}) harness.SetReplicas(shard, kA, {kB});
  harness.SetReplicas(3, kB, {kA});
  harness.NextEpoch();
  harness.PublishToAll();
  for (Incarnation server : {kA, kB}) {
    for (Incarnation worker : {1, 2}) harness.Announce(server, worker, 0, Kind::kHello);
  }
}

TEST_CASE("staleness 0: contributors are acknowledged when all followers have the clock") {
  for (int strands : {1, 2}) {
    ReplicaHarness harness(Synchronous(strands), OneTable(), 3);
    Start(harness, {kB});
    const CallToken one = harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
    const CallToken two = harness.Push(kA, PushOf(2, 1, 0, {}));
    CHECK_FALSE(harness.Answered(one));
    REQUIRE(harness.Deliver().ok());
    CHECK_FALSE(harness.Answered(two));
    const CallToken retry = harness.Push(kA, PushOf(2, 1, 0, {}));
    CHECK_FALSE(harness.Answered(retry));
    harness.Acknowledge();
    CHECK(harness.Answered(one));
    CHECK(harness.Answered(two));
    CHECK(harness.Answered(retry));
    CHECK(harness.Differences(kA, kB) == "");
    for (ShardId shard = 0; shard < 4; ++shard) CHECK(harness.GroupOf(kB, shard).AppliedClock(shard) == 0);
  }
}

TEST_CASE("staleness 0: a clock without any key is replicated too") {
  ReplicaHarness harness(Synchronous(), OneTable(), 3);
  Start(harness, {kB});
  for (Incarnation worker : {1, 2}) harness.Announce(kA, worker, 1, Kind::kTick, 3);
  CHECK(harness.group(kA).released_clock() == 3);
  harness.Settle();
  CHECK(harness.Differences(kA, kB) == "");
}

TEST_CASE("staleness 0: a shard that comes behind takes part alone in what it lacks") {
  ReplicaHarness harness(Synchronous(), OneTable(), 3);
  StartApart(harness);
  std::vector<Key> of_a, of_b;
  for (Key key : SomeKeys()) (ShardOfHash(PlacementHash(0, key), 2) == 3 ? of_b : of_a).push_back(key);
  for (Incarnation worker : {1, 2}) {
    harness.Push(kA, PushOf(worker, 1, 0, of_a));
    harness.Push(kB, PushOf(worker, 2, 0, of_b));
  }
  REQUIRE(harness.Deliver(kB).ok());  // A's clock never comes to B
  REQUIRE(harness.GroupOf(kB, 3).AppliedClock(3) == 0);
  REQUIRE(harness.GroupOf(kB, 0).AppliedClock(0) == -1);
  harness.SetAllReplicas(kB, {});
  const Epoch epoch = harness.NextEpoch(true);
  harness.table().set_worker_set_version(1);
  REQUIRE(harness.Publish(kB).ok());
  CHECK(harness.group(kB).released_clock() == -1);
  for (Incarnation worker : {1, 2}) {
    harness.Announce(kB, worker, 1, Kind::kTick, -1, epoch);
    // An attempt that was split by the old table, and the new one: also keys that B's own shard has had.
    CHECK(std::string(harness.Answer(harness.Push(kB, PushOf(worker, 2, 0, of_b))).status.message())
              .find("routing older") == 0);
    harness.Push(kB, PushOf(worker, 3, 0, SomeKeys(), 1, epoch));
  }
  CHECK(harness.group(kB).released_clock() == 0);
  CHECK(Total(harness, kB, SomeKeys()) == -32);
}

TEST_CASE("staleness 0: a worker that joins after a failover begins above what any shard has of a worker that is gone") {
  ReplicaHarness harness(Synchronous(), OneTable(), 3);
  StartApart(harness);
  std::vector<Key> of_b;
  for (Key key : SomeKeys()) {
    if (ShardOfHash(PlacementHash(0, key), 2) == 3) of_b.push_back(key);
  }
  for (Incarnation worker : {1, 2}) harness.Push(kB, PushOf(worker, 1, 0, of_b));
  REQUIRE(harness.GroupOf(kB, 3).AppliedClock(3) == 0);
  harness.SetAllReplicas(kB, {});
  const Epoch epoch = harness.NextEpoch(true);
  harness.table().set_worker_set_version(1);
  REQUIRE(harness.Publish(kB).ok());
  harness.SetWorkers(kB, 2, 3, {3});
  REQUIRE(harness.group(kB).released_clock() == -1);
  const CallToken hello = harness.Announce(kB, 3, 0, Kind::kHello, 0, epoch);
  REQUIRE(harness.Answer(hello).status == absl::OkStatus());
  CHECK(harness.Answer(hello).min_clock == 0);
  const float before = Total(harness, kB, SomeKeys());
  const CallToken push = harness.Push(kB, PushOf(3, 1, 1, SomeKeys(), 1, epoch));
  REQUIRE(harness.Answered(push));
  CHECK(harness.Answer(push).status.ok());
  CHECK(Total(harness, kB, SomeKeys()) == before - 32);
}

TEST_CASE("staleness 0: contributions that wait are given back when primaries change") {
  ReplicaHarness harness(Synchronous(), OneTable(), 3);
  Start(harness, {kB});
  const CallToken call = harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  harness.NextEpoch(true);
  harness.PublishToAll();
  REQUIRE(harness.Answered(call));
  CHECK(harness.Answer(call).status.code() == absl::StatusCode::kUnavailable);
  CHECK(harness.group(kA).held_pushes() == 0);
}

TEST_CASE("staleness 0: a clock's sums that are too large for a record are cut by shard") {
  ReplicaHarness::Options options = Synchronous();
  options.clock_record_bytes = 1;
  ReplicaHarness harness(options, OneTable(), 3);
  Start(harness, {kB});
  harness.Settle();
  harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  const CallToken call = harness.Push(kA, PushOf(2, 1, 0, SomeKeys()));
  CHECK(harness.links(kA)[{0, kB}].queue.size() == 4);
  REQUIRE(harness.Deliver(kA, kB, 3).ok());
  harness.Acknowledge();
  CHECK_FALSE(harness.Answered(call));
  // The backup takes over with one shard behind: the others do not take the clock again.
  Promote(harness);
  for (Incarnation worker : {1, 2}) harness.Push(kB, PushOf(worker, 2, 0, SomeKeys(), 1, 2));
  CHECK(harness.group(kB).released_clock() == 0);
  CHECK(Total(harness, kB, SomeKeys()) == -32);
}

}  // namespace
}  // namespace tidegate
