#include "server/table/gradient_accumulator.h"

#include <catch2/catch.hpp>
#include <map>

#include "common/random.h"
#include "server/table/value_codec.h"
#include "tests/server/table/table_testing.h"

namespace tidegate {
namespace {

const char* const kSpec = "id: 5 name: 'emb' parts { name: 'v' dim: 2 optimizer { momentum { lr: 1 } } }";

}  // namespace

TEST_CASE("contributions of several pushes are one application with the joint mean") {
  const RowLayout layout = LayoutOf(kSpec);
  TableGroup group(&layout, 1, ShardRange(0, 2));
  GradientAccumulator sum(&layout);
  sum.Add(BatchOf({1, 2}, {1, 2, 3, 4}));
  sum.Add(BatchOf({2, 3}, {5, 6, 7, 8}));
  const ApplyResult result = group.Apply(sum.Sum(), {.scale = 0.25f, .clock = 4});
  CHECK(result.applied == 3);
  CHECK(GatherRows(group, {1, 2, 3}) == std::vector<float>{-0.25f, -0.5f, -2, -2.5f, -1.75f, -2});
  const ShardTable& shard = group.shard(group.LocalOfKey(2));
  const RowHeader header = shard.HeaderAt(shard.Find(2));
  CHECK(header.applications == 1);
  CHECK(header.touches == 2);
  sum.Clear();
  CHECK(sum.size() == 0);
  sum.Add(BatchOf({2}, {1, 1}));
  CHECK(sum.Sum().keys.size() == 1);
}

TEST_CASE("sums are taken in the order of the calls, counts add up") {
  const RowLayout layout = LayoutOf(kSpec);
  GradientAccumulator sum(&layout);
  Random random(6);
  std::map<Key, std::pair<std::vector<float>, uint32_t>> expected;
  for (int call = 0; call < 20; ++call) {
    std::vector<Key> keys(300);
    std::vector<uint32_t> counts(300), positions;
    std::vector<float> values(600);
    for (uint32_t i = 0; i < 300; ++i) {
      keys[i] = random.Below(900);
      counts[i] = static_cast<uint32_t>(random.Below(5));
      values[2 * i] = static_cast<float>(random.Unit() * 1e4);
      values[2 * i + 1] = static_cast<float>(random.Unit() * 1e-4);
      if (i % 4 != 0) positions.push_back(i);
    }
    for (const uint32_t i : positions) {
      auto [at, fresh] = expected.try_emplace(keys[i], std::vector<float>{values[2 * i], values[2 * i + 1]}, counts[i]);
      if (fresh) continue;
      at->second.first[0] += values[2 * i];
      at->second.first[1] += values[2 * i + 1];
      at->second.second += counts[i];
    }
    GradientBatch batch = BatchOf(keys, values);
    batch.positions = positions;
    batch.counts = PackedSpan<uint32_t>(counts.data(), counts.size());
    sum.Add(batch);
  }
  const GradientBatch total = sum.Sum();
  REQUIRE(total.keys.size() == expected.size());
  for (size_t i = 0; i < total.keys.size(); ++i) {
    float row[2];
    std::memcpy(row, total.values.data() + 8 * i, 8);
    const auto& [values, count] = expected.at(total.keys[i]);
    CHECK(row[0] == values[0]);
    CHECK(row[1] == values[1]);
    CHECK(total.counts[i] == count);
  }
}

TEST_CASE("skipped shards contribute nothing, and bfloat16 contributes its value") {
  const RowLayout layout = LayoutOf(kSpec);
  const TableGroup group(&layout, 1, ShardRange(0, 2));
  std::vector<Key> keys(100);
  std::vector<uint16_t> values(200, ToBfloat16(1.5f));
  size_t kept = 0;
  for (Key k = 0; k < 100; ++k) {
    keys[k] = k;
    kept += group.LocalOfKey(k) == 1;
  }
  GradientBatch batch = BatchOf(keys, {});
  batch.values = std::as_bytes(std::span(values));
  batch.value_type = BFLOAT16;
  GradientAccumulator sum(&layout);
  const std::vector<uint8_t> skip = {1, 0};
  sum.Add(batch, group, skip);
  sum.Add(batch, group, skip);
  REQUIRE(sum.size() == kept);
  float value;
  std::memcpy(&value, sum.Sum().values.data(), 4);
  CHECK(value == 3);
}

}  // namespace tidegate
