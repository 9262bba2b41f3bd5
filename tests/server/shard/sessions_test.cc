#include "server/shard/sessions.h"

#include <catch2/catch.hpp>
#include <set>

#include "common/random.h"

namespace tidegate {
namespace {

TEST_CASE("a session knows what it has applied, in any order, within its window") {
  ShardSession session;
  CHECK_FALSE(session.IsDuplicate(1));
  session.MarkApplied(3);
  session.MarkApplied(1);
  CHECK(session.IsDuplicate(1));
  CHECK_FALSE(session.IsDuplicate(2));
  CHECK(session.IsDuplicate(3));
  session.RaiseFloor(3);
  CHECK(session.IsDuplicate(2));  // acknowledged, by another server
  CHECK(session.IsDuplicate(3));
  CHECK_FALSE(session.IsDuplicate(4));
  session.RaiseFloor(2);  // a message that was sent earlier
  CHECK_FALSE(session.IsDuplicate(4));
  CHECK(session.InWindow(3 + kSessionWindow - 1));
  CHECK_FALSE(session.InWindow(3 + kSessionWindow));
  session.RaiseFloor(1000);
  CHECK(session.IsDuplicate(999));
  CHECK_FALSE(session.IsDuplicate(1000));
}

TEST_CASE("the last sequence of the window survives a raise of the floor by window - 1") {
  ShardSession session;
  session.MarkApplied(kSessionWindow);
  session.RaiseFloor(kSessionWindow);
  CHECK(session.IsDuplicate(kSessionWindow));
  CHECK_FALSE(session.IsDuplicate(kSessionWindow + 1));
}

TEST_CASE("duplicates are found for the shards touched only") {
  Sessions sessions;
  sessions.SetShards(3);
  std::vector<uint8_t> skip(3);
  size_t duplicates = 9;
  const std::vector<uint8_t> first = {1, 0, 0};
  REQUIRE(Sessions::FindDuplicates(sessions.Of(7), 2, 1, first, skip, &duplicates).ok());
  CHECK(duplicates == 0);
  Sessions::MarkApplied(sessions.Of(7), 2, 1, first, skip);
  const std::vector<uint8_t> second = {1, 1, 0};
  REQUIRE(Sessions::FindDuplicates(sessions.Of(7), 2, 1, second, skip, &duplicates).ok());
  CHECK(duplicates == 1);
  CHECK(skip == std::vector<uint8_t>{1, 0, 0});
  Sessions::MarkApplied(sessions.Of(7), 2, 1, second, skip);
  REQUIRE(Sessions::FindDuplicates(sessions.Of(7), 2, 1, second, skip, &duplicates).ok());
  CHECK(duplicates == 2);
  // Another worker, and a dropped session, know nothing of it.
  REQUIRE(Sessions::FindDuplicates(sessions.Of(8), 2, 1, second, skip, &duplicates).ok());
  CHECK(duplicates == 0);
  sessions.Drop(7);
  CHECK(sessions.Workers() == std::vector<Incarnation>{8});
  REQUIRE(Sessions::FindDuplicates(sessions.Of(7), 2, 1, second, skip, &duplicates).ok());
  CHECK(duplicates == 0);
}

TEST_CASE("a sequence outside the window is refused") {
  Sessions sessions;
  sessions.SetShards(1);
  std::vector<uint8_t> skip(1);
  const std::vector<uint8_t> touched = {1};
  size_t duplicates = 0;
  auto find = [&](Sequence sequence, Sequence oldest) {
    return Sessions::FindDuplicates(sessions.Of(1), sequence, oldest, touched, skip, &duplicates);
  };
  CHECK(find(kSessionWindow, 1).ok());
  CHECK(find(kSessionWindow + 1, 1).code() == absl::StatusCode::kInvalidArgument);
  CHECK(find(1, 2).code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("a session agrees with a set of everything applied, for a worker that keeps its window") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Random random(seed);
    ShardSession session;
    std::set<Sequence> applied;
    std::set<Sequence> unacked;
    Sequence next = 1;
    for (int i = 0; i < 2000; ++i) {
      const Sequence oldest = unacked.empty() ? next : *unacked.begin();
      if (next - oldest < kSessionWindow && random.Below(3) > 0) unacked.insert(next++);
      if (unacked.empty()) continue;
      auto it = unacked.begin();
      std::advance(it, random.Below(unacked.size()));
      session.RaiseFloor(*unacked.begin());
      REQUIRE(session.IsDuplicate(*it) == applied.contains(*it));
      if (!session.IsDuplicate(*it)) session.MarkApplied(*it);
      applied.insert(*it);
      if (random.Below(2) == 0) unacked.erase(it);
    }
  }
}

TEST_CASE("a followed shard's sessions leave by name only, and travel in a header") {
  Sessions sessions;
  sessions.SetShards(2);
  const std::vector<uint8_t> both = {1, 1}, none = {0, 0};
  for (Incarnation worker : {3, 4}) Sessions::MarkApplied(sessions.Of(worker), 9, 5, both, none);
  sessions.SetFollowed(1, true);
  sessions.Drop(3);
  ShardFileHeader led, followed;
  sessions.AppendRecords(0, &led);
  sessions.AppendRecords(1, &followed);
  REQUIRE(led.sessions_size() == 1);
  CHECK(led.sessions(0).incarnation() == 4);
  CHECK(followed.sessions_size() == 2);
  sessions.DropIn(3, 1);
  CHECK(sessions.Workers() == std::vector<Incarnation>{4});

  Sessions other;
  other.SetShards(1);
  Sessions::MarkApplied(other.Of(8), 1, 1, {both.data(), 1}, none);
  other.Load(0, followed);
  CHECK(other.Workers() == std::vector<Incarnation>{3, 4});
  CHECK(other.Of(3)[0].IsDuplicate(4));
  CHECK(other.Of(3)[0].IsDuplicate(9));
  CHECK_FALSE(other.Of(3)[0].IsDuplicate(5));
  other.SetShards(2);
  CHECK(other.Of(3)[1].empty());
}

TEST_CASE("asking for duplicates changes no session") {
  Sessions sessions;
  sessions.SetShards(1);
  const std::vector<uint8_t> touched = {1};
  std::vector<uint8_t> skip(1);
  size_t duplicates = 0;
  Sessions::MarkApplied(sessions.Of(1), 1, 1, touched, skip);
  REQUIRE(Sessions::FindDuplicates(sessions.Of(1), 90, 80, touched, skip, &duplicates).ok());
  CHECK(duplicates == 0);
  CHECK(sessions.Of(1)[0].floor() == 1);
}

}  // namespace
}  // namespace tidegate
