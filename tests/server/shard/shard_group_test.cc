// What the scenario files (tests/scenarios/shard) do not show: memory, dense tables, parts, bfloat16,
// sweeps, placement of shards.

#include "server/shard/shard_group.h"

#include <catch2/catch.hpp>
#include <string>

#include "common/random.h"
#include "tests/server/shard/shard_harness.h"

namespace tidegate {
namespace {

std::vector<TableSpec> Tables(const std::string& optimizer = "sgd { lr: 1 }") {
  return {SparseTable(0, 2, optimizer)};
}
TestPush PushOf(Incarnation worker, Sequence sequence, Clock clock, std::vector<Key> keys,
                float gradient) {
  TestPush push;
  push.worker = worker;
  push.sequence = sequence;
  push.clock = clock;
  const size_t values = keys.size() * 2;
  push.tables.push_back({0, std::move(keys), std::vector<float>(values, gradient), {}});
  return push;
}

TEST_CASE("messages before tables are open are to be sent again") {
  struct NoRows : RowSink {
    std::span<std::byte> RowsOf(CallToken, size_t) override { return {}; }
  } sink;
  ShardGroup group({}, &sink);
  ShardEffects effects;
  group.Pull({1, {}, {}, nullptr}, &effects);
  group.Push({2, {}, {}, nullptr}, &effects);
  REQUIRE(effects.pulls.size() == 1);
  REQUIRE(effects.pushes.size() == 1);
  CHECK(effects.pulls[0].status.code() == absl::StatusCode::kUnavailable);
  CHECK(effects.pushes[0].status.code() == absl::StatusCode::kUnavailable);
  const std::vector<TableSpec> specs = Tables();
  CHECK(group.OpenTables(*TableCatalog::FromSpecs(specs)).code() ==
        absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("tables open once; the same again is no error") {
  ShardHarness harness({}, Tables());
  harness.Push(PushOf(0, 0, 0, {1}, 1));
  const std::vector<TableSpec> same = Tables();
  const std::vector<TableSpec> other = Tables("sgd { lr: 2 }");
  CHECK(harness.group().OpenTables(*TableCatalog::FromSpecs(same)).ok());
  CHECK(harness.group().OpenTables(*TableCatalog::FromSpecs(other)).code() ==
        absl::StatusCode::kFailedPrecondition);
  CHECK(harness.Read(0, {1}) == std::vector<float>{-1, -1});
}

TEST_CASE("the memory limit refuses what needs new rows, and nothing else") {
  for (bool synchronous : {false, true}) {
    ShardHarness::Options options;
    options.synchronous = synchronous;
    options.shards = 1;
    options.memory_limit_bytes = 1;
    // The limit: what 20,000 rows take, and little more.
    {
      ShardHarness::Options unlimited = options;
      unlimited.memory_limit_bytes = uint64_t{1} << 40;
      ShardHarness probe(unlimited, Tables());
      for (Key first = 0; first < 20'000; first += 1000) {
        std::vector<Key> keys(1000);
        for (Key k = 0; k < 1000; ++k) keys[k] = first + k;
        probe.Push(PushOf(0, 0, 0, keys, 1));
      }
      REQUIRE(probe.budget().used_bytes() == probe.group().bytes());
      options.memory_limit_bytes = probe.budget().used_bytes() + 1000;
    }
    ShardHarness harness(options, Tables());
    harness.Hello(1);
    Sequence sequence = 0;
    Clock clock = 0;
    absl::Status refused;
    uint64_t before = 0;
    for (Key first = 0; first < 1'000'000 && refused.ok(); first += 1000) {
      std::vector<Key> keys(1000);
      for (Key k = 0; k < 1000; ++k) keys[k] = first + k;
      before = harness.Digest();
      refused = harness.Answer(harness.Push(PushOf(1, ++sequence, clock, keys, 1))).status;
      if (refused.ok()) ++clock;
    }
    CHECK(refused.code() == absl::StatusCode::kResourceExhausted);
    CHECK(std::string(refused.message()).find("--memory_limit_bytes=") != std::string::npos);
    CHECK(harness.Digest() == before);
    CHECK(harness.group().rows() >= 5'000);
    CHECK(harness.budget().used_bytes() <= options.memory_limit_bytes);
    CHECK(harness.Total(&ShardMetrics::pushes_refused_memory) == 1);
    // Rows that are there go on being trained, and pulls go on being answered.
    std::vector<Key> known(2000);
    for (Key k = 0; k < 2000; ++k) known[k] = k;
    CHECK(harness.Answer(harness.Push(PushOf(1, sequence, clock, known, 1))).status.ok());
    CHECK(harness.Read(0, {7, 1'500'000}) == std::vector<float>{-2, -2, 0, 0});
    // Also where other strands have gone over the limit.
    harness.budget().Add(1 << 20);
    REQUIRE_FALSE(harness.budget().Allows(0));
    CHECK(harness.Answer(harness.Push(PushOf(1, ++sequence, ++clock, known, 1))).status.ok());
    CHECK(harness.Read(0, {7}) == std::vector<float>{-3, -3});
  }
}

TEST_CASE("held pushes count in the memory that is used") {
  ShardHarness::Options options;
  options.synchronous = true;
  options.memory_limit_bytes = uint64_t{1} << 40;
  ShardHarness harness(options, Tables());
  harness.Hello(1);
  harness.Hello(2);
  const uint64_t before = harness.budget().used_bytes();
  harness.Push(PushOf(1, 1, 0, {1, 2, 3}, 1));
  CHECK(harness.budget().used_bytes() > before);
  harness.SetWorkers(1, 2, {2});
  harness.Push(PushOf(2, 1, 0, {}, 1));
  CHECK(harness.budget().used_bytes() == harness.group().bytes());
}

TEST_CASE("a learning-rate scale holds for what is applied after it") {
  ShardHarness harness({}, Tables());
  harness.Push(PushOf(1, 1, 0, {1}, 1));
  harness.SetLearningRateScale(0.5f);
  harness.Push(PushOf(1, 2, 1, {1}, 1));
  CHECK(harness.Read(0, {1}) == std::vector<float>{-1.5f, -1.5f});
}

TEST_CASE("a schedule scales a push by the push's clock, whenever it arrives, and by the job's scale") {
  ShardHarness::Options options;
  Schedule schedule;
  schedule.set_kind(Schedule::STEP);
  schedule.set_every(10);
  schedule.set_factor(.5f);
  options.schedule = LearningRateSchedule(schedule);
  ShardHarness harness(options, Tables());
  harness.Push(PushOf(1, 1, 20, {1}, 1));
  CHECK(harness.Read(0, {1}) == std::vector<float>{-.25f, -.25f});
  harness.Push(PushOf(2, 1, 9, {1}, 1));
  CHECK(harness.Read(0, {1}) == std::vector<float>{-1.25f, -1.25f});
  harness.SetLearningRateScale(.5f);
  harness.Push(PushOf(1, 2, 10, {1}, 1));
  CHECK(harness.Read(0, {1}) == std::vector<float>{-1.5f, -1.5f});
}

TEST_CASE("a schedule at staleness 0 goes by the applied clock, alike in any number of strands") {
  Schedule schedule;
  schedule.set_kind(Schedule::COSINE);
  schedule.set_every(20);
  schedule.set_warmup_steps(5);
  uint64_t digest = 0;
  for (int strands : {1, 2, 3}) {
    ShardHarness::Options options;
    options.synchronous = true;
    options.strands = strands;
    options.schedule = LearningRateSchedule(schedule);
    ShardHarness harness(options, Tables());
    harness.Hello(1);
    harness.Hello(2);
    for (Clock clock = 0; clock < 12; ++clock) {
      harness.Push(PushOf(2, static_cast<Sequence>(clock) + 1, clock, {1, 2, 3, 50, 51}, .3f));
      harness.Push(PushOf(1, static_cast<Sequence>(clock) + 1, clock, {1, 7, 50}, .7f));
    }
    if (digest == 0) digest = harness.Digest();
    CHECK(harness.Digest() == digest);
  }
}

TEST_CASE("a key that stands twice in a push is applied twice in order, at staleness 0 summed; a pull answers both") {
  for (const int strands : {1, 2}) {
    for (const bool synchronous : {false, true}) {
      ShardHarness::Options options;
      options.strands = strands;
      options.synchronous = synchronous;
      ShardHarness harness(options, Tables("momentum { lr: 1 momentum: 0.5 }"));
      harness.Hello(1);
      TestPush push = PushOf(1, 1, 0, {5, 6, 5}, 1);
      push.tables[0].values = {1, 1, 0, 0, 2, 2};
      CHECK(harness.Answer(harness.Push(push)).status.ok());
      const float expected = synchronous ? -3 : -1 - (0.5f * 1 + 2);
      CHECK(harness.Read(0, {5, 6, 5}) == std::vector<float>{expected, expected, 0, 0, expected, expected});
    }
  }
}

TEST_CASE("rows go out as bfloat16 when asked for, and zeros stand for shards of others") {
  ShardHarness::Options options;
  options.foreign_from = 4;
  ShardHarness harness(options, Tables());
  std::vector<Key> keys;
  for (Key k = 0; k < 32; ++k) keys.push_back(k);
  harness.Push(PushOf(0, 0, 0, keys, -1.00390625f));  // between two bfloat16
  TestPull pull;
  pull.value_type = wire::ValueType::kBfloat16;
  pull.tables.push_back({0, keys, {}, {}});
  const TestAnswer answer = harness.Answer(harness.Pull(pull));
  REQUIRE(answer.status.ok());
  REQUIRE(answer.rows[0].size() == 64);
  size_t zeros = 0;
  for (size_t i = 0; i < 64; ++i) {
    const ShardId shard = ShardOfHash(PlacementHash(0, keys[i / 2]), 3);
    CHECK(answer.rows[0][i] == (shard >= 4 ? 0.0f : 1.0f));
    zeros += answer.rows[0][i] == 0;
  }
  CHECK(zeros > 0);
  CHECK(zeros < 64);
}

TEST_CASE("dense blocks are rows by number") {
  TableSpec dense = SparseTable(0, 4, "sgd { lr: 1 }");
  dense.set_kind(TableSpec::DENSE);
  dense.add_shape(6);
  ShardHarness harness({}, {dense});
  TestPush push;
  push.tables.push_back({0, {1}, {1, 2, 3, 4}, {}});
  CHECK(harness.Answer(harness.Push(push)).status.ok());
  CHECK(harness.Read(0, {0, 1}) == std::vector<float>{0, 0, 0, 0, -1, -2, -3, -4});
  push.tables[0].keys = {2};
  CHECK(harness.Answer(harness.Push(push)).status.code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("rows are evicted when the released clock crosses the interval of sweeps") {
  for (bool synchronous : {false, true}) {
    TableSpec spec = SparseTable(0, 2, "sgd { lr: 1 }");
    spec.mutable_eviction()->set_max_age_clocks(3);
    spec.mutable_eviction()->set_sweep_every_clocks(5);
    ShardHarness::Options options;
    options.synchronous = synchronous;
    ShardHarness harness(options, {spec});
    harness.Hello(1);
    for (Clock clock = 0; clock < 5; ++clock) {
      std::vector<Key> keys = {7};
      if (clock == 0) keys.push_back(8);
      CHECK(harness.group().rows() == (clock == 0 ? 0 : 2));
      harness.Push(PushOf(1, static_cast<Sequence>(clock) + 1, clock, keys, 1));
      if (!synchronous) harness.Tick(1, static_cast<uint64_t>(clock) + 1, clock);
    }
    CHECK(harness.group().rows() == 1);
    CHECK(harness.Total(&ShardMetrics::swept_rows) == 1);
    CHECK(harness.Read(0, {7, 8}) == std::vector<float>{-5, -5, 0, 0});
    ShardEffects effects;
    harness.group().Sweep(100, &effects);
    CHECK(harness.group().rows() == 0);
  }
}

TEST_CASE("pulls leave the digest as it is; pushes change it") {
  ShardHarness harness({}, Tables("adam { }"));
  harness.Push(PushOf(1, 1, 0, {1, 2, 3}, 1));
  const uint64_t digest = harness.Digest();
  harness.Read(0, {1, 2, 3, 4, 5});
  CHECK(harness.Digest() == digest);
  harness.Push(PushOf(1, 2, 1, {3}, 1e-3f));
  CHECK(harness.Digest() != digest);
}

TEST_CASE("cancelled calls are never answered, what they brought stays") {
  ShardHarness::Options options;
  options.synchronous = true;
  ShardHarness harness(options, Tables());
  harness.Hello(1);
  harness.Hello(2);
  TestPull pull;
  pull.worker = 1;
  pull.clock = 1;
  pull.bound = 0;
  pull.tables.push_back({0, {1}, {}, {}});
  const CallToken cancelled_pull = harness.Pull(pull);
  const CallToken cancelled_push = harness.Push(PushOf(1, 1, 0, {1}, 2));
  harness.group().Cancel(cancelled_pull);
  harness.group().Cancel(cancelled_push);
  const CallToken other = harness.Push(PushOf(2, 1, 0, {1}, 4));
  CHECK(harness.Answered(other));
  CHECK_FALSE(harness.Answered(cancelled_pull));
  CHECK_FALSE(harness.Answered(cancelled_push));
  CHECK(harness.Read(0, {1}) == std::vector<float>{-3, -3});
}

TEST_CASE("sessions and clocks are bounded") {
  ShardHarness::Options options;
  options.max_workers = 2;
  ShardHarness harness(options, Tables());
  for (Incarnation worker : {1, 2, 3}) {
    const CallToken hello = harness.Hello(worker);
    const CallToken push = harness.Push(PushOf(worker, 1, 0, {1}, 1));
    CHECK(harness.Answer(hello).status.ok() == (worker < 3));
    CHECK(harness.Answer(push).status.ok() == (worker < 3));
  }
  harness.SetWorkers(1, 2, {});
  CHECK(harness.Answer(harness.Hello(3)).status.ok());
}

TEST_CASE("a joiner whom strands answer differently starts above all of them") {
  ShardHarness::Options options;
  options.synchronous = true;
  options.strands = 2;
  ShardHarness harness(options, Tables());
  harness.Hello(1);
  // Clock 0 has reached strand 0 only when worker 2 says Hello.
  ShardEffects effects;
  wire::PushRequest push;
  push.stamp = {1, 1, 1};
  push.sequence = 1;
  harness.group(0).Push({1'000'000, push, {}, nullptr}, &effects);
  CHECK(harness.group(0).released_clock() == 0);
  CHECK(harness.group(1).released_clock() == -1);
  CHECK(harness.Answer(harness.Hello(2)).min_clock == 0);
  // Strand 1 does not wait for worker 2 at clock 0, and nobody goes on without it at clock 1.
  harness.group(1).Push({1'000'000, push, {}, nullptr}, &effects);
  CHECK(harness.group(1).released_clock() == 0);
  const CallToken first = harness.Push(PushOf(1, 2, 1, {1, 2, 3, 4}, 1));
  CHECK_FALSE(harness.Answered(first));
  harness.Push(PushOf(2, 1, 1, {1, 2, 3, 4}, 3));
  CHECK(harness.Answered(first));
  CHECK(harness.Read(0, {1, 2, 3, 4}) == std::vector<float>(8, -2));
}

}  // namespace
}  // namespace tidegate
