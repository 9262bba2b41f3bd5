#include "worker/pipeline/worker_agent.h"

#include <catch2/catch.hpp>

namespace tidegate {
namespace {
using Do = WorkerAgent::Do;
AcquireWorkResponse Answer(void (*fill)(AcquireWorkResponse*)) {
  AcquireWorkResponse r;
  fill(&r);
  return r;
}
const auto kAnnounceAnswer = Answer([](auto* r) { r->mutable_announce(); });
const auto kParkAnswer = Answer([](auto* r) { r->mutable_park(); });
const auto kWaitAnswer = Answer([](auto* r) { r->mutable_wait(); });
const auto kWorkAnswer = Answer([](auto* r) { r->mutable_work()->set_lease(42); });
const auto kFinishAnswer = Answer([](auto* r) { r->mutable_finish()->set_failed(true); });
}  // namespace

TEST_CASE("a worker announces, works, reports, parks and finishes") {
  WorkerAgent a(7);
  a.Begin();
  REQUIRE(a.Next().what == Do::kAcquire);
  CHECK(a.Next().request.incarnation() == 7);
  CHECK_FALSE(a.Next().request.live());

  a.OnAnswer(kAnnounceAnswer);
  REQUIRE(a.Next().what == Do::kAnnounce);
  a.OnAnnounced(12);
  REQUIRE(a.Next().what == Do::kAcquire);
  CHECK(a.Next().request.live());
  CHECK(a.Next().request.clock() == 12);

  a.OnAnswer(kWorkAnswer);
  REQUIRE(a.Next().what == Do::kRun);
  CHECK(a.Next().work.lease() == 42);
  WorkDone done;
  done.set_lease(42);
  a.OnWorkDone(done, 20);
  REQUIRE(a.Next().what == Do::kAcquire);
  CHECK(a.Next().request.clock() == 20);
  REQUIRE(a.Next().request.done_size() == 1);
  CHECK(a.Next().request.done(0).lease() == 42);

  a.OnAnswer(kParkAnswer);
  REQUIRE(a.Next().what == Do::kPark);
  a.OnParked();
  REQUIRE(a.Next().what == Do::kAcquire);
  CHECK_FALSE(a.Next().request.live());
  CHECK(a.Next().request.done_size() == 0);

  a.OnAnswer(kFinishAnswer);
  REQUIRE(a.Next().what == Do::kFinish);
  CHECK(a.Next().finish.failed());
}

TEST_CASE("a result is reported until a call that carried it succeeds") {
  WorkerAgent a(7);
  a.Begin();
  a.OnAnswer(kWorkAnswer);
  WorkDone done;
  done.set_lease(42);
  a.OnWorkDone(done, 1);
  a.OnAcquireFailed();
  CHECK(a.Next().request.done_size() == 1);
  a.OnAnswer(kWaitAnswer);
  CHECK(a.Next().request.done_size() == 0);
}

TEST_CASE("late events of another state change nothing") {
  WorkerAgent a(7);
  a.Begin();
  a.OnAnnounced(3);
  a.OnParked();
  a.OnWorkDone(WorkDone(), 5);
  CHECK(a.Next().what == Do::kAcquire);
  CHECK_FALSE(a.live());
  a.OnAnswer(kWorkAnswer);
  a.OnAnswer(kFinishAnswer);  // a duplicate of a call that was answered before
  CHECK(a.Next().what == Do::kRun);
}

TEST_CASE("orders that are carried out already are confirmed") {
  WorkerAgent a(7);
  a.Begin();
  a.OnAnswer(kParkAnswer);
  CHECK(a.Next().what == Do::kAcquire);
  a.OnAnswer(kAnnounceAnswer);
  a.OnAnnounced(3);
  a.OnAnswer(kAnnounceAnswer);
  CHECK(a.Next().what == Do::kAcquire);
  CHECK(a.Next().request.live());
}

TEST_CASE("a removed worker rejoins") {
  WorkerAgent a(7);
  a.Begin();
  AcquireWorkResponse r;
  r.set_rejoin(true);
  a.OnAnswer(r);
  CHECK(a.Next().what == Do::kRejoin);
}

}  // namespace tidegate
