#include "server/shard/clock_table.h"

#include <catch2/catch.hpp>

namespace tidegate {
namespace {

using Kind = wire::ClockRequest::Kind;

wire::ClockRequest Request(Kind kind, uint64_t order, Clock clock = 0) {
  wire::ClockRequest request;
  request.kind = kind;
  request.order = order;
  request.clock = clock;
  return request;
}
WorkerSet Set(uint64_t version, Incarnation last, std::vector<Incarnation> live) {
  WorkerSet set;
  set.set_version(version);
  set.set_last_incarnation(last);
  for (Incarnation worker : live) set.add_live(worker);
  return set;
}

TEST_CASE("a worker is unknown until a set of workers reaches its incarnation") {
  ClockTable clocks;
  CHECK(clocks.IsUnknown(1));
  clocks.SetWorkers(Set(1, 3, {1, 3}));
  CHECK_FALSE(clocks.IsUnknown(2));
  CHECK(clocks.IsRemoved(2));
  CHECK_FALSE(clocks.IsUnknown(3));
  CHECK(clocks.IsUnknown(4));
  CHECK_FALSE(clocks.IsRemoved(4));
  clocks.SetWorkers(Set(1, 9, {9}));  // no newer version
  CHECK(clocks.IsUnknown(4));
  CHECK_FALSE(clocks.IsUnknown(0));  // guests
}

TEST_CASE("the minimum is that of the live workers and never falls") {
  ClockTable clocks;
  CHECK(clocks.Minimum() == -1);
  clocks.Announce(1, Request(Kind::kHello, 0), clocks.Minimum());
  clocks.Announce(2, Request(Kind::kHello, 0), clocks.Minimum());
  clocks.Announce(1, Request(Kind::kTick, 1, 4), clocks.Minimum());
  CHECK(clocks.Minimum() == -1);
  clocks.Announce(2, Request(Kind::kTick, 1, 2), clocks.Minimum());
  CHECK(clocks.Minimum() == 2);
  clocks.Announce(2, Request(Kind::kPark, 2), clocks.Minimum());
  CHECK(clocks.Minimum() == 4);
  clocks.Announce(3, Request(Kind::kHello, 0), clocks.Minimum());
  clocks.Announce(1, Request(Kind::kTick, 2, 9), clocks.Minimum());
  CHECK(clocks.Minimum() == 4);
  clocks.Announce(1, Request(Kind::kPark, 3), clocks.Minimum());
  clocks.Announce(3, Request(Kind::kPark, 3), clocks.Minimum());
  CHECK(clocks.Minimum() == 4);
}

TEST_CASE("a tick does not go back, and means nothing before a Hello") {
  ClockTable clocks;
  clocks.Announce(1, Request(Kind::kTick, 0, 7), clocks.Minimum());
  CHECK(clocks.Minimum() == -1);
  CHECK_FALSE(clocks.IsLive(1));
  clocks.Announce(1, Request(Kind::kHello, 1), clocks.Minimum());
  clocks.Announce(1, Request(Kind::kTick, 2, 5), clocks.Minimum());
  clocks.Announce(1, Request(Kind::kTick, 3, 3), clocks.Minimum());
  CHECK(clocks.Minimum() == 5);
}

TEST_CASE("announcements that come late or twice change nothing") {
  ClockTable clocks;
  const wire::ClockRequest hello = Request(Kind::kHello, 0);
  CHECK(clocks.Announce(1, hello, 6));
  CHECK_FALSE(clocks.Announce(1, hello, 8));
  CHECK(clocks.AnswerTo(1, hello, 8) == 6);
  CHECK(clocks.Announce(1, Request(Kind::kPark, 2), 8));
  CHECK_FALSE(clocks.Announce(1, Request(Kind::kTick, 1, 9), 8));
  CHECK_FALSE(clocks.Announce(1, hello, 8));
  CHECK_FALSE(clocks.IsLive(1));
  CHECK(clocks.AnswerTo(1, hello, 8) == 8);
}

TEST_CASE("a newer Hello of a live worker holds nobody up before it is counted") {
  ClockTable clocks;
  for (Incarnation worker : {1, 2}) clocks.Announce(worker, Request(Kind::kHello, 3), -1);
  clocks.Announce(1, Request(Kind::kTick, 4, 6), -1);
  CHECK_FALSE(clocks.LeaveForHello(2, Request(Kind::kHello, 3)));  // a retry
  CHECK_FALSE(clocks.LeaveForHello(2, Request(Kind::kTick, 4, 1)));
  CHECK_FALSE(clocks.LeaveForHello(7, Request(Kind::kHello, 4)));
  CHECK(clocks.Minimum() == -1);
  CHECK(clocks.LeaveForHello(2, Request(Kind::kHello, 4)));
  CHECK(clocks.Minimum() == 6);
  CHECK_FALSE(clocks.LeaveForHello(2, Request(Kind::kHello, 4)));
  CHECK(clocks.Announce(2, Request(Kind::kHello, 4), clocks.Minimum()));
  CHECK(clocks.AnswerTo(2, Request(Kind::kHello, 4), 0) == 6);
}

TEST_CASE("JoinAt lifts the worker whose Hello it belongs to") {
  ClockTable clocks;
  const wire::ClockRequest hello = Request(Kind::kHello, 4);
  clocks.Announce(1, hello, 3);
  clocks.JoinAt(1, 3, 9);
  CHECK(clocks.workers().at(1).clock == 3);
  clocks.JoinAt(1, 4, 5);
  CHECK(clocks.workers().at(1).clock == 5);
  CHECK(clocks.AnswerTo(1, hello, 3) == 5);
  clocks.Announce(1, Request(Kind::kPark, 5), 3);
  clocks.JoinAt(1, 4, 9);
  CHECK(clocks.workers().at(1).clock == 5);
}

TEST_CASE("the scheduler's set removes, for good, those that it knew and lists no more") {
  ClockTable clocks;
  for (Incarnation worker : {1, 2, 5}) {
    clocks.Announce(worker, Request(Kind::kHello, 0), clocks.Minimum());
  }
  clocks.Announce(1, Request(Kind::kTick, 1, 4), clocks.Minimum());
  clocks.Announce(5, Request(Kind::kTick, 1, 3), clocks.Minimum());
  CHECK(clocks.SetWorkers(Set(3, 4, {1, 4})) == std::vector<Incarnation>{2});
  CHECK(clocks.Minimum() == 3);
  CHECK(clocks.IsRemoved(2));
  CHECK(clocks.IsRemoved(3));
  CHECK_FALSE(clocks.IsRemoved(4));
  CHECK_FALSE(clocks.IsRemoved(5));  // joined after the set was made
  CHECK(clocks.SetWorkers(Set(2, 4, {1, 2, 4})).empty());
  CHECK(clocks.IsRemoved(2));
  CHECK(clocks.SetWorkers(Set(4, 5, {})) == std::vector<Incarnation>{1, 5});
  CHECK(clocks.Minimum() == 3);
}

wire::ClockRequest By(Epoch epoch, wire::ClockRequest request) {
  request.stamp.epoch = epoch;
  return request;
}

TEST_CASE("while workers of the set have not spoken by the new table the minimum stays") {
  ClockTable clocks;
  clocks.SetWorkers(Set(1, 2, {1, 2}));
  for (Incarnation worker : {1, 2}) clocks.Announce(worker, By(1, Request(Kind::kHello, 0)), 4);
  CHECK(clocks.Minimum() == 4);
  clocks.AwaitAll(7, 1, false, -1);
  CHECK(clocks.Awaits());
  clocks.Announce(1, By(7, Request(Kind::kTick, 1, 9)), 4);
  clocks.Announce(2, By(6, Request(Kind::kTick, 1, 9)), 4);
  CHECK(clocks.Awaits());
  CHECK(clocks.Minimum() == 4);
  CHECK_FALSE(clocks.Announce(2, By(7, Request(Kind::kTick, 0, 9)), 4));  // older than what was heard
  CHECK(clocks.Awaits());
  CHECK_FALSE(clocks.Announce(2, By(7, Request(Kind::kTick, 1, 9)), 4));  // repeated, by the new table
  CHECK_FALSE(clocks.Awaits());
  CHECK(clocks.Minimum() == 9);
}

TEST_CASE("one that ticked before this server led anything counts by its tick after that") {
  ClockTable clocks;
  clocks.SetWorkers(Set(1, 2, {1, 2}));
  for (Incarnation worker : {1, 2}) clocks.Announce(worker, By(1, Request(Kind::kTick, 4, 9)), -1);
  CHECK_FALSE(clocks.IsLive(1));
  clocks.AwaitAll(2, 1, true, -1);
  clocks.Announce(1, By(2, Request(Kind::kTick, 5, 9)), -1);
  clocks.Announce(2, By(2, Request(Kind::kTick, 5, 6)), -1);
  CHECK(clocks.IsLive(1));
  CHECK(clocks.Minimum() == 6);
}

TEST_CASE("a worker that is removed is not awaited, one that came after the table neither") {
  ClockTable clocks;
  clocks.SetWorkers(Set(3, 2, {1, 2}));
  clocks.SetWorkers(Set(4, 5, {1, 2, 5}));
  clocks.AwaitAll(2, 3, true, -1);
  clocks.Announce(1, By(2, Request(Kind::kTick, 1, 6)), -1);
  CHECK(clocks.Awaits());
  clocks.SetWorkers(Set(5, 5, {1, 5}));
  CHECK_FALSE(clocks.Awaits());
  CHECK(clocks.Minimum() == 6);
}

TEST_CASE("the set as of the table is awaited before anyone of it") {
  ClockTable clocks;
  clocks.SetWorkers(Set(1, 1, {1}));
  clocks.AwaitAll(2, 2, true, -1);
  clocks.Announce(1, By(2, Request(Kind::kTick, 1, 6)), -1);
  CHECK(clocks.Awaits());
  clocks.SetWorkers(Set(2, 2, {1, 2}));
  CHECK(clocks.Awaits());
  clocks.Announce(2, By(2, Request(Kind::kPark, 1)), -1);
  CHECK_FALSE(clocks.Awaits());
  CHECK(clocks.Minimum() == 6);
}

TEST_CASE("a restart forgets a minimum that not all had a part in, and ends where it is known to be") {
  ClockTable clocks;
  clocks.SetWorkers(Set(1, 2, {1, 2}));
  clocks.StartAt(3);
  clocks.Announce(1, By(1, Request(Kind::kHello, 0)), 50);
  CHECK(clocks.Minimum() == 50);
  clocks.AwaitAll(2, 1, true, 40);
  CHECK(clocks.Minimum() == 3);
  clocks.Hear(2, 2);  // says Hello, which waits
  clocks.Announce(1, By(2, Request(Kind::kPark, 1)), 3);
  CHECK_FALSE(clocks.Awaits());
  CHECK(clocks.Minimum() == 40);
  CHECK(clocks.Announce(2, By(2, Request(Kind::kHello, 0)), 40));
  CHECK(clocks.IsLive(2));
}

}  // namespace
}  // namespace tidegate
