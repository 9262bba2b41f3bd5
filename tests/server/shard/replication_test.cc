// What a primary waits for, what a follower takes, and what a promoted one serves.

#include <catch2/catch.hpp>

#include "tests/server/shard/replication_testing.h"

namespace tidegate {
namespace {

TEST_CASE("a push is acknowledged when every backup has it") {
  for (int strands : {1, 2}) {
    ReplicaHarness harness(Async(strands), OneTable(), 3);
    Start(harness, {kB, kC});
    const CallToken call = harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
    CHECK_FALSE(harness.Answered(call));
    REQUIRE(harness.Deliver().ok());
    harness.Acknowledge(kA, kB);
    CHECK_FALSE(harness.Answered(call));
    harness.Acknowledge(kA, kC);
    REQUIRE(harness.Answered(call));
    CHECK(harness.Answer(call).status.ok());
    CHECK(harness.Differences(kA, kB) == "");
    CHECK(harness.Differences(kA, kC) == "");
  }
}

TEST_CASE("without durability a push is acknowledged at once, and replicated all the same") {
  ReplicaHarness::Options options = Async();
  options.durable = false;
  ReplicaHarness harness(options, OneTable(), 3);
  Start(harness, {kB});
  CHECK(harness.Answered(harness.Push(kA, PushOf(1, 1, 0, SomeKeys()))));
  harness.Settle();
  CHECK(harness.Differences(kA, kB) == "");
}

TEST_CASE("a retry waits for the acknowledgement of the push that it repeats") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB});
  const CallToken first = harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  const CallToken retry = harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  CHECK_FALSE(harness.Answered(retry));
  harness.Settle();
  CHECK(harness.Answered(first));
  REQUIRE(harness.Answered(retry));
  CHECK(harness.Answer(retry).duplicate_rows == 32);
  CHECK(harness.Answered(harness.Push(kA, PushOf(1, 1, 0, SomeKeys()))));
  CHECK(Total(harness, kA, SomeKeys()) == -32);
}

TEST_CASE("a push with keys of a shard that has no backup waits for nobody") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  harness.SetReplicas(1, kA, {kB});
  harness.NextEpoch();
  harness.PublishToAll();
  std::vector<Key> alone, followed;
  for (Key key : SomeKeys()) (ShardOfHash(PlacementHash(0, key), 2) == 1 ? followed : alone).push_back(key);
  CHECK(harness.Answered(harness.Push(kA, PushOf(1, 1, 0, alone))));
  CHECK_FALSE(harness.Answered(harness.Push(kA, PushOf(1, 2, 0, followed))));
  CHECK_FALSE(harness.Answered(harness.Push(kA, PushOf(1, 3, 0, SomeKeys()))));
  // Of the third push only what the follower has a shard of is sent.
  const auto& queue = harness.links(kA)[{0, kB}].queue;
  REQUIRE(queue.size() == 3);  // the first: the set of workers
  CHECK(std::get<wire::PushRecord>(queue[2].body).push.tables[0].keys.size() == followed.size());
}

TEST_CASE("a full window refuses new pushes, not retries of old ones") {
  ReplicaHarness::Options options = Async();
  options.log_window_bytes = 1000;
  ReplicaHarness harness(options, OneTable(), 3);
  Start(harness, {kB});
  Sequence sequence = 0;
  CallToken call = 0;
  do {
    call = harness.Push(kA, PushOf(1, ++sequence, 0, SomeKeys()));
    REQUIRE(sequence < 60);
  } while (!harness.Answered(call));
  CHECK(harness.Answer(call).status.code() == absl::StatusCode::kUnavailable);
  CHECK_FALSE(harness.Answered(harness.Push(kA, PushOf(1, 1, 0, SomeKeys()))));
  harness.Settle();
  const CallToken again = harness.Push(kA, PushOf(1, sequence, 0, SomeKeys()));
  harness.Settle();
  CHECK(harness.Answer(again).status.ok());
  CHECK(Total(harness, kA, SomeKeys()) == -32 * static_cast<float>(sequence));
}

TEST_CASE("a promoted backup has what was acknowledged, and takes a retry once") {
  for (int strands : {1, 2}) {
    ReplicaHarness harness(Async(strands), OneTable(), 3);
    Start(harness, {kB});
    const CallToken acknowledged = harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
    harness.Settle();
    REQUIRE(harness.Answered(acknowledged));
    const CallToken delivered = harness.Push(kA, PushOf(1, 2, 0, SomeKeys()));
    REQUIRE(harness.Deliver().ok());
    harness.Push(kA, PushOf(1, 3, 0, SomeKeys()));  // never arrives
    CHECK_FALSE(harness.Answered(delivered));
    Promote(harness);
    for (Sequence sequence : {2, 3}) {
      CHECK(harness.Answer(harness.Push(kB, PushOf(1, sequence, 0, SomeKeys(), 1, 2))).status.ok());
    }
    CHECK(Total(harness, kB, SomeKeys()) == -96);
  }
}

TEST_CASE("a deposed primary is refused and answers nothing before it knows; then \"moved\"") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB});
  Promote(harness);
  const CallToken call = harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  CHECK(harness.Deliver().code() == absl::StatusCode::kFailedPrecondition);
  harness.Acknowledge();
  CHECK_FALSE(harness.Answered(call));
  CHECK(Total(harness, kB, SomeKeys()) == 0);
  REQUIRE(harness.Publish(kA).ok());
  REQUIRE(harness.Answered(call));
  CHECK(harness.Answer(call).status.code() == absl::StatusCode::kUnavailable);
  // What it sent before is passed over, so that its log goes on.
  CHECK(harness.Deliver().ok());
  CHECK(Total(harness, kB, SomeKeys()) == 0);
}

TEST_CASE("a record of a newer table waits until the follower has it") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB});
  harness.NextEpoch();
  REQUIRE(harness.Publish(kA).ok());
  harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  CHECK(harness.Deliver().code() == absl::StatusCode::kUnavailable);
  REQUIRE(harness.Publish(kB).ok());
  CHECK(harness.Deliver().ok());
  CHECK(harness.Differences(kA, kB) == "");
}

TEST_CASE("a backup that a newer table lacks is not waited for") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB, kC});
  const CallToken call = harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  REQUIRE(harness.Deliver(kA, kC).ok());
  harness.Acknowledge();
  CHECK_FALSE(harness.Answered(call));
  harness.SetAllReplicas(kA, {kC});
  harness.NextEpoch();
  harness.PublishToAll();
  CHECK(harness.Answered(call));
  CHECK(harness.group(kB).bytes() < harness.group(kC).bytes());
}

TEST_CASE("a promoted server serves and acknowledges nothing before its time") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB});
  harness.SetNow(1000);
  Promote(harness, 1500);
  const auto push = [&] { return harness.Answer(harness.Push(kB, PushOf(1, 1, 0, SomeKeys(), 1, 2))).status; };
  const auto pull = [&] { return harness.Answer(harness.Pull(kB, PullOf(1, 0, -1, SomeKeys(), 2))).status; };
  CHECK(push().code() == absl::StatusCode::kUnavailable);
  CHECK(std::string(pull().message()).find("takes over") == 0);
  harness.SetNow(1499);
  CHECK_FALSE(push().ok());
  harness.SetNow(1500);
  CHECK(push().ok());
  CHECK(pull().ok());
}

TEST_CASE("pulls need a grant of each backup in the table") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB, kC});
  harness.SetAllReplicas(kA, {kB});
  harness.NextEpoch();
  harness.PublishToAll();
  harness.SetNow(2'000'000);
  const auto pull = [&] { return harness.Pull(kA, PullOf(1, 0, -1, SomeKeys(), 1)); };
  const CallToken refused = pull();
  CHECK(harness.Answer(refused).status.code() == absl::StatusCode::kUnavailable);
  CHECK(std::string(harness.Answer(refused).status.message()).find("no grant") == 0);
  harness.SetGrant(kA, kC, 3'000'000);
  CHECK_FALSE(harness.Answer(pull()).status.ok());
  harness.SetGrant(kA, kB, 2'000'500);
  const CallToken served = pull();
  CHECK(harness.Answer(served).status.ok());
  CHECK(harness.valid_until(served) == 2'000'500);
  harness.SetNow(2'000'500);
  CHECK_FALSE(harness.Answer(pull()).status.ok());
}

TEST_CASE("a worker's session leaves a follower as its primary says, and the worker is refused after a promotion") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB});
  harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  harness.Settle();
  harness.SetWorkers(kB, 2, 2, {2});  // the follower hears of it first
  CHECK(harness.GroupOf(kB, 0).SessionsOf(0).size() == 1);
  harness.Push(kA, PushOf(1, 2, 0, SomeKeys()));
  harness.SetWorkers(kA, 2, 2, {2});
  harness.Settle();
  CHECK(harness.Differences(kA, kB) == "");
  CHECK(harness.GroupOf(kB, 0).SessionsOf(0).empty());
  Promote(harness);
  CHECK(harness.Answer(harness.Push(kB, PushOf(1, 2, 0, SomeKeys(), 1, 2))).status.code() ==
        absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("a follower refuses the removed that only its primary had heard of") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB});
  harness.SetWorkers(kA, 2, 2, {2});
  harness.Settle();
  Promote(harness);
  CHECK(harness.Answer(harness.Push(kB, PushOf(1, 1, 0, SomeKeys(), 1, 2))).status.code() ==
        absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("a replica that is filled hears of removals that were before it") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {});
  harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  harness.SetWorkers(kA, 2, 2, {2});
  harness.SetAllReplicas(kA, {}, kB);
  harness.NextEpoch();
  harness.PublishToAll();
  while (harness.FillStep(kA, 1000)) {
  }
  harness.Settle();
  harness.SetAllReplicas(kA, {kB});
  harness.NextEpoch();
  harness.PublishToAll();
  Promote(harness);
  CHECK(harness.Answer(harness.Push(kB, PushOf(1, 1, 0, SomeKeys(), 1, 2))).status.code() ==
        absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("a promoted server releases no clock before all workers have said how far they are") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB});
  for (Incarnation worker : {1, 2}) harness.Announce(kB, worker, 1, Kind::kTick, 7);
  harness.SetAllReplicas(kB, {});
  const Epoch epoch = harness.NextEpoch(true);
  harness.table().set_worker_set_version(1);
  REQUIRE(harness.Publish(kB).ok());
  CHECK(harness.group(kB).released_clock() == -1);
  const CallToken pull = harness.Pull(kB, PullOf(1, 8, 5, SomeKeys(), epoch));
  harness.Announce(kB, 1, 2, Kind::kTick, 9, epoch);
  harness.Announce(kB, 2, 2, Kind::kTick, 9, epoch - 1);  // an older table's
  CHECK_FALSE(harness.Answered(pull));
  const CallToken hello = harness.Announce(kB, 2, 3, Kind::kHello, 0, epoch - 1);
  CHECK(harness.Answer(hello).status.code() == absl::StatusCode::kUnavailable);
  harness.Announce(kB, 2, 4, Kind::kTick, 6, epoch);
  CHECK(harness.Answered(pull));
  CHECK(harness.group(kB).released_clock() == 9);
}

TEST_CASE("a joiner whose Hello the dead primary never had begins above what that released") {
  for (const bool hello_while_awaited : {false, true}) {
    ReplicaHarness harness(Async(), OneTable(), 3);
    harness.SetAllReplicas(kA, {kB});
    harness.NextEpoch();
    harness.PublishToAll();
    harness.Announce(kA, 1, 0, Kind::kHello);
    for (Incarnation worker : {1, 2}) harness.Announce(kB, worker, 0, Kind::kHello);
    harness.Announce(kA, 1, 1, Kind::kTick, 5);
    CHECK(harness.group(kA).released_clock() == 5);
    harness.SetAllReplicas(kB, {});
    const Epoch epoch = harness.NextEpoch(true);
    harness.table().set_worker_set_version(1);
    REQUIRE(harness.Publish(kB).ok());
    if (hello_while_awaited) {
      const CallToken early = harness.Announce(kB, 2, 1, Kind::kHello, 0, epoch);
      CHECK(harness.Answer(early).status.code() == absl::StatusCode::kUnavailable);
    }
    harness.Announce(kB, 1, 2, Kind::kTick, 5, epoch);
    if (hello_while_awaited) CHECK(harness.group(kB).released_clock() == 5);
    const CallToken hello = harness.Announce(kB, 2, 1, Kind::kHello, 0, epoch);
    REQUIRE(harness.Answer(hello).status.ok());
    CHECK(harness.Answer(hello).min_clock == 5);
  }
}

TEST_CASE("a Hello by the table of a primary that died is answered by nobody, nor by a server in its place") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  harness.SetAllReplicas(kA, {kB});
  harness.NextEpoch();
  for (Incarnation server : {kA, kB}) REQUIRE(harness.Publish(server).ok());
  harness.Announce(kA, 1, 0, Kind::kHello);
  harness.Announce(kB, 1, 0, Kind::kHello);
  harness.Announce(kA, 1, 1, Kind::kTick, 5);
  harness.SetAllReplicas(kB, {});
  const Epoch epoch = harness.NextEpoch(true);
  harness.table().set_worker_set_version(1);
  for (Incarnation server : {kB, kC}) {
    REQUIRE(harness.Publish(server).ok());
    const CallToken old = harness.Announce(server, 2, 0, Kind::kHello);
    CHECK(harness.Answer(old).status.code() == absl::StatusCode::kUnavailable);
    CHECK(std::string(harness.Answer(old).status.message()).find("routing older") == 0);
  }
  harness.Announce(kB, 1, 2, Kind::kTick, 5, epoch);
  const CallToken hello = harness.Announce(kB, 2, 1, Kind::kHello, 0, epoch);
  REQUIRE(harness.Answer(hello).status.ok());
  CHECK(harness.Answer(hello).min_clock == 5);
}

TEST_CASE("a replica that is filled knows the clock that its primary had released, whatever was pushed") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {});
  for (Incarnation worker : {1, 2}) harness.Announce(kA, worker, 1, Kind::kTick, 8);
  harness.SetAllReplicas(kA, {}, kB);
  harness.NextEpoch();
  harness.PublishToAll();
  while (harness.FillStep(kA, 1 << 20)) {
  }
  harness.Settle();
  harness.SetAllReplicas(kB, {});
  const Epoch epoch = harness.NextEpoch(true);
  harness.table().set_worker_set_version(1);
  REQUIRE(harness.Publish(kB).ok());
  for (Incarnation worker : {1, 2}) harness.Announce(kB, worker, 2, Kind::kPark, 0, epoch);
  CHECK(harness.group(kB).released_clock() == 8);
}

TEST_CASE("a worker that the promoted server never heard counts by its tick, a parked one does not") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  harness.SetAllReplicas(kA, {kB});
  harness.NextEpoch();
  harness.PublishToAll();
  harness.SetAllReplicas(kB, {});
  const Epoch epoch = harness.NextEpoch(true);
  harness.table().set_worker_set_version(1);
  REQUIRE(harness.Publish(kB).ok());
  harness.Announce(kB, 1, 5, Kind::kPark, 0, epoch);
  CHECK(harness.group(kB).released_clock() == -1);
  harness.Announce(kB, 2, 5, Kind::kTick, 12, epoch);
  CHECK(harness.group(kB).released_clock() == 12);
}

TEST_CASE("rows of a shard that leaves are freed, and it may come back") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB});
  harness.Push(kA, PushOf(1, 1, 0, SomeKeys(0, 20'000)));
  harness.Settle();
  const uint64_t full = harness.group(kB).bytes();
  harness.SetAllReplicas(kA, {});
  harness.NextEpoch();
  harness.PublishToAll();
  CHECK(harness.group(kB).bytes() * 10 < full);
  CHECK(harness.group(kB).sessions() == 0);
  harness.SetAllReplicas(kA, {}, kB);
  harness.NextEpoch();
  harness.PublishToAll();
  while (harness.FillStep(kA, 100'000)) {
  }
  harness.Settle();
  CHECK(harness.Differences(kA, kB) == "");
}

TEST_CASE("a replica that was filled is waited for before it is told of, and a joining one is not") {
  ReplicaHarness::Options options = Async();
  options.durable = false;
  ReplicaHarness harness(options, OneTable(), 3);
  Start(harness, {});
  harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  harness.SetAllReplicas(kA, {}, kB);
  harness.NextEpoch();
  harness.PublishToAll();
  CHECK(harness.Answered(harness.Push(kA, PushOf(1, 2, 0, SomeKeys()))));
  while (harness.FillStep(kA, 1000)) {
  }
  harness.SetGrant(kA, kB, 1'000'000);
  const CallToken call = harness.Push(kA, PushOf(1, 3, 0, SomeKeys()));
  CHECK_FALSE(harness.Answered(call));
  CHECK(harness.in_sync().empty());
  harness.Settle();
  CHECK(harness.Answered(call));
  CHECK(harness.in_sync().size() == 4);
  CHECK(harness.Differences(kA, kB) == "");
  // Its grant is needed too: the scheduler may promote it any time.
  harness.SetNow(2'000'000);
  CHECK_FALSE(harness.Answer(harness.Pull(kA, PullOf(1, 0, -1, SomeKeys()))).status.ok());
  harness.SetGrant(kA, kB, 3'000'000);
  harness.SetAllReplicas(kA, {kB});
  harness.NextEpoch();
  harness.PublishToAll();
  CHECK(harness.Answered(harness.Push(kA, PushOf(1, 4, 0, SomeKeys()))));
  harness.Settle();
  CHECK(harness.in_sync().size() == 4);
}

TEST_CASE("a fill knows the pushes whose keys it has not sent yet") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {});
  harness.Push(kA, PushOf(1, 1, 0, SomeKeys(0, 2000)));
  harness.SetAllReplicas(kA, {}, kB);
  harness.NextEpoch();
  harness.PublishToAll();
  harness.FillStep(kA, 100);
  harness.Push(kA, PushOf(1, 2, 0, {1900, 1901, 1902, 5000, 5001}));  // far beyond the cursor
  while (harness.FillStep(kA, 5000)) {
  }
  harness.Settle();
  CHECK(harness.Differences(kA, kB) == "");
  harness.SetAllReplicas(kA, {kB});
  harness.NextEpoch();
  harness.PublishToAll();
  Promote(harness);
  const CallToken retry = harness.Push(kB, PushOf(1, 2, 0, {1900, 1901, 1902, 5000, 5001}, 1, 2));
  CHECK(harness.Answer(retry).duplicate_rows == 5);
}

TEST_CASE("where counters would be halved the rest of the table is sent first") {
  ReplicaHarness::Options options = Async();
  options.shards = 1;
  std::vector<TableSpec> specs = OneTable();
  specs[0].mutable_admission()->set_after(3);
  ReplicaHarness harness(options, specs, 3);
  Start(harness, {});
  Sequence sequence = 0;
  for (Key first = 0; first < 64'000; first += 1000) harness.Push(kA, PushOf(0, 0, 0, SomeKeys(first, 1000)));
  harness.SetAllReplicas(kA, {}, kB);
  harness.NextEpoch();
  harness.PublishToAll();
  harness.FillStep(kA, 10'000);
  for (Key first = 64'000; first < 80'000; first += 1000) {
    harness.Push(kA, PushOf(1, ++sequence, 0, SomeKeys(first, 1000)));
  }
  while (harness.FillStep(kA, 100'000)) {
  }
  harness.Settle();
  CHECK(harness.Differences(kA, kB) == "");
}

TEST_CASE("a replica that differs is found by its digest") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB});
  harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  harness.Digests(kA);
  harness.Settle();
  CHECK(harness.diverged().empty());
  TableGroup& table = harness.group(kB).mutable_table(0);
  const Key key = 7;
  REQUIRE(table.shard(table.LocalOfKey(key)).Erase(key));
  harness.Digests(kA);
  harness.Settle();
  const ShardId shard = ShardOfHash(PlacementHash(0, key), 2);
  CHECK(harness.diverged() == std::set<std::pair<Incarnation, ShardId>>{{kB, shard}});
}

TEST_CASE("a backup that has no copy says so") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {});
  harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  harness.SetReplicas(2, kA, {kB});  // as if it had been there from the start
  harness.NextEpoch();
  harness.PublishToAll();
  harness.Digests(kA);
  harness.Settle();
  CHECK(harness.diverged() == std::set<std::pair<Incarnation, ShardId>>{{kB, 2}});
}

TEST_CASE("records say which table they follow from, and a fill whose beginning was not taken does not end as one") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {});
  harness.SetReplicas(2, kA, {}, kB);
  const Epoch epoch = harness.NextEpoch();
  REQUIRE(harness.Publish(kA).ok());
  while (harness.FillStep(kA, 1 << 20)) {
  }
  size_t records = 0;
  for (const auto& [to, link] : harness.links(kA)) {
    for (const OutRecord& record : link.queue) {
      CHECK(record.epoch == epoch);
      ++records;
    }
  }
  CHECK(records > 0);
  REQUIRE(harness.Publish(kB).ok());
  wire::FillRecord end;
  end.shard = 2;
  end.end = true;
  ShardEffects effects;
  REQUIRE(harness.group(kB).ApplyRecord(kA, epoch, end, {}, &effects).ok());
  CHECK(effects.diverged == std::vector<ShardId>{2});
}

TEST_CASE("a server is not made to lead what it has no copy of") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB});
  harness.SetAllReplicas(kC, {});
  harness.NextEpoch(true);
  CHECK(harness.Publish(kC).code() == absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace tidegate
