#include "server/shard/replica_log.h"

#include <catch2/catch.hpp>

namespace tidegate {
namespace {

constexpr Incarnation kOne = 7, kTwo = 8;
using Touched = std::vector<uint8_t>;

struct Fixture {
  explicit Fixture(bool durable = true, size_t window = 1 << 20) : log(durable, window) {
    log.Resize(2);
    log.Set(kOne, 0, Follows::kBackup);
    log.Set(kTwo, 1, Follows::kFilling);
    log.Settle(&effects);
  }
  uint64_t Append(Incarnation server, size_t bytes = 10) {
    for (ReplicaLog::Follower& follower : log.followers()) {
      if (follower.server == server) return log.Append(&follower, wire::KeepAlive(), nullptr, bytes, &effects);
    }
    return 0;
  }
  void Finish(CallToken token, Touched touched) {
    PushDone done;
    done.token = token;
    log.Finish(done, touched, &effects);
  }
  std::vector<CallToken> Answered() {
    std::vector<CallToken> out;
    for (const PushDone& done : effects.pushes) out.push_back(done.token);
    effects.Clear();
    return out;
  }
  ReplicaLog log;
  ShardEffects effects;
};

TEST_CASE("answers wait for those who must have the newest record of a touched shard") {
  Fixture f;
  CHECK(f.Append(kOne) == 1);
  CHECK(f.Append(kTwo) == 1);
  f.Finish(1, {1, 0});
  f.Finish(2, {0, 1});  // its follower is being filled
  CHECK(f.Answered() == std::vector<CallToken>{2});
  CHECK(f.Append(kOne) == 2);
  f.Finish(3, {1, 1});
  f.log.Acknowledged(kOne, 1, &f.effects);
  CHECK(f.Answered() == std::vector<CallToken>{1});
  f.log.Acknowledged(kOne, 1, &f.effects);
  f.log.Acknowledged(kOne, 9, &f.effects);   // never sent
  f.log.Acknowledged(1234, 2, &f.effects);   // nobody
  CHECK(f.Answered().empty());
  f.log.Acknowledged(kOne, 2, &f.effects);
  CHECK(f.Answered() == std::vector<CallToken>{3});
  CHECK(f.log.held() == 0);
}

TEST_CASE("one that was filled is waited for without durability too") {
  Fixture f(false);
  f.Append(kOne);
  f.Append(kTwo);
  f.log.Set(kTwo, 1, Follows::kFilled);
  f.Finish(1, {1, 0});
  f.Finish(2, {0, 1});
  CHECK(f.Answered() == std::vector<CallToken>{1});
}

TEST_CASE("who is not to have it any more is not waited for, and indices go on where it comes back") {
  Fixture f;
  f.Append(kOne, 100);
  f.Finish(1, {1, 0});
  f.log.Set(kOne, 0, Follows::kNot);
  f.log.Settle(&f.effects);
  CHECK(f.Answered() == std::vector<CallToken>{1});
  CHECK(f.log.Find(kOne)->unacked_bytes == 0);
  f.log.Set(kOne, 1, Follows::kBackup);
  f.log.Settle(&f.effects);
  CHECK(f.Append(kOne) == 2);
}

TEST_CASE("answers for shards that left fail, cancelled ones are forgotten") {
  Fixture f;
  f.Append(kOne);
  for (CallToken token : {1, 2}) f.Finish(token, {1, 0});
  CHECK(f.log.Cancel(1));
  CHECK_FALSE(f.log.Cancel(1));
  f.log.FailHeld(Touched{0, 1}, absl::UnavailableError("moved"), &f.effects);
  CHECK(f.effects.pushes.empty());
  f.log.FailHeld(Touched{1, 0}, absl::UnavailableError("moved"), &f.effects);
  REQUIRE(f.effects.pushes.size() == 1);
  CHECK(f.effects.pushes[0].token == 2);
  CHECK_FALSE(f.effects.pushes[0].status.ok());
}

TEST_CASE("a window is per follower, and of what it has not acknowledged") {
  Fixture f(true, 1000);
  while (!f.log.WindowFull(Touched{1, 0})) f.Append(kOne, 300);
  CHECK_FALSE(f.log.WindowFull(Touched{0, 1}));
  CHECK_FALSE(f.log.HasRoom(*f.log.Find(kOne)));
  f.log.Acknowledged(kOne, f.log.Find(kOne)->last, &f.effects);
  CHECK_FALSE(f.log.WindowFull(Touched{1, 1}));
  CHECK(f.log.HasRoom(*f.log.Find(kOne)));
}

TEST_CASE("the earliest grant of the touched shards' backups counts; one that is being filled has none to give") {
  Fixture f;
  Incarnation missing = 0;
  CHECK(f.log.GrantedUntil(Touched{0, 1}, &missing) == std::numeric_limits<TimeMs>::max());
  f.log.SetGrant(kOne, 50);
  f.log.SetGrant(kOne, 40);  // an answer that came late
  CHECK(f.log.GrantedUntil(Touched{1, 1}, &missing) == 50);
  CHECK(missing == kOne);
  f.log.Set(kTwo, 1, Follows::kFilled);
  CHECK(f.log.GrantedUntil(Touched{1, 1}, &missing) < 0);
  CHECK(missing == kTwo);
  f.log.SetGrant(kTwo, 45);
  CHECK(f.log.GrantedUntil(Touched{1, 1}, &missing) == 45);
}

}  // namespace
}  // namespace tidegate
