#include "server/shard/parked_pulls.h"

#include <catch2/catch.hpp>

namespace tidegate {
namespace {

const Key kKeys[] = {1, 2, 3};

PullCall Call(CallToken token, Incarnation worker, Clock clock, Clock bound, size_t keys = 1) {
  PullCall call;
  call.token = token;
  call.request.stamp.incarnation = worker;
  call.request.clock = clock;
  call.request.bound = bound;
  call.request.tables.push_back({0, PackedSpan<Key>(kKeys, keys)});
  return call;
}
std::vector<CallToken> Tokens(const std::vector<PullCall>& calls) {
  std::vector<CallToken> out;
  for (const PullCall& call : calls) out.push_back(call.token);
  return out;
}

TEST_CASE("pulls are released by bound, then in the order they came") {
  ParkedPulls parked(8);
  CHECK(parked.Park(Call(1, 1, 5, 4)).ok());
  CHECK(parked.Park(Call(2, 2, 3, 2)).ok());
  CHECK(parked.Park(Call(3, 3, 5, 4)).ok());
  CHECK(parked.Park(Call(4, 4, 6, 5)).ok());
  CHECK(Tokens(parked.TakeReleased(1)).empty());
  CHECK(Tokens(parked.TakeReleased(4)) == std::vector<CallToken>{2, 1, 3});
  CHECK(parked.size() == 1);
}

TEST_CASE("a retry takes the place of the pull that waits") {
  ParkedPulls parked(8);
  CHECK(*parked.Park(Call(1, 1, 5, 4)) == std::nullopt);
  CHECK(*parked.Park(Call(2, 1, 5, 4)) == CallToken{1});
  CHECK(*parked.Park(Call(3, 1, 5, 4, 2)) == std::nullopt);  // other keys
  CHECK(*parked.Park(Call(4, 1, 6, 5)) == std::nullopt);     // another clock
  CHECK(*parked.Park(Call(5, 2, 5, 4)) == std::nullopt);     // another worker
  CHECK(Tokens(parked.TakeReleased(4)) == std::vector<CallToken>{2, 3, 5});
}

TEST_CASE("what a worker may park is bounded, its retries apart") {
  ParkedPulls parked(2);
  CHECK(parked.Park(Call(1, 1, 5, 4)).ok());
  CHECK(parked.Park(Call(2, 1, 6, 5)).ok());
  CHECK(parked.Park(Call(3, 1, 7, 6)).status().code() == absl::StatusCode::kUnavailable);
  CHECK(parked.Park(Call(4, 1, 6, 5)).ok());
  CHECK(parked.Park(Call(5, 2, 7, 6)).ok());
  CHECK(parked.size() == 3);
}

TEST_CASE("cancelled and taken pulls are gone") {
  ParkedPulls parked(8);
  CHECK(parked.Park(Call(1, 1, 5, 4)).ok());
  CHECK(parked.Park(Call(2, 2, 5, 4)).ok());
  CHECK(parked.Park(Call(3, 2, 6, 5)).ok());
  CHECK(parked.Cancel(1));
  CHECK_FALSE(parked.Cancel(1));
  auto of_worker_2 = [](const PullCall& call) { return call.request.stamp.incarnation == 2; };
  CHECK(Tokens(parked.TakeIf(of_worker_2)) == std::vector<CallToken>{2, 3});
  CHECK(parked.size() == 0);
}

TEST_CASE("no bound never waits") {
  CHECK_FALSE(ParkedPulls::MustWait(kNoBound, -1));
  CHECK_FALSE(ParkedPulls::MustWait(3, 3));
  CHECK(ParkedPulls::MustWait(4, 3));
}

}  // namespace
}  // namespace tidegate
