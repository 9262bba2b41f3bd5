// Handovers at random steps, each server hearing of tables late or never: what is acknowledged is applied once, the
// replicas stay in sync without a fill, and every handover comes to its end.

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "common/random.h"
#include "tests/server/shard/replication_testing.h"

namespace tidegate {
namespace {

constexpr Incarnation kWorkers = 3;
constexpr ShardId kShards = 4;

ShardId ShardOf(Key key) { return ShardOfHash(PlacementHash(0, key), 2); }

// Pushes of its worker, each key's value 1, sent again until every key is acknowledged.
struct Client {
  struct Open {
    std::set<Key> keys;
    Clock clock = 0;
    std::map<CallToken, std::set<Key>> calls;
  };
  Sequence next = 1;
  std::map<Sequence, Open> open;
};

class Handovers {
 public:
  Handovers(uint64_t seed, int strands) : random_(seed), harness_(OptionsOf(strands), OneTable(), 3) {}

  static ReplicaHarness::Options OptionsOf(int strands) {
    ReplicaHarness::Options options;
    options.strands = strands;
    options.known = kWorkers;
    return options;
  }

  void Run() {
    for (ShardId shard = 0; shard < kShards; ++shard) {
      const Incarnation first = kA + random_.Below(3);
      harness_.SetReplicas(shard, first, Others(first));
    }
    NextTable(/*promotion=*/true);
    for (Incarnation server : {kA, kB, kC}) Hear(server);
    for (int step = 0; step < 500; ++step) {
      if (random_.Below(3) == 0) NewPush();
      if (random_.Below(2) == 0) SendSome();
      if (random_.Below(3) == 0) (void)harness_.Deliver(kA + random_.Below(3), 0, 1 + random_.Below(4));
      if (random_.Below(3) == 0) harness_.Acknowledge(kA + random_.Below(3));
      if (random_.Below(12) == 0) Plan();
      if (random_.Below(4) == 0) Hear(kA + random_.Below(3));
      if (random_.Below(60) == 0) harness_.Digests(kA + random_.Below(3));
      TakeAnswers();
    }
    End();
  }
  int handed_over = 0, given_up = 0;

 private:
  static std::vector<Incarnation> Others(Incarnation server) {
    std::vector<Incarnation> others;
    for (Incarnation other : {kA, kB, kC}) {
      if (other != server) others.push_back(other);
    }
    return others;
  }
  void NextTable(bool promotion) {
    harness_.NextEpoch(promotion);
    harness_.table().set_worker_set_version(1);
  }
  // What the scheduler does: completes, gives up or begins handovers.
  void Plan() {
    bool changed = false, promotion = false;
    for (ShardId shard = 0; shard < kShards; ++shard) {
      const int s = static_cast<int>(shard);
      const Incarnation successor = harness_.table().successor(s), primary = harness_.table().primary(s);
      if (successor == 0) {
        if (random_.Below(3) != 0) continue;
        harness_.SetSuccessor(shard, Others(primary)[random_.Below(2)]);
        since_[shard] = harness_.table().epoch() + 1;
        changed = true;
        continue;
      }
      const auto drained = harness_.drained().find({primary, shard});
      if (drained != harness_.drained().end() && drained->second >= since_[shard]) {
        harness_.HandOver(shard);
        ++handed_over;
        changed = promotion = true;
      } else if (random_.Below(4) == 0) {
        harness_.SetSuccessor(shard, 0);
        ++given_up;
        changed = true;
      }
    }
    if (changed) NextTable(promotion);
  }
  void Hear(Incarnation server) {
    REQUIRE(harness_.Publish(server).ok());
    const Epoch epoch = harness_.table().epoch();
    for (Incarnation worker = 1; worker <= kWorkers; ++worker) {
      harness_.Announce(server, worker, 2 * epoch, Kind::kHello, 0, epoch);
      harness_.Announce(server, worker, 2 * epoch + 1, Kind::kTick, -1, epoch);
    }
    for (Incarnation other : Others(server)) harness_.SetGrant(server, other, 1'000'000);
  }
  void NewPush() {
    Client& client = clients_[1 + random_.Below(kWorkers)];
    if (client.open.size() >= 20) return;
    Client::Open& push = client.open[client.next++];
    const size_t count = 1 + random_.Below(6);
    while (push.keys.size() < count) push.keys.insert(random_.Below(24));
    for (Key key : push.keys) ++expected_[key];
  }
  void SendSome() {
    const Incarnation worker = 1 + random_.Below(kWorkers);
    Client& client = clients_[worker];
    for (auto& [sequence, push] : client.open) {
      if (random_.Below(3) != 0) continue;
      std::map<Incarnation, std::set<Key>> by_server;
      for (Key key : push.keys) by_server[harness_.table().primary(static_cast<int>(ShardOf(key)))].insert(key);
      for (const auto& [server, keys] : by_server) {
        TestPush message = PushOf(worker, sequence, 0, {keys.begin(), keys.end()});
        message.epoch = harness_.group(server).epoch();
        message.oldest_unacked = client.open.begin()->first;
        push.calls[harness_.Push(server, message)] = keys;
      }
    }
  }
  void TakeAnswers() {
    for (auto& [worker, client] : clients_) {
      for (auto& [sequence, push] : client.open) {
        for (const auto& [call, keys] : push.calls) {
          if (!harness_.Answered(call)) continue;
          const TestAnswer& answer = harness_.Answer(call);
          if (!answer.status.ok()) REQUIRE(answer.status.code() == absl::StatusCode::kUnavailable);
          for (Key key : answer.status.ok() ? keys : std::set<Key>()) {
            const auto& refused = answer.refused_shards;
            if (std::find(refused.begin(), refused.end(), ShardOf(key)) == refused.end()) push.keys.erase(key);
          }
        }
        std::erase_if(push.calls, [&](const auto& call) { return harness_.Answered(call.first); });
      }
      std::erase_if(client.open, [](const auto& push) { return push.second.keys.empty(); });
    }
  }
  void End() {
    for (ShardId shard = 0; shard < kShards; ++shard) harness_.SetSuccessor(shard, 0);
    NextTable(false);
    for (Incarnation server : {kA, kB, kC}) Hear(server);
    for (int round = 0; round < 200; ++round) {
      SendSome();
      harness_.Settle();
      TakeAnswers();
    }
    for (auto& [worker, client] : clients_) REQUIRE(client.open.empty());
    for (Incarnation server : {kA, kB, kC}) harness_.Digests(server);
    harness_.Settle();
    CHECK(harness_.diverged().empty());
    CHECK(harness_.Differences(kA, kB) == "");
    CHECK(harness_.Differences(kA, kC) == "");
    for (const auto& [key, count] : expected_) {
      const Incarnation primary = harness_.table().primary(static_cast<int>(ShardOf(key)));
      CHECK(Total(harness_, primary, {key}) == -static_cast<float>(count));
    }
  }

  Random random_;
  ReplicaHarness harness_;
  std::map<Incarnation, Client> clients_;
  std::map<Key, int> expected_;
  std::map<ShardId, Epoch> since_;  // from which table on it has a successor
};

TEST_CASE("handovers at random steps lose nothing, double nothing and leave every replica in sync") {
  int handed_over = 0, given_up = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    INFO("seed " << seed);
    Handovers run(seed, seed % 2 == 0 ? 1 : 2);
    run.Run();
    handed_over += run.handed_over;
    given_up += run.given_up;
  }
  CHECK(handed_over > 200);
  CHECK(given_up > 100);
}

}  // namespace
}  // namespace tidegate
