// A cut's rows are those of its moment, whatever is pushed, admitted or swept while they are given out.

#include "server/shard/shard_cut.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "common/random.h"
#include "tests/server/shard/shard_harness.h"

namespace tidegate {
namespace {

constexpr size_t kTables = 2;

std::vector<TableSpec> Tables() {
  std::vector<TableSpec> specs = {SparseTable(0, 2, "adagrad { lr: 1 }"), SparseTable(1, 1, "sgd { lr: 1 }")};
  specs[1].mutable_admission()->set_after(3);
  specs[1].mutable_eviction()->set_max_age_clocks(3);
  specs[1].mutable_eviction()->set_sweep_every_clocks(2);
  return specs;
}

TestPush RandomPush(Random* random, Incarnation worker, Sequence sequence, Clock clock) {
  TestPush push;
  push.worker = worker;
  push.sequence = sequence;
  push.oldest_unacked = sequence;
  push.clock = clock;
  for (TableId table = 0; table < kTables; ++table) {
    TestRows rows;
    rows.table = table;
    for (Key key = 0; key < 200; ++key) {
      if (random->Below(8) != 0) continue;
      rows.keys.push_back(key * 7919);
      for (size_t i = 0; i < 2 - table; ++i) rows.values.push_back(static_cast<float>(random->Unit()));
    }
    push.tables.push_back(rows);
  }
  return push;
}

using Records = std::vector<std::string>;  // by local shard, then table

Records AllRecords(ShardGroup& group) {
  Records all;
  for (uint32_t local = 0; local < group.shards().size(); ++local) {
    for (TableId id = 0; id < kTables; ++id) {
      const ShardTable& table = group.table(id).shard(local);
      table.AppendRows(table.SortedKeys(), &all.emplace_back());
    }
  }
  return all;
}

// Takes a step of the whole cut in its files' order: lists, orders, or takes a chunk. False: it is done.
class Taker {
 public:
  explicit Taker(ShardGroup* group) : group_(group), out_(group->shards().size() * kTables) {}
  bool Step() {
    ShardCut& cut = group_->cut();
    const uint32_t local = static_cast<uint32_t>(at_ / kTables);
    const TableId table = static_cast<TableId>(at_ % kTables);
    if (stage_ == 0) {
      keys_ = cut.ListKeys(local, table);
      std::sort(keys_.begin(), keys_.end());
    } else if (stage_ == 1) {
      cut.SetOrder(local, table, keys_);
    } else if (!cut.Next(local, table, 60, &out_[at_], &rows_)) {
      ++at_;
      stage_ = -1;
    }
    if (stage_ < 2) ++stage_;
    return at_ < out_.size();
  }
  const Records& records() const { return out_; }
  uint64_t rows() const { return rows_; }

 private:
  ShardGroup* const group_;
  Records out_;
  size_t at_ = 0;
  int stage_ = 0;
  std::vector<Key> keys_;
  uint64_t rows_ = 0;
};

TEST_CASE("a cut gives out the rows as they were, while pushes, admission and sweeps go on") {
  for (const bool synchronous : {false, true}) {
    for (uint64_t seed = 0; seed < 40; ++seed) {
      INFO("seed " << seed << (synchronous ? ", synchronous" : ""));
      Random random(seed);
      ShardHarness::Options options;
      options.synchronous = synchronous;
      options.shards = 4;
      ShardHarness harness(options, Tables());
      harness.Hello(1);
      Clock clock = 0;
      const auto push = [&] {
        harness.Push(RandomPush(&random, 1, static_cast<Sequence>(clock) + 1, clock));
        harness.Tick(1, static_cast<uint64_t>(clock) + 1, clock);
        ++clock;
      };
      const uint64_t before = 3 + random.Below(6);
      for (uint64_t i = 0; i < before; ++i) push();
      ShardGroup& group = harness.group();
      group.ArmCut(9, clock - 1);
      REQUIRE(group.cut().IsOpen(9));
      const Records expected = AllRecords(group);
      const uint64_t rows = group.rows();
      Taker taker(&group);
      push();
      const uint64_t pushes_one_in = 2 + random.Below(20);
      while (taker.Step()) {
        if (random.Below(pushes_one_in) == 0) push();
      }
      CHECK(taker.records() == expected);
      CHECK(taker.rows() == rows);
      CHECK_FALSE(group.cut().open());
      CHECK(AllRecords(group) != expected);
    }
  }
}

TEST_CASE("at staleness 0 a cut holds its clock and nothing of the next") {
  ShardHarness::Options options;
  options.synchronous = true;
  ShardHarness harness(options, Tables());
  harness.Hello(1);
  harness.Hello(2);
  Random random(1);
  ShardGroup& group = harness.group();
  group.ArmCut(4, 2);
  Records at_clock_2;
  for (Clock clock = 0; clock < 5; ++clock) {
    CHECK(group.cut().IsOpen(4) == (clock > 2));
    for (Incarnation worker : {1, 2}) {
      harness.Push(RandomPush(&random, worker, static_cast<Sequence>(clock) + 1, clock));
    }
    if (clock == 2) at_clock_2 = AllRecords(group);
  }
  CHECK(group.cut().Header(0).clock() == 2);
  CHECK(group.cut().Header(0).highest_clock() == 2);
  Taker taker(&group);
  while (taker.Step()) {
  }
  CHECK(taker.records() == at_clock_2);
}

TEST_CASE("with bounded staleness a cut waits for the minimum, and for nobody when none is live") {
  ShardHarness harness({}, Tables());
  harness.Hello(1);
  harness.Hello(2);
  ShardCut& cut = harness.group().cut();
  harness.group().ArmCut(1, 3);
  harness.Tick(1, 1, 5);
  CHECK(cut.IsArmed(1));
  harness.Tick(2, 1, 3);
  CHECK(cut.IsOpen(1));

  harness.group().ArmCut(2, 100);
  CHECK_FALSE(cut.IsOpen(1));  // the newer one took its place
  harness.Park(1, 2);
  CHECK(cut.IsArmed(2));
  harness.SetWorkers(1, 2, {1});
  CHECK(cut.IsOpen(2));
  cut.Drop(1);
  CHECK(cut.IsOpen(2));
  cut.Drop(2);
  CHECK_FALSE(cut.open());
}

TEST_CASE("a cut's header says which pushes of each worker are in it") {
  ShardHarness::Options options;
  options.shards = 1;
  ShardHarness harness(options, Tables());
  harness.Hello(7);
  Random random(1);
  TestPush push = RandomPush(&random, 7, 5, 0);
  push.oldest_unacked = 4;
  harness.Push(push);
  harness.group().ArmCut(1, kNoBound);
  const ShardFileHeader& header = harness.group().cut().Header(0);
  REQUIRE(header.sessions_size() == 1);
  CHECK(header.sessions(0).incarnation() == 7);
  CHECK(header.sessions(0).floor() == 4);
  CHECK(header.sessions(0).applied() == 2);
}

TEST_CASE("a resumed strand releases by the checkpoint's clock, and joiners start after it") {
  for (const bool synchronous : {false, true}) {
    ShardHarness::Options options;
    options.synchronous = synchronous;
    ShardHarness harness(options, Tables());
    harness.group().Resume(41, 1);
    CHECK(harness.group().released_clock() == 41);
    CHECK(harness.Answer(harness.Hello(1)).min_clock == 41);
  }
}

}  // namespace
}  // namespace tidegate
