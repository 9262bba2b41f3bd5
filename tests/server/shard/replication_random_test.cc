// Replicas are bit-equal at equal places of the log, whatever was pushed, swept, removed and filled meanwhile.

#include <catch2/catch.hpp>
#include <map>

#include "common/random.h"
#include "tests/server/shard/replica_harness.h"

namespace tidegate {
namespace {

constexpr Incarnation kWorkers = 4;

std::vector<TableSpec> Tables() {
  TableSpec counted = SparseTable(1, 2, "sgd { lr: 0.5 }");
  counted.mutable_admission()->set_after(4);
  counted.mutable_eviction()->set_max_age_clocks(3);
  counted.mutable_eviction()->set_sweep_every_clocks(2);
  counted.mutable_parts(0)->set_dtype(BFLOAT16);
  return {SparseTable(0, 3, "adagrad { lr: 0.1 }"), counted};
}

class Workload {
 public:
  Workload(uint64_t seed, bool synchronous, int strands)
      : random_(seed), synchronous_(synchronous), harness_(OptionsOf(synchronous, strands), Tables(), 3) {}

  static ReplicaHarness::Options OptionsOf(bool synchronous, int strands) {
    ReplicaHarness::Options options;
    options.synchronous = synchronous;
    options.strands = strands;
    options.known = kWorkers;
    if (strands == 1) options.clock_record_bytes = 100;
    return options;
  }

  void Run() {
    // Shards 0 and 1 have a backup from the start; 2 and 3 are given a replica later.
    for (ShardId shard : {0, 1}) harness_.SetReplicas(shard, 100, {101});
    harness_.NextEpoch();
    harness_.PublishToAll();
    for (Incarnation worker = 1; worker <= kWorkers; ++worker) {
      for (Incarnation server : {100, 101, 102}) {
        harness_.Announce(server, worker, 0, wire::ClockRequest::Kind::kHello);
      }
    }
    for (int step = 0; step < 300; ++step) {
      Step();
      if (step == 60) Join(102);
      if (step == 90 && random_.Below(2) == 0) Join(101);  // the fill begins anew, elsewhere
      if (step == 200) RemoveWorker();
      if (random_.Below(4) == 0) (void)harness_.Deliver(100, 0, random_.Below(6));
      if (random_.Below(4) == 0) harness_.Acknowledge();
      if (step > 60 && random_.Below(3) == 0) harness_.FillStep(100, 64 + random_.Below(200));
      if (random_.Below(40) == 0) harness_.Digests(100);
    }
    for (int i = 0; harness_.FillStep(100, 4096); ++i) REQUIRE(i < 1000);
    harness_.Digests(100);
    harness_.Settle();
    CHECK(harness_.diverged().empty());
    CHECK(harness_.in_sync().size() >= 2);
    for (ShardId shard : {0, 1}) Compare(shard, 101);
    for (ShardId shard : {2, 3}) Compare(shard, joined_);
    CHECK(harness_.group(100).rows() > 0);
  }

 private:
  void Compare(ShardId shard, Incarnation backup) {
    const ShardGroup& a = harness_.GroupOf(100, shard);
    const ShardGroup& b = harness_.GroupOf(backup, shard);
    INFO("shard " << shard << " at " << backup);
    CHECK(a.ShardDigest(shard) == b.ShardDigest(shard));
    CHECK(a.AppliedClock(shard) == b.AppliedClock(shard));
    const auto x = a.SessionsOf(shard), y = b.SessionsOf(shard);
    REQUIRE(x.size() == y.size());
    for (size_t i = 0; i < x.size(); ++i) CHECK(x[i].SerializeAsString() == y[i].SerializeAsString());
  }
  void Join(Incarnation server) {
    joined_ = server;
    for (ShardId shard : {2, 3}) harness_.SetReplicas(shard, 100, {}, server);
    harness_.NextEpoch();
    harness_.PublishToAll();
  }
  void RemoveWorker() {
    removed_ = 1;
    std::vector<Incarnation> live;
    for (Incarnation worker = 2; worker <= kWorkers; ++worker) live.push_back(worker);
    harness_.SetWorkers(100, 2, kWorkers, live);
  }
  TestRows Rows(TableId table, uint32_t dim) {
    TestRows rows;
    rows.table = table;
    std::set<Key> keys;
    const size_t count = random_.Below(12);
    while (keys.size() < count) keys.insert(random_.Below(120));
    rows.keys.assign(keys.begin(), keys.end());
    for (size_t i = 0; i < count * dim; ++i) rows.values.push_back(static_cast<float>(random_.Below(1000)) / 64 - 8);
    if (random_.Below(2) == 0) rows.counts.assign(count, 1 + static_cast<uint32_t>(random_.Below(3)));
    return rows;
  }
  void Step() {
    if (random_.Below(60) == 0) harness_.Sweep(100, clock_);
    TestPush push;
    push.epoch = 1;
    push.weight = static_cast<double>(random_.Below(4));
    push.tables = {Rows(0, 3), Rows(1, 2)};
    if (random_.Below(8) == 0) {
      push.weight += 1;
      harness_.Push(100, push);  // a guest
      return;
    }
    const Incarnation worker = removed_ + 1 + random_.Below(kWorkers - removed_);
    push.worker = worker;
    if (!synchronous_ && sent_.contains(worker) && random_.Below(4) == 0) {
      harness_.Push(100, sent_[worker]);  // again
      return;
    }
    Sequence& sequence = sequence_[worker];
    push.sequence = ++sequence;
    push.oldest_unacked = sequence > 5 ? sequence - 5 : 1;
    push.clock = clocks_[worker]++;
    harness_.Push(100, push);
    sent_[worker] = push;
    clock_ = std::max(clock_, push.clock);
    harness_.Announce(100, worker, sequence, wire::ClockRequest::Kind::kTick, push.clock);
  }

  Random random_;
  const bool synchronous_;
  ReplicaHarness harness_;
  Incarnation joined_ = 0;
  Incarnation removed_ = 0;
  Clock clock_ = 0;
  std::map<Incarnation, Sequence> sequence_;
  std::map<Incarnation, Clock> clocks_;
  std::map<Incarnation, TestPush> sent_;
};

TEST_CASE("replicas are equal to the primary, those filled while pushes go on included") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    for (const bool synchronous : {false, true}) {
      INFO("seed " << seed << (synchronous ? ", staleness 0" : ""));
      Workload(seed, synchronous, seed % 2 == 0 ? 1 : 2).Run();
    }
  }
}

}  // namespace
}  // namespace tidegate
