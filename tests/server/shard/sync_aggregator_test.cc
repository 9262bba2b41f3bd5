#include "server/shard/sync_aggregator.h"

#include <catch2/catch.hpp>

namespace tidegate {
namespace {

using Held = SyncAggregator::Held;

Held Push(CallToken token, Incarnation worker, Clock clock, uint32_t part = 0, uint32_t parts = 1,
          double weight = 1) {
  Held held;
  held.call.token = token;
  held.call.request.stamp.incarnation = worker;
  held.call.request.clock = clock;
  held.call.request.part = part;
  held.call.request.parts = parts;
  held.call.request.weight = weight;
  held.reserved_bytes = 10;
  return held;
}
void Hello(ClockTable* clocks, Incarnation worker, Clock at) {
  wire::ClockRequest request;
  request.kind = wire::ClockRequest::Kind::kHello;
  clocks->Announce(worker, request, at);
}
std::vector<CallToken> Tokens(const std::vector<Held>& pushes) {
  std::vector<CallToken> out;
  for (const Held& held : pushes) out.push_back(held.call.token);
  return out;
}

TEST_CASE("a clock is ready when every live worker's parts are all here") {
  ClockTable clocks;
  SyncAggregator aggregator;
  CHECK_FALSE(aggregator.Ready(0, clocks));  // nobody is live
  Hello(&clocks, 1, -1);
  Hello(&clocks, 2, -1);
  aggregator.Add(Push(1, 2, 0, 1, 2));
  aggregator.Add(Push(2, 1, 0));
  CHECK_FALSE(aggregator.Ready(0, clocks));
  aggregator.Add(Push(3, 2, 0, 0, 2));
  CHECK(aggregator.Ready(0, clocks));
  CHECK_FALSE(aggregator.Ready(1, clocks));
  // A worker counted from a later clock on need not contribute to this one.
  Hello(&clocks, 3, 0);
  CHECK(aggregator.Ready(0, clocks));
}

TEST_CASE("an announced clock does not stand for parts that are missing") {
  ClockTable clocks;
  SyncAggregator aggregator;
  Hello(&clocks, 1, 5);
  aggregator.Add(Push(1, 1, 5, 0, 2));
  CHECK_FALSE(aggregator.Ready(5, clocks));
  aggregator.Add(Push(2, 1, 5, 1, 2));
  CHECK(aggregator.Ready(5, clocks));
}

TEST_CASE("contributions come out by worker and part, their weight counted once") {
  SyncAggregator aggregator;
  aggregator.Add(Push(1, 9, 0, 1, 2, 3));
  aggregator.Add(Push(2, 4, 0, 0, 1, 2));
  aggregator.Add(Push(3, 9, 0, 0, 2, 3));
  aggregator.Add(Push(4, 4, 1));
  CHECK(aggregator.held() == 4);
  CHECK(aggregator.reserved_bytes() == 40);
  const SyncAggregator::Contributions batch = aggregator.Take(0);
  CHECK(batch.weight == 5);
  CHECK(Tokens(batch.pushes) == std::vector<CallToken>{2, 3, 1});
  CHECK(aggregator.held() == 1);
  CHECK(aggregator.reserved_bytes() == 10);
}

TEST_CASE("a retry replaces; nobody is answered twice") {
  SyncAggregator aggregator;
  CHECK(aggregator.Add(Push(1, 1, 0)) == std::nullopt);
  CHECK(aggregator.Add(Push(2, 1, 0)) == CallToken{1});
  CHECK(aggregator.Cancel(2));
  CHECK_FALSE(aggregator.Cancel(2));
  CHECK(aggregator.Add(Push(3, 1, 0)) == std::nullopt);
  CHECK(aggregator.held() == 1);
  CHECK(aggregator.reserved_bytes() == 10);
}

TEST_CASE("parts that disagree and clocks too far ahead are not taken") {
  SyncAggregator aggregator;
  aggregator.Add(Push(1, 1, 0, 0, 2, 4));
  auto check = [&](const Held& held) { return aggregator.Check(held.call.request, -1).code(); };
  CHECK(check(Push(2, 1, 0, 1, 2, 4)) == absl::StatusCode::kOk);
  CHECK(check(Push(2, 1, 0, 1, 3, 4)) == absl::StatusCode::kInvalidArgument);
  CHECK(check(Push(2, 1, 0, 1, 2, 5)) == absl::StatusCode::kInvalidArgument);
  CHECK(check(Push(2, 1, 3)) == absl::StatusCode::kOk);
  CHECK(check(Push(2, 1, 4)) == absl::StatusCode::kUnavailable);
}

TEST_CASE("what a worker that left had contributed is discarded") {
  ClockTable clocks;
  SyncAggregator aggregator;
  Hello(&clocks, 1, -1);
  aggregator.Add(Push(1, 1, 0));
  aggregator.Add(Push(2, 2, 0));
  aggregator.Add(Push(3, 2, 1));
  CHECK(Tokens(aggregator.Discard(2)) == std::vector<CallToken>{2, 3});
  CHECK(Tokens(aggregator.Take(0).pushes) == std::vector<CallToken>{1});
  CHECK(aggregator.held() == 0);
  CHECK(aggregator.reserved_bytes() == 0);
}

TEST_CASE("what is applied is a duplicate") {
  CHECK(SyncAggregator::IsDuplicate(3, 3));
  CHECK_FALSE(SyncAggregator::IsDuplicate(4, 3));
}

}  // namespace
}  // namespace tidegate
