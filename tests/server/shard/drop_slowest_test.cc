// train.drop_slowest: whose pushes of a clock count, the same in all shards (docs/decisions/0013-drop-slowest.md).

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>

#include "tests/server/shard/replication_testing.h"

namespace tidegate {
namespace {

using Workers = std::vector<Incarnation>;

// A leads shards 0 to 2, B shard 3, each backs the other if `backed`. Worker w pushes the gradient w for every key.
class Cluster {
 public:
  explicit Cluster(bool backed, uint32_t drop_slowest = 1, int strands = 1, Incarnation workers = 3)
      : harness(OptionsOf(drop_slowest, strands, workers), OneTable(), 3) {
    for (ShardId shard : {0, 1, 2}) harness.SetReplicas(shard, kA, backed ? Workers{kB} : Workers{});
    harness.SetReplicas(3, kB, backed ? Workers{kA} : Workers{});
    harness.NextEpoch();
    harness.PublishToAll();
    for (Incarnation server : {kA, kB}) {
      for (Incarnation worker = 1; worker <= workers; ++worker) harness.Announce(server, worker, 0, Kind::kHello);
      for (Incarnation backup : {kA, kB}) harness.SetGrant(server, backup, 1'000'000);
    }
    for (Key key : SomeKeys()) keys[ShardOfHash(PlacementHash(0, key), 2) == 3 ? kB : kA].push_back(key);
  }

  CallToken Push(Incarnation server, Incarnation worker, Clock clock, bool data = true) {
    TestPush push = PushOf(worker, Sequence(clock) + 1, clock, data ? keys.at(server) : std::vector<Key>(),
                           static_cast<float>(worker), epoch);
    push.weight = data ? 1 : 0;
    return harness.Push(server, push);
  }
  CallToken Ask(Incarnation worker, Clock clock, Incarnation server = kA) {
    TestPush ask = PushOf(worker, Sequence(clock) + 1, clock, {}, 1, epoch);
    ask.tables.clear();
    ask.asks = true;
    return harness.Push(server, ask);
  }
  // What the worker was told by this answer goes to both servers.
  CallToken Tell(Incarnation worker, Clock clock, CallToken asked, std::vector<Incarnation> servers = {kA, kB}) {
    const Workers who = harness.Answer(asked).contributors;
    const bool counts = std::binary_search(who.begin(), who.end(), worker);
    CallToken told = 0;
    for (Incarnation server : servers) {
      told = harness.Announce(server, worker, ++orders[worker], Kind::kTick, counts ? -1 : clock, epoch, {{clock, who}});
      REQUIRE(harness.Answer(told).status == absl::OkStatus());
    }
    return told;
  }
  Clock Applied(Incarnation server) { return harness.group(server).released_clock(); }
  // The rows of server's own shards, by the mean.
  float Mean(Incarnation server) {
    return Total(harness, server, keys.at(server)) / static_cast<float>(keys.at(server).size());
  }
  // B leads everything.
  void Promote() {
    harness.SetAllReplicas(kB, {});
    epoch = harness.NextEpoch(true);
    harness.table().set_worker_set_version(1);
    REQUIRE(harness.Publish(kB).ok());
    for (Incarnation worker : {1, 2, 3}) harness.Announce(kB, worker, ++orders[worker], Kind::kTick, -1, epoch);
  }

  static ReplicaHarness::Options OptionsOf(uint32_t drop_slowest, int strands, Incarnation workers) {
    ReplicaHarness::Options options = Synchronous(strands);
    options.drop_slowest = drop_slowest;
    options.known = workers;
    return options;
  }
  ReplicaHarness harness;
  std::map<Incarnation, std::vector<Key>> keys;
  std::map<Incarnation, uint64_t> orders;
  Epoch epoch = 1;
};

TEST_CASE("the last contribution to shard 0 counts nowhere, in whatever order the others' servers get them") {
  Workers at_a = {1, 2, 3};
  do {
    Workers at_b = {1, 2, 3};
    do {
      Cluster c(/*backed=*/false);
      std::map<Incarnation, CallToken> asked;
      for (Incarnation worker : at_b) c.Push(kB, worker, 0);
      for (Incarnation worker : at_a) {
        c.Push(kA, worker, 0);
        asked[worker] = c.Ask(worker, 0);
        REQUIRE(c.harness.Answered(asked[worker]) == (worker != at_a[0]));
      }
      Workers counted = {at_a[0], at_a[1]};
      std::sort(counted.begin(), counted.end());
      for (Incarnation worker : {1, 2, 3}) {
        CHECK(c.harness.Answer(asked[worker]).contributors == counted);
        CHECK(c.harness.Answer(asked[worker]).closed == 0);
      }
      CHECK(c.Applied(kB) == -1);
      c.Tell(at_a[0], 0, asked[at_a[0]]);
      const float mean = -static_cast<float>(counted[0] + counted[1]) / 2;
      CHECK(c.Mean(kA) == mean);
      CHECK(c.Mean(kB) == mean);
      CHECK(c.Applied(kA) == 0);
      CHECK(c.Applied(kB) == 0);
      CHECK(c.harness.group(kB).held_pushes() == 0);
    } while (std::next_permutation(at_b.begin(), at_b.end()));
  } while (std::next_permutation(at_a.begin(), at_a.end()));
}

TEST_CASE("a dropped push is answered where it waits, and so is a late one; nothing is applied again") {
  Cluster c(/*backed=*/false);
  const CallToken held = c.Push(kB, 3, 0);
  for (Incarnation worker : {1, 2}) {
    c.Push(kA, worker, 0);
    c.Push(kB, worker, 0);
  }
  c.Tell(1, 0, c.Ask(1, 0));
  CHECK(c.harness.Answer(held).status == absl::OkStatus());
  CHECK(c.harness.Answer(c.Push(kA, 3, 0)).status == absl::OkStatus());
  CHECK(c.harness.Answer(c.Push(kB, 3, 0)).status == absl::OkStatus());
  for (int attempt = 0; attempt < 2; ++attempt) {
    CHECK(c.harness.Answer(c.Ask(3, 0)).contributors == Workers{1, 2});
  }
  CHECK(c.Mean(kA) == -1.5f);
  CHECK(c.Mean(kB) == -1.5f);
}

TEST_CASE("nobody is told, and nothing applied, before the followers that may be promoted know whose pushes count") {
  for (int strands : {1, 2}) {
    Cluster c(/*backed=*/true, 1, strands);
    for (Incarnation worker : {1, 2}) c.Push(kA, worker, 0);
    const CallToken asked = c.Ask(1, 0);
    CHECK_FALSE(c.harness.Answered(asked));
    REQUIRE(c.harness.Deliver().ok());
    CHECK_FALSE(c.harness.Answered(asked));
    for (ShardId shard : {0, 1, 2}) CHECK(c.harness.GroupOf(kA, shard).AppliedClock(shard) == -1);
    c.harness.Acknowledge();
    REQUIRE(c.harness.Answered(asked));
    for (Incarnation worker : {1, 2}) c.Push(kB, worker, 0);
    c.Tell(2, 0, c.Ask(2, 0));
    c.harness.Settle();
    CHECK(c.Mean(kA) == -1.5f);
    CHECK(c.Mean(kB) == -1.5f);
    CHECK(c.harness.Differences(kA, kB) == "");
  }
}

TEST_CASE("a new primary of shard 0 says the same as the old one, and drops again what that dropped") {
  for (bool told : {false, true}) {
    Cluster c(/*backed=*/true);
    for (Incarnation worker : {1, 3}) {
      c.Push(kA, worker, 0);
      c.Push(kB, worker, 0);
    }
    const CallToken asked = c.Ask(1, 0);
    c.harness.Settle();
    REQUIRE(c.harness.Answered(asked));
    if (told) {
      c.Tell(1, 0, asked, {kB});  // shard 3 has the clock, the others lack it
      REQUIRE(c.Applied(kB) == 0);
      REQUIRE(c.harness.Deliver(kB).ok());
    }
    c.Promote();
    CHECK(c.harness.Answer(c.Ask(2, 0, kB)).contributors == Workers{1, 3});
    for (Incarnation worker : {1, 2, 3}) {
      TestPush push = PushOf(worker, 1, 0, SomeKeys(), static_cast<float>(worker), c.epoch);
      c.harness.Push(kB, push);
    }
    CHECK(c.harness.group(kB).released_clock() == -1);
    c.Tell(2, 0, c.Ask(2, 0, kB), {kB});
    CHECK(c.harness.group(kB).released_clock() == 0);
    CHECK(Total(c.harness, kB, SomeKeys()) == -2 * 32);
    CHECK(c.harness.Answer(c.Ask(2, 0, kB)).contributors == Workers{1, 3});
  }
}

TEST_CASE("what only a dead primary had decided is decided anew") {
  Cluster c(/*backed=*/true);
  for (Incarnation worker : {1, 3}) c.Push(kA, worker, 0);
  const CallToken asked = c.Ask(1, 0);
  CHECK_FALSE(c.harness.Answered(asked));
  c.Promote();
  for (Incarnation worker : {1, 2}) {
    c.harness.Push(kB, PushOf(worker, 1, 0, SomeKeys(), static_cast<float>(worker), c.epoch));
  }
  CHECK(c.harness.Answer(c.Ask(3, 0, kB)).contributors == Workers{1, 2});
  CHECK(Total(c.harness, kB, SomeKeys()) == -1.5f * 32);
}

TEST_CASE("a replica of shard 0 that is filled knows whose pushes of open clocks count") {
  Cluster c(/*backed=*/false);
  for (Incarnation worker : {1, 2}) c.Push(kA, worker, 0);
  REQUIRE(c.harness.Answered(c.Ask(1, 0)));  // decided, and B's shard lacks it
  c.harness.SetReplicas(0, kA, {}, kB);
  c.harness.NextEpoch();
  c.harness.PublishToAll();
  while (c.harness.FillStep(kA, 1 << 20)) {
  }
  c.harness.Settle();
  for (ShardId shard : {0, 1, 2}) c.harness.SetReplicas(shard, shard == 0 ? kB : kA, {});
  c.epoch = c.harness.NextEpoch(true);
  c.harness.table().set_worker_set_version(1);
  for (Incarnation server : {kA, kB}) {
    REQUIRE(c.harness.Publish(server).ok());
    for (Incarnation worker : {1, 2, 3}) c.harness.Announce(server, worker, ++c.orders[worker], Kind::kTick, -1, c.epoch);
  }
  CHECK(c.harness.Answer(c.Ask(3, 0, kB)).contributors == Workers{1, 2});
}

TEST_CASE("a contributor that dies before its part reached a shard is left out there, and holds nobody up") {
  Cluster c(/*backed=*/false);
  for (Incarnation worker : {1, 2}) c.Push(kA, worker, 0);
  const CallToken asked = c.Ask(1, 0);
  c.Push(kB, 1, 0);
  c.Push(kB, 3, 0);
  c.Tell(1, 0, asked);
  CHECK(c.Applied(kB) == -1);
  for (Incarnation server : {kA, kB}) c.harness.SetWorkers(server, 2, 3, {1, 3});
  CHECK(c.Applied(kB) == 0);
  CHECK(c.Mean(kA) == -1.5f);
  CHECK(c.Mean(kB) == -1);
}

TEST_CASE("where all contributors die untold, the others are told that none is left, and all shards go on") {
  Cluster c(/*backed=*/false, 2);
  c.Push(kA, 1, 0);
  c.Push(kA, 2, 0);  // decided without it
  c.Push(kB, 2, 0);
  for (Incarnation server : {kA, kB}) c.harness.SetWorkers(server, 2, 3, {2, 3});
  const CallToken two = c.Ask(2, 0), three = c.Ask(3, 0);
  CHECK(c.harness.Answer(two).contributors.empty());
  CHECK(c.harness.Answer(two).closed == 0);
  c.Tell(2, 0, two);
  c.Tell(3, 0, three);
  CHECK(c.Applied(kA) == 0);
  CHECK(c.Applied(kB) == 0);
  CHECK(c.Mean(kB) == 0);
}

TEST_CASE("the death of a slow worker lets its clock close, and counts no more against drop_slowest") {
  Cluster c(/*backed=*/false, 1, 1, 4);
  c.Push(kA, 1, 0);
  c.Push(kA, 2, 0);
  const CallToken asked = c.Ask(1, 0);
  CHECK_FALSE(c.harness.Answered(asked));
  c.harness.SetWorkers(kA, 2, 4, {1, 2, 3});
  CHECK(c.harness.Answer(asked).contributors == Workers{1, 2});
}

TEST_CASE("parked workers are not counted, and one that joins is from its first clock on") {
  Cluster c(/*backed=*/false, 1, 1, 4);
  for (Incarnation server : {kA, kB}) {
    c.harness.Announce(server, 3, 1, Kind::kPark);
    c.harness.Announce(server, 4, 1, Kind::kPark);
  }
  c.Push(kA, 1, 0);
  CHECK(c.harness.Answer(c.Ask(2, 0)).contributors == Workers{1});
  c.Push(kB, 1, 0);
  c.Tell(1, 0, c.Ask(1, 0));
  for (Incarnation worker : {3, 4}) c.harness.Announce(kA, worker, 2, Kind::kHello);
  for (Incarnation worker : {1, 3}) c.Push(kA, worker, 1);
  const CallToken asked = c.Ask(1, 1);
  CHECK_FALSE(c.harness.Answered(asked));
  c.Push(kA, 4, 1);
  CHECK(c.harness.Answer(asked).contributors == Workers{1, 3, 4});
}

TEST_CASE("drop_slowest above the workers leaves one contributor, and it is one that has data") {
  Cluster c(/*backed=*/false, 9);
  c.Push(kA, 1, 0, /*data=*/false);
  const CallToken asked = c.Ask(1, 0);
  CHECK_FALSE(c.harness.Answered(asked));
  c.Push(kA, 2, 0);
  CHECK(c.harness.Answer(asked).contributors == Workers{1, 2});
  for (Incarnation worker : {1, 2}) c.Push(kB, worker, 0, worker == 2);
  c.Tell(1, 0, asked);
  CHECK(c.Mean(kB) == -2);
  for (Incarnation worker : {1, 2}) c.Push(kA, worker, 1, /*data=*/false);
  CHECK_FALSE(c.harness.Answered(c.Ask(1, 1)));
  c.Push(kA, 3, 1, /*data=*/false);
  CHECK(c.harness.Answer(c.Ask(1, 1)).contributors == Workers{1, 2, 3});
}

TEST_CASE("a clock that all live workers have passed without a push goes by, also where an ask for it comes later") {
  Cluster c(/*backed=*/false);
  for (Incarnation server : {kA, kB}) {
    for (Incarnation worker : {1, 2, 3}) c.harness.Announce(server, worker, 1, Kind::kTick, 2);
  }
  CHECK(c.Applied(kA) == 2);
  CHECK(c.harness.Answer(c.Ask(1, 2)).contributors.empty());
  CHECK(c.harness.Answer(c.Ask(1, 2)).closed == 2);
}

TEST_CASE("a dropped push that comes after its worker's tick is not held") {
  Cluster c(/*backed=*/false);
  c.harness.Announce(kB, 3, 1, Kind::kTick, 0);
  CHECK(c.harness.Answer(c.Push(kB, 3, 0)).status == absl::OkStatus());
  CHECK(c.harness.group(kB).held_pushes() == 0);
}

TEST_CASE("an ask that is sent again takes the place of the first; cancelled, and of a removed worker, it is gone") {
  Cluster c(/*backed=*/false);
  const CallToken first = c.Ask(1, 0), again = c.Ask(1, 0), removed = c.Ask(3, 0), cancelled = c.Ask(2, 0);
  CHECK(c.harness.Answer(first).status.code() == absl::StatusCode::kAborted);
  c.harness.group(kA).Cancel(cancelled);
  c.harness.SetWorkers(kA, 2, 3, {1, 2});
  CHECK(c.harness.Answer(removed).status.code() == absl::StatusCode::kFailedPrecondition);
  c.Push(kA, 2, 0);
  CHECK(c.harness.Answer(again).status == absl::OkStatus());
  CHECK_FALSE(c.harness.Answered(cancelled));
}

TEST_CASE("asks and announcements of closed clocks that cannot be are refused") {
  const auto code = [](Cluster& c, CallToken call) { return c.harness.Answer(call).status.code(); };
  Cluster c(/*backed=*/false);
  CHECK(code(c, c.Ask(1, 0, kB)) == absl::StatusCode::kUnavailable);       // shard 0 is not there
  CHECK(code(c, c.Ask(1, 5)) == absl::StatusCode::kUnavailable);           // too far ahead
  CHECK(code(c, c.Ask(0, 0)) == absl::StatusCode::kInvalidArgument);       // a guest
  const auto tick = [&](Clock clock, Workers who) {
    return c.harness.Announce(kB, 1, ++c.orders[1], Kind::kTick, -1, 1, {{clock, std::move(who)}});
  };
  CHECK(code(c, tick(0, {2, 1})) == absl::StatusCode::kInvalidArgument);
  CHECK(code(c, tick(0, {1, 1})) == absl::StatusCode::kInvalidArgument);
  CHECK(code(c, tick(64, {1})) == absl::StatusCode::kUnavailable);
  CHECK(code(c, tick(63, {1})) == absl::StatusCode::kOk);
  Cluster without(/*backed=*/false, 0);
  CHECK(code(without, without.Ask(1, 0)) == absl::StatusCode::kInvalidArgument);
  CHECK(code(without, without.harness.Announce(kB, 1, 1, Kind::kTick, -1, 1, {{0, {1}}})) ==
        absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tidegate
