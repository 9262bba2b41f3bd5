// train.drop_slowest: a push asks whether it counts, and what it was told goes to every server.

#include <catch2/catch.hpp>

#include "tests/worker/client/tracker_harness.h"

namespace tidegate {
namespace {

using Kind = wire::ClockRequest::Kind;

constexpr Incarnation kSelf = 77;

struct Live : TrackerHarness {
  Live() : TrackerHarness({.synchronous = true, .drop_slowest = true}) {
    tracker.Announce(now);
    Collect();
    for (const auto& s : TakeSends()) Reply(s, wire::ClockResponse{.epoch = 1, .min_clock = -1});
    REQUIRE(TakeCompleted().size() == 1);
  }
};

struct Sent {
  std::map<Incarnation, Tracker::Send> pushes, ticks;
  std::vector<Tracker::Send> asks;
};
Sent Take(TrackerHarness* h) {
  Sent out;
  for (Tracker::Send& s : h->TakeSends()) {
    if (std::holds_alternative<wire::ClockRequest>(s.body)) {
      out.ticks[s.server] = s;
    } else if (AsPush(s).asks) {
      out.asks.push_back(s);
    } else {
      out.pushes[s.server] = s;
    }
  }
  return out;
}
Sent PushOne(TrackerHarness* h, Clock clock) {
  const std::vector<Key> keys = {h->KeyIn(0)};
  const std::vector<float> gradients = {1};
  const TablePush push{0, keys, gradients, {}};
  h->tracker.Push(h->now, clock, 1, {&push, 1});
  h->Collect();
  return Take(h);
}
wire::PushResponse Told(std::vector<Incarnation> contributors, Clock closed) {
  wire::PushResponse response;
  response.epoch = 1;
  response.contributors = std::move(contributors);
  response.closed = closed;
  return response;
}

}  // namespace

TEST_CASE("a push asks the primary of shard 0, and one that counts is over when every server has it") {
  Live h;
  Sent sent = PushOne(&h, 0);
  REQUIRE(sent.asks.size() == 1);
  CHECK(sent.asks[0].server == 1);
  CHECK(AsPush(sent.asks[0]).tables.empty());
  CHECK(AsPush(sent.asks[0]).clock == 0);
  REQUIRE(sent.pushes.size() == 2);
  h.Reply(sent.pushes[1], wire::PushResponse{});
  h.Reply(sent.asks[0], Told({3, kSelf}, 0));
  CHECK(h.completed.empty());
  const Sent told = Take(&h);
  REQUIRE(told.ticks.size() == 2);
  for (const auto& [server, tick] : told.ticks) {
    CHECK(AsClock(tick).kind == Kind::kTick);
    CHECK(AsClock(tick).clock == -1);
    REQUIRE(AsClock(tick).closed.size() == 1);
    CHECK(AsClock(tick).closed[0].clock == 0);
    CHECK(AsClock(tick).closed[0].contributors == std::vector<Incarnation>{3, kSelf});
  }
  h.Reply(sent.pushes[2], wire::PushResponse{});
  REQUIRE(h.completed.size() == 1);
  CHECK_FALSE(h.completed[0].dropped);
  CHECK(h.completed[0].clock == 0);
  // All servers have applied it: it need not be told again.
  for (const auto& [server, tick] : told.ticks) h.Reply(tick, wire::ClockResponse{});
  sent = PushOne(&h, 1);
  h.Reply(sent.asks[0], Told({kSelf}, 1));
  CHECK(AsClock(Take(&h).ticks.at(2)).closed.size() == 1);
}

TEST_CASE("a push that does not count is over with the answer, and its clock is ticked") {
  Live h;
  const Sent sent = PushOne(&h, 0);
  h.Reply(sent.pushes.at(1), wire::PushResponse{});
  h.Reply(sent.asks[0], Told({3}, 2));
  REQUIRE(h.completed.size() == 1);
  CHECK(h.completed[0].status.ok());
  CHECK(h.completed[0].dropped);
  CHECK(h.completed[0].clock == 2);
  const Sent told = Take(&h);
  REQUIRE(told.ticks.size() == 2);
  CHECK(AsClock(told.ticks.at(2)).closed[0].contributors == std::vector<Incarnation>{3});
  CHECK(AsClock(told.ticks.at(2)).clock == 0);
  for (const auto& [server, tick] : told.ticks) h.Reply(tick, wire::ClockResponse{});
  h.TakeCompleted();
  h.Reply(sent.pushes.at(2), wire::PushResponse{});
  h.Advance(100'000);
  CHECK(Take(&h).pushes.empty());
  CHECK(h.completed.empty());
}

TEST_CASE("pushes of clocks that are decided already are dropped without a message but the tick") {
  Live h;
  const Sent sent = PushOne(&h, 0);
  h.Reply(sent.asks[0], Told({3}, 2));
  for (int round = 0; round < 2; ++round) {
    for (const auto& [server, tick] : Take(&h).ticks) h.Reply(tick, wire::ClockResponse{});
  }
  h.TakeCompleted();
  for (Clock clock : {1, 2}) {
    const Sent none = PushOne(&h, clock);
    CHECK(none.pushes.empty());
    CHECK(none.asks.empty());
    REQUIRE(h.completed.size() == 1);
    CHECK(h.TakeCompleted()[0].dropped);
    REQUIRE(none.ticks.size() == 2);
    CHECK(AsClock(none.ticks.at(1)).clock == clock);
    for (const auto& [server, tick] : none.ticks) h.Reply(tick, wire::ClockResponse{});
  }
  CHECK(PushOne(&h, 3).asks.size() == 1);
}

TEST_CASE("after a change of primaries the new one is asked, and what was told before is told again") {
  Live h;
  const Sent sent = PushOne(&h, 0);
  h.Route(2, {2, 2, 1, 1}, 2);
  Sent again = Take(&h);
  REQUIRE(again.asks.size() == 1);
  CHECK(again.asks[0].server == 2);
  CHECK(AsPush(again.asks[0]).stamp.epoch == 2);
  h.Reply(sent.asks[0], Told({3}, 0));  // of the old primary
  CHECK(h.completed.empty());
  h.Reply(again.asks[0], Told({kSelf}, 0));
  for (const auto& [server, tick] : again.ticks) h.Reply(tick, wire::ClockResponse{});
  Take(&h);
  h.Route(3, {1, 2, 1, 1}, 3);
  again = Take(&h);
  CHECK(again.asks.empty());
  CHECK(again.pushes.size() == 2);
  REQUIRE(again.ticks.size() == 2);
  CHECK(AsClock(again.ticks.at(1)).closed.size() == 1);
}

TEST_CASE("an ask that is refused is sent again, and finds the new primary") {
  Live h;
  const Sent sent = PushOne(&h, 0);
  h.Reply(sent.asks[0], absl::UnavailableError("moved: shard 0, which decides, is not led here"));
  CHECK(h.want_routing);
  h.Advance(1'000);
  REQUIRE(Take(&h).asks.size() == 1);
}

}  // namespace tidegate
