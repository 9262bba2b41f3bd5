// Random traffic with duplicates and reordering, from a seed, against plain references; and the same
// traffic on other numbers of strands, which must end in the same bits.

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <vector>

#include "common/random.h"
#include "tests/server/shard/shard_harness.h"

namespace tidegate {
namespace {

constexpr uint32_t kKeys = 40;
constexpr int kWorkers = 3;

TestPush RandomPush(Random* random, Incarnation worker, Sequence sequence, Clock clock,
                    bool integers) {
  TestPush push;
  push.worker = worker;
  push.sequence = sequence;
  push.clock = clock;
  push.weight = integers ? 1 : 1 + static_cast<double>(random->Below(5));
  TestRows rows;
  for (Key key = 0; key < kKeys; ++key) {
    if (random->Below(4) != 0) continue;
    rows.keys.push_back(key);
    for (int i = 0; i < 2; ++i) {
      rows.values.push_back(integers ? static_cast<float>(random->Below(9)) - 4
                                     : static_cast<float>(random->Unit()) - 0.5f);
    }
    rows.counts.push_back(1 + static_cast<uint32_t>(random->Below(3)));
  }
  push.tables.push_back(rows);
  return push;
}

TEST_CASE("bounded: every push counts once, and no pull is answered before its bound") {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    INFO("seed " << seed);
    Random random(seed);
    ShardHarness::Options options;
    options.strands = 1 + static_cast<int>(seed % 3);
    ShardHarness harness(options, {SparseTable(0, 2, "sgd { lr: 1 }")});
    std::map<Key, std::vector<float>> expected;
    std::vector<Clock> ticked(kWorkers, -1);
    std::vector<std::vector<TestPush>> sent(kWorkers);
    std::map<CallToken, Clock> parked;  // bound
    int released = 0, waited = 0;
    for (Incarnation worker = 1; worker <= kWorkers; ++worker) harness.Hello(worker);
    auto minimum = [&] { return *std::min_element(ticked.begin(), ticked.end()); };
    for (int step = 0; step < 300; ++step) {
      const size_t w = random.Below(kWorkers);
      std::vector<TestPush>& mine = sent[w];
      switch (random.Below(4)) {
        case 0: {  // a new push
          const Sequence sequence = mine.size() + 1;
          TestPush push = RandomPush(&random, w + 1, sequence, ticked[w] + 1, true);
          push.oldest_unacked = sequence > 20 ? sequence - 20 : 1;
          harness.Push(push);
          for (size_t i = 0; i < push.tables[0].keys.size(); ++i) {
            std::vector<float>& row = expected[push.tables[0].keys[i]];
            row.resize(2);
            for (size_t j = 0; j < 2; ++j) row[j] -= push.tables[0].values[2 * i + j];
          }
          mine.push_back(push);
          break;
        }
        case 1: {  // one sent again, as it was
          if (mine.empty()) break;
          const size_t back = random.Below(std::min<size_t>(mine.size(), 20));
          const TestPush& again = mine[mine.size() - 1 - back];
          const TestAnswer answer = harness.Answer(harness.Push(again));
          CHECK(answer.status.ok());
          CHECK(answer.duplicate_rows == again.tables[0].keys.size());
          break;
        }
        case 2:
          ++ticked[w];
          harness.Tick(w + 1, static_cast<uint64_t>(ticked[w]) + 1, ticked[w]);
          break;
        default: {
          TestPull pull;
          pull.worker = w + 1;
          pull.clock = ticked[w] + 1;
          pull.bound = pull.clock - 1 - static_cast<Clock>(random.Below(3));
          pull.tables.push_back({0, {1, 2, random.Below(kKeys)}, {}, {}});
          const Clock bound = pull.bound;
          parked[harness.Pull(pull)] = bound;
        }
      }
      for (auto it = parked.begin(); it != parked.end();) {
        const bool answered = harness.Answered(it->first);
        if (answered && harness.Answer(it->first).status.ok()) {
          ++released;
          REQUIRE(it->second <= minimum());
          REQUIRE(harness.Answer(it->first).min_clock <= minimum());
        }
        if (!answered) ++waited;
        REQUIRE((answered || it->second > minimum()));
        it = answered ? parked.erase(it) : std::next(it);
      }
    }
    CHECK(released > 20);
    CHECK(waited > 20);
    for (const auto& [key, row] : expected) CHECK(harness.Read(0, {key}) == row);
  }
}

// Plays the clocks of all workers, each clock's messages in an order of its own, some of them twice.
uint64_t PlaySynchronous(uint64_t seed, int strands, uint64_t order_seed, int clocks) {
  ShardHarness::Options options;
  options.synchronous = true;
  options.strands = strands;
  options.shards = 16;
  TableSpec spec = SparseTable(0, 2, "adam { lr: 0.1 }");
  spec.mutable_parts(0)->mutable_init()->set_normal(0.1f);
  spec.mutable_admission()->set_after(3);
  spec.mutable_eviction()->set_max_age_clocks(2);
  spec.mutable_eviction()->set_sweep_every_clocks(3);
  ShardHarness harness(options, {spec});
  Random content(seed);
  Random order(order_seed);
  for (Incarnation worker = 1; worker <= kWorkers; ++worker) harness.Hello(worker);
  for (Clock clock = 0; clock < clocks; ++clock) {
    std::vector<TestPush> pushes;
    for (Incarnation worker = 1; worker <= kWorkers; ++worker) {
      pushes.push_back(
          RandomPush(&content, worker, static_cast<Sequence>(clock) + 1, clock, false));
    }
    const size_t firsts = pushes.size();
    for (size_t i = 0; i < firsts; ++i) {
      if (order.Below(3) == 0) pushes.push_back(pushes[i]);
    }
    for (size_t i = pushes.size(); i > 1; --i) std::swap(pushes[i - 1], pushes[order.Below(i)]);
    for (const TestPush& push : pushes) harness.Push(push);
    REQUIRE(harness.group().released_clock() == clock);
  }
  REQUIRE(harness.group().held_pushes() == 0);
  REQUIRE(harness.Total(&ShardMetrics::swept_rows) > 0);
  return harness.Digest();
}

TEST_CASE("synchronous: the same bits for every order of arrival and number of strands") {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const uint64_t digest = PlaySynchronous(seed, 1, 1, 20);
    CHECK(PlaySynchronous(seed, 1, 2, 20) == digest);
    CHECK(PlaySynchronous(seed, 2, 3, 20) == digest);
    CHECK(PlaySynchronous(seed, 4, 4, 20) == digest);
    CHECK(PlaySynchronous(seed + 100, 1, 1, 20) != digest);
  }
}

TEST_CASE("synchronous: workers that share a batch equal one worker with all of it") {
  auto tables = [] { return std::vector<TableSpec>{SparseTable(0, 2, "adagrad { lr: 0.5 }")}; };
  ShardHarness::Options options;
  options.synchronous = true;
  ShardHarness two(options, tables());
  ShardHarness one(options, tables());
  two.Hello(1);
  two.Hello(2);
  one.Hello(1);
  Random random(5);
  for (Clock clock = 0; clock < 10; ++clock) {
    TestPush all;
    all.worker = 1;
    all.sequence = static_cast<Sequence>(clock) + 1;
    all.clock = clock;
    all.weight = 8;
    TestPush half = all;
    // Uneven halves; sixteenths add up without rounding, so the results are equal in bits.
    for (Incarnation worker : {1, 2}) {
      half.worker = worker;
      half.weight = worker == 1 ? 3 : 5;
      half.tables.assign(1, {0, {1, 2, 10 + worker}, {}, {}});
      for (int i = 0; i < 6; ++i) {
        half.tables[0].values.push_back((static_cast<float>(random.Below(33)) - 16) / 16);
      }
      two.Push(half);
      if (worker == 1) {
        all.tables = half.tables;
      } else {
        for (int i = 0; i < 4; ++i) all.tables[0].values[i] += half.tables[0].values[i];
        all.tables[0].keys.push_back(12);
        all.tables[0].values.push_back(half.tables[0].values[4]);
        all.tables[0].values.push_back(half.tables[0].values[5]);
      }
    }
    one.Push(all);
    CHECK(one.Read(0, {1, 2, 11, 12}) == two.Read(0, {1, 2, 11, 12}));
  }
}

}  // namespace
}  // namespace tidegate
