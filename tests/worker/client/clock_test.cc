// Hello, ticks and Park, through the tracker.

#include <catch2/catch.hpp>

#include "tests/worker/client/tracker_harness.h"

namespace tidegate {
namespace {

using Kind = wire::ClockRequest::Kind;

wire::ClockResponse ClockOk(Clock min_clock = 0) { return {.epoch = 1, .min_clock = min_clock}; }

// Announced at clock 1 (both servers answer 0).
void GoLive(TrackerHarness* h) {
  h->tracker.Announce(h->now);
  h->Collect();
  for (const auto& s : h->TakeSends()) h->Reply(s, ClockOk(0));
  REQUIRE(h->TakeCompleted().size() == 1);
  REQUIRE(h->sends.empty());
}

void PushOne(TrackerHarness* h, Clock clock) {
  const std::vector<Key> keys = {h->KeyIn(0)};
  const std::vector<float> gradients = {1};
  const TablePush push{0, keys, gradients, {}};
  h->tracker.Push(h->now, clock, 1, {&push, 1});
  h->Collect();
}

}  // namespace

TEST_CASE("a joiner starts above the highest minimum and ticks up to it") {
  TrackerHarness h;
  const auto call = h.tracker.Announce(h.now);
  h.Collect();
  auto sends = h.TakeSends();
  REQUIRE(sends.size() == 2);
  for (const auto& s : sends) {
    CHECK(AsClock(s).kind == Kind::kHello);
    CHECK(AsClock(s).order == 0);
    CHECK(AsClock(s).stamp.incarnation == 77);
  }
  h.Reply(sends[0], ClockOk(7));
  CHECK(h.completed.empty());
  h.Reply(sends[1], ClockOk(4));
  REQUIRE(h.completed.size() == 1);
  CHECK(h.completed[0].call == call);
  CHECK(h.completed[0].clock == 8);
  REQUIRE(h.sends.size() == 2);
  for (const auto& s : h.sends) {
    CHECK(AsClock(s).kind == Kind::kTick);
    CHECK(AsClock(s).clock == 7);
    CHECK(AsClock(s).order == 1);
  }
}

TEST_CASE("staleness 0: servers that answered less than another are told of the clocks between") {
  TrackerHarness h({.synchronous = true});
  h.tracker.Announce(h.now);
  h.Collect();
  auto sends = h.TakeSends();
  h.Reply(sends[0], ClockOk(7));
  h.Reply(sends[1], ClockOk(4));
  REQUIRE(h.TakeCompleted().at(0).clock == 8);
  auto ticks = h.TakeSends();
  REQUIRE(ticks.size() == 2);
  for (const auto& s : ticks) {
    CHECK(AsClock(s).kind == Kind::kTick);
    CHECK(AsClock(s).clock == 7);
    h.Reply(s, ClockOk(7));
  }
  h.tracker.EndClock(h.now, 8);
  h.Collect();
  CHECK(h.sends.empty());
}

TEST_CASE("a repeated Hello keeps its order number") {
  TrackerHarness h({.clock_timeout_ms = 50});
  h.tracker.Announce(h.now);
  h.Collect();
  auto sends = h.TakeSends();
  h.Reply(sends[0], ClockOk(2));
  h.Advance(50);
  h.AdvanceToNext();
  REQUIRE(h.sends.size() == 1);
  CHECK(h.sends[0].server == sends[1].server);
  CHECK(AsClock(h.sends[0]).order == 0);
  h.Reply(h.TakeSends()[0], ClockOk(2));
  CHECK(h.completed.size() == 1);
}

TEST_CASE("a tick leaves only when every push up to its clock is acknowledged") {
  TrackerHarness h;
  GoLive(&h);
  PushOne(&h, 1);
  PushOne(&h, 2);
  h.tracker.EndClock(h.now, 1);
  h.tracker.EndClock(h.now, 2);
  h.Collect();
  auto pushes = h.TakeSends();
  REQUIRE(pushes.size() == 2);
  h.Reply(pushes[1], PushOk());  // clock 2 first
  CHECK(h.sends.empty());
  h.Reply(pushes[0], PushOk());
  REQUIRE(h.sends.size() == 2);
  for (const auto& s : h.sends) CHECK(AsClock(s).clock == 2);
}

TEST_CASE("a tick names the clock before the oldest unacknowledged push") {
  TrackerHarness h;
  GoLive(&h);
  PushOne(&h, 1);
  PushOne(&h, 3);
  h.tracker.EndClock(h.now, 3);
  h.Collect();
  auto pushes = h.TakeSends();
  h.Reply(pushes[0], PushOk());
  REQUIRE(h.sends.size() == 2);
  CHECK(AsClock(h.sends[0]).clock == 2);
}

TEST_CASE("a push that failed for good holds the clock for ever") {
  TrackerHarness h;
  GoLive(&h);
  PushOne(&h, 1);
  h.tracker.EndClock(h.now, 1);
  h.Collect();
  h.Reply(h.TakeSends()[0], absl::InvalidArgumentError("no"));
  h.Advance(100'000);
  CHECK(h.sends.empty());
}

TEST_CASE("no tick before the clock was ended") {
  TrackerHarness h;
  GoLive(&h);
  PushOne(&h, 1);
  h.Reply(h.TakeSends()[0], PushOk());
  CHECK(h.sends.empty());
}

TEST_CASE("ticks are sent one at a time, the newest next, each with a higher order") {
  TrackerHarness h;
  GoLive(&h);
  for (Clock c = 1; c <= 5; ++c) h.tracker.EndClock(h.now, c);
  h.Collect();
  auto first = h.TakeSends();
  REQUIRE(first.size() == 2);
  CHECK(AsClock(first[0]).clock == 1);
  h.Reply(first[0], ClockOk());
  auto next = h.TakeSends();
  REQUIRE(next.size() == 1);
  CHECK(AsClock(next[0]).clock == 5);
  CHECK(AsClock(next[0]).order > AsClock(first[0]).order);
}

TEST_CASE("an unacknowledged tick is sent again, as the newest of then") {
  TrackerHarness h({.clock_timeout_ms = 50});
  GoLive(&h);
  h.tracker.EndClock(h.now, 1);
  h.Collect();
  CHECK(h.TakeSends().size() == 2);
  h.tracker.EndClock(h.now, 2);
  h.Collect();
  CHECK(h.sends.empty());
  h.Advance(50);
  while (h.sends.size() < 2) h.AdvanceToNext();
  for (const auto& s : h.sends) CHECK(AsClock(s).clock == 2);
}

TEST_CASE("Park ends the ticks and completes when all servers have it") {
  TrackerHarness h;
  GoLive(&h);
  const auto call = h.tracker.Park(h.now);
  h.Collect();
  auto sends = h.TakeSends();
  REQUIRE(sends.size() == 2);
  for (const auto& s : sends) CHECK(AsClock(s).kind == Kind::kPark);
  h.tracker.EndClock(h.now, 9);
  for (const auto& s : sends) h.Reply(s, ClockOk());
  REQUIRE(h.completed.size() == 1);
  CHECK(h.completed[0].call == call);
  CHECK(h.sends.empty());
  // And back, with a new order.
  h.tracker.Announce(h.now);
  h.Collect();
  REQUIRE(h.sends.size() == 2);
  CHECK(AsClock(h.sends[0]).kind == Kind::kHello);
  CHECK(AsClock(h.sends[0]).order > AsClock(sends[0]).order);
}

TEST_CASE("an announcement that a newer one cuts short completes, and its answers are ignored") {
  TrackerHarness h;
  const auto hello = h.tracker.Announce(h.now);
  h.Collect();
  auto old = h.TakeSends();
  h.tracker.Park(h.now);
  h.Collect();
  REQUIRE(h.completed.size() == 1);
  CHECK(h.completed[0].call == hello);
  CHECK(h.completed[0].status.code() == absl::StatusCode::kAborted);
  for (const auto& s : old) h.Reply(s, ClockOk(50));
  CHECK(h.completed.size() == 1);
}

TEST_CASE("a Hello refused with rejoin fences the client") {
  TrackerHarness h;
  h.tracker.Announce(h.now);
  h.Collect();
  h.Reply(h.TakeSends()[0], absl::FailedPreconditionError("rejoin"));
  REQUIRE(h.completed.size() == 1);
  CHECK(h.completed[0].status.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(!h.tracker.health().ok());
}

TEST_CASE("an announcement made before the routing is known goes out when it comes") {
  TrackerHarness h({}, {});
  h.tracker.Announce(h.now);
  h.Collect();
  CHECK(h.sends.empty());
  h.Route(1, {1, 2});
  CHECK(h.sends.size() == 2);
}

TEST_CASE("where primaries have changed, every server that holds a replica hears the newest tick again") {
  TrackerHarness h;
  GoLive(&h);
  h.tracker.EndClock(h.now, 3);
  h.Collect();
  for (const auto& s : h.TakeSends()) h.Reply(s, ClockOk());
  h.Route(2, {1, 3, 1, 3}, 0, {4});  // 4 follows: it hears it as every newcomer does
  auto sends = h.TakeSends();
  REQUIRE(sends.size() == 2);
  for (const auto& s : sends) {
    CHECK(s.server != 1);
    CHECK(AsClock(s).clock == 3);
    h.Reply(s, ClockOk());
  }
  const uint64_t order = AsClock(sends[0]).order;
  h.Route(3, {1, 4, 1, 4}, 3);
  sends = h.TakeSends();
  REQUIRE(sends.size() == 2);
  for (const auto& s : sends) {
    CHECK(AsClock(s).kind == Kind::kTick);
    CHECK(AsClock(s).clock == 3);
    CHECK(AsClock(s).order == order + 1);
    CHECK(AsClock(s).stamp.epoch == 3);
    h.Reply(s, ClockOk());
  }
  h.Route(4, {1, 4, 1, 4}, 3, {5});  // no primary changed
  sends = h.TakeSends();
  REQUIRE(sends.size() == 1);
  CHECK(sends[0].server == 5);
  CHECK(h.tracker.NextTime() > h.now + 100);  // nothing but its answer is waited for
}

TEST_CASE("a tick that was under way when primaries changed is not waited for") {
  TrackerHarness h;
  GoLive(&h);
  h.tracker.EndClock(h.now, 1);
  h.Collect();
  const auto before = h.TakeSends();
  h.Route(2, {1, 2, 2, 2}, 2);
  REQUIRE(h.sends.size() == 2);
  const auto again = h.TakeSends();
  h.Reply(before[0], ClockOk());
  h.Reply(again[0], ClockOk());
  h.Reply(again[1], ClockOk());
  CHECK(h.sends.empty());
}

TEST_CASE("a worker that has not said anything yet says Park where primaries have an epoch") {
  TrackerHarness h({}, {});
  h.Route(4, {1, 2}, 4);
  auto sends = h.TakeSends();
  REQUIRE(sends.size() == 2);
  for (const auto& s : sends) {
    CHECK(AsClock(s).kind == Kind::kPark);
    CHECK(AsClock(s).order == 0);
  }
  CHECK(h.completed.empty());
  h.tracker.Announce(h.now);
  h.Collect();
  sends = h.TakeSends();
  REQUIRE(sends.size() == 2);
  for (const auto& s : sends) {
    CHECK(AsClock(s).kind == Kind::kHello);
    CHECK(AsClock(s).order == 1);
    h.Reply(s, ClockOk(6));
  }
  REQUIRE(h.completed.size() == 1);
  CHECK(h.completed[0].clock == 7);
}

TEST_CASE("a Hello under way begins again where primaries have changed") {
  TrackerHarness h;
  h.tracker.Announce(h.now);
  h.Collect();
  const auto before = h.TakeSends();
  h.Reply(before[0], ClockOk(9));
  h.Route(2, {1, 3, 1, 3}, 2);
  const auto again = h.TakeSends();
  REQUIRE(again.size() == 2);
  for (const auto& s : again) {
    CHECK(AsClock(s).kind == Kind::kHello);
    CHECK(AsClock(s).order == 1);
  }
  h.Reply(before[1], ClockOk(50));
  h.Reply(again[0], ClockOk(4));
  CHECK(h.completed.empty());
  h.Reply(again[1], ClockOk(5));
  REQUIRE(h.completed.size() == 1);
  CHECK(h.completed[0].clock == 6);
}

TEST_CASE("a Hello by an older table than the server's asks for routing") {
  TrackerHarness h;
  h.tracker.Announce(h.now);
  h.Collect();
  h.want_routing = false;
  h.Reply(h.TakeSends()[0], absl::UnavailableError("routing older: Hello by the table of epoch 1"));
  CHECK(h.want_routing);
  h.Route(2, {1, 3, 1, 3}, 2);
  for (const auto& s : h.TakeSends()) h.Reply(s, ClockOk(3));
  REQUIRE(h.completed.size() == 1);
  CHECK(h.completed[0].clock == 4);
}

TEST_CASE("a parked worker says so again where primaries have changed") {
  TrackerHarness h;
  GoLive(&h);
  h.tracker.Park(h.now);
  h.Collect();
  for (const auto& s : h.TakeSends()) h.Reply(s, ClockOk());
  REQUIRE(h.TakeCompleted().size() == 1);
  h.Route(2, {1, 3, 1, 3}, 2);
  REQUIRE(h.sends.size() == 2);
  for (const auto& s : h.sends) CHECK(AsClock(s).kind == Kind::kPark);
}

TEST_CASE("a Hello that waits only for a server that is gone ends with the routing that says so") {
  TrackerHarness h({}, {});
  h.Route(1, {1, 1}, 0, {2});
  h.tracker.Announce(h.now);
  h.Collect();
  for (const auto& s : h.TakeSends()) {
    if (s.server == 1) h.Reply(s, ClockOk(3));
  }
  CHECK(h.completed.empty());
  h.Route(2, {1, 1});
  REQUIRE(h.completed.size() == 1);
  CHECK(h.completed[0].clock == 4);
}

TEST_CASE("an announcement that a server cannot take yet is made again soon, however often") {
  TrackerHarness h({.retry = {.backoff_max_ms = 5000}}, {1});
  h.tracker.Announce(h.now);
  h.Collect();
  for (int i = 0; i < 12; ++i) {
    REQUIRE(h.sends.size() == 1);
    h.Reply(h.TakeSends()[0], absl::UnavailableError("routing newer: the sender's epoch is 2, this server's 1"));
    CHECK(h.tracker.NextTime() <= h.now + 50);
    h.AdvanceToNext();
  }
}

}  // namespace tidegate
