// Durability ASYNC: acknowledgements that wait for no backup, and what a promotion may lose by it.

#include <catch2/catch.hpp>

#include "tests/server/shard/replication_testing.h"

namespace tidegate {
namespace {

ReplicaHarness::Options NotDurable(int strands = 1) {
  ReplicaHarness::Options options = Async(strands);
  options.durable = false;
  return options;
}

TEST_CASE("a promotion loses the acknowledged tail that the backup lacks, and nothing else; sessions stay as the rows") {
  for (int strands : {1, 2}) {
    ReplicaHarness harness(NotDurable(strands), OneTable(), 3);
    Start(harness, {kB});
    for (Sequence sequence : {1, 2}) REQUIRE(harness.Answer(harness.Push(kA, PushOf(1, sequence, 0, SomeKeys()))).status.ok());
    harness.Settle();
    for (Sequence sequence : {3, 4}) REQUIRE(harness.Answer(harness.Push(kA, PushOf(1, sequence, 0, SomeKeys()))).status.ok());
    Promote(harness);
    CHECK(Total(harness, kB, SomeKeys()) == -64);
    // What the worker has an acknowledgement of it does not send again; a late copy of what survived is a duplicate.
    const CallToken late = harness.Push(kB, PushOf(1, 2, 0, SomeKeys(), 1, 2));
    CHECK(harness.Answer(late).duplicate_rows == 32);
    TestPush next = PushOf(1, 5, 0, SomeKeys(), 1, 2);
    next.oldest_unacked = 5;
    CHECK(harness.Answer(harness.Push(kB, next)).status.ok());
    CHECK(Total(harness, kB, SomeKeys()) == -96);
    // A copy of a lost push that was still under way comes too late: nobody waits for it.
    CHECK(harness.Answer(harness.Push(kB, PushOf(1, 3, 0, SomeKeys(), 1, 2))).duplicate_rows == 32);
    CHECK(Total(harness, kB, SomeKeys()) == -96);
  }
}

TEST_CASE("a lost tail is at most the window's records; a full window refuses pushes until the backup has some") {
  ReplicaHarness::Options options = NotDurable();
  options.log_window_records = 8;
  ReplicaHarness harness(options, OneTable(), 3);
  Start(harness, {kB});
  harness.Settle();
  const auto push = [&](Sequence sequence) { return harness.Answer(harness.Push(kA, PushOf(1, sequence, 0, SomeKeys()))).status; };
  Sequence sequence = 0;
  while (push(sequence + 1).ok()) REQUIRE(++sequence <= 8);
  CHECK(sequence == 8);
  CHECK(push(9).code() == absl::StatusCode::kUnavailable);
  REQUIRE(harness.Deliver(kA, kB, 3).ok());
  harness.Acknowledge();
  for (int i = 0; i < 3; ++i) CHECK(push(++sequence).ok());
  CHECK(push(sequence + 1).code() == absl::StatusCode::kUnavailable);
  Promote(harness);
  CHECK(Total(harness, kB, SomeKeys()) == -3 * 32);
}

TEST_CASE("a primary whose backup does not grant acknowledges nothing, though it waits for no backup") {
  ReplicaHarness harness(NotDurable(), OneTable(), 3);
  Start(harness, {kB});
  const auto push = [&](Sequence sequence) { return harness.Answer(harness.Push(kA, PushOf(1, sequence, 0, SomeKeys()))).status; };
  harness.SetNow(999'999);
  CHECK(push(1).ok());
  harness.SetNow(1'000'000);
  const absl::Status refused = push(2);
  CHECK(refused.code() == absl::StatusCode::kUnavailable);
  CHECK(std::string(refused.message()).find("no grant") == 0);
  CHECK(harness.group(kA).metrics().pulls_without_grant == 0);
  harness.SetGrant(kA, kB, 1'000'100);
  CHECK(push(2).ok());
  harness.Settle();
  CHECK(harness.Differences(kA, kB) == "");
  CHECK(Total(harness, kA, SomeKeys()) == -64);
}

TEST_CASE("with durability no grant is needed to take a push: the backup's acknowledgement says it all") {
  ReplicaHarness harness(Async(), OneTable(), 3);
  Start(harness, {kB});
  harness.SetNow(1'000'000);
  const CallToken call = harness.Push(kA, PushOf(1, 1, 0, SomeKeys()));
  CHECK_FALSE(harness.Answered(call));
  harness.Settle();
  CHECK(harness.Answer(call).status.ok());
}

}  // namespace
}  // namespace tidegate
