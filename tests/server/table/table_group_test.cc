#include "server/table/table_group.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "common/random.h"
#include "server/table/value_codec.h"
#include "tests/server/table/table_testing.h"

namespace tidegate {
namespace {

const char* const kSpec =
    "id: 5 name: 'emb' parts { name: 'v' dim: 2 init { constant: 8 } optimizer { sgd { lr: 1 } } }";

}  // namespace

TEST_CASE("a pull of absent rows answers with the initialiser and makes nothing") {
  const RowLayout layout = LayoutOf(kSpec);
  TableGroup group(&layout, 2, ShardRange(0, 4));
  const uint64_t bytes = group.BytesUsed();
  CHECK(GatherRows(group, {1, 2, ~Key{0}}) == std::vector<float>{8, 8, 8, 8, 8, 8});
  CHECK(group.rows() == 0);
  CHECK(group.BytesUsed() == bytes);
}

TEST_CASE("a key that stands twice in a batch is made once and updated twice") {
  const RowLayout layout = LayoutOf(kSpec);
  TableGroup group(&layout, 0, ShardRange(0, 1));
  const ApplyResult result = group.Apply(BatchOf({9, 9, 4}, {1, 2, 3, 4, 5, 6}), {});
  CHECK(result.applied == 3);
  CHECK(result.created == 2);
  CHECK(GatherRows(group, {9, 4}) == std::vector<float>{4, 2, 3, 2});
}

TEST_CASE("only the keys at the positions are worked, in place") {
  const RowLayout layout = LayoutOf(kSpec);
  TableGroup low(&layout, 3, ShardRange(0, 4)), high(&layout, 3, ShardRange(4, 8));
  std::vector<Key> keys(500);
  std::vector<float> gradients(1000);
  std::vector<uint32_t> low_positions, high_positions;
  for (uint32_t i = 0; i < 500; ++i) {
    keys[i] = i;
    gradients[2 * i] = gradients[2 * i + 1] = static_cast<float>(i);
    (low.LocalOfKey(i) != TableGroup::kNotLocal ? low_positions : high_positions).push_back(i);
  }
  REQUIRE(low_positions.size() > 100);
  REQUIRE(high_positions.size() > 100);
  CHECK(low.CountAbsent(Packed(keys), low_positions) == low_positions.size());
  GradientBatch batch = BatchOf(keys, gradients);
  batch.positions = low_positions;
  CHECK(low.Apply(batch, {}).applied == low_positions.size());
  batch.positions = high_positions;
  CHECK(high.Apply(batch, {}).applied == high_positions.size());
  CHECK(low.CountAbsent(Packed(keys), low_positions) == 0);
  std::vector<float> rows(1000, -1);
  low.Gather(Packed(keys), low_positions, FLOAT32, {}, reinterpret_cast<std::byte*>(rows.data()));
  CHECK(rows[2 * high_positions[0]] == -1);
  high.Gather(Packed(keys), high_positions, FLOAT32, {}, reinterpret_cast<std::byte*>(rows.data()));
  for (uint32_t i = 0; i < 500; ++i) CHECK(rows[2 * i + 1] == 8 - static_cast<float>(i));
}

TEST_CASE("shards that are to be skipped stay as they were") {
  const RowLayout layout = LayoutOf(kSpec);
  TableGroup group(&layout, 2, std::vector<ShardId>{2, 0, 3, 1});
  std::vector<Key> keys(200);
  for (Key k = 0; k < 200; ++k) keys[k] = k;
  const std::vector<float> gradients(400, 1);
  group.Apply(BatchOf(keys, gradients), {});
  std::vector<uint64_t> digests;
  for (uint32_t s = 0; s < 4; ++s) digests.push_back(group.shard(s).Digest());
  const std::vector<uint8_t> skip = {1, 0, 1, 0};
  const ApplyResult result = group.Apply(BatchOf(keys, gradients), {}, skip);
  CHECK(result.applied + result.skipped == 200);
  CHECK(result.skipped == group.shard(0).rows() + group.shard(2).rows());
  for (uint32_t s = 0; s < 4; ++s) CHECK((group.shard(s).Digest() == digests[s]) == (skip[s] != 0));
  CHECK(group.shard(0).shard() == 2);
  CHECK(group.LocalOfShard(1) == 3);
}

TEST_CASE("the number of shards and strands does not change a row's bits") {
  const RowLayout layout = LayoutOf("id: 5 name: 'e' parts { name: 'v' dim: 12 dtype: BFLOAT16 init { normal: 1 } optimizer { adam {} } }");
  TableGroup one(&layout, 0, ShardRange(0, 1)), many(&layout, 6, ShardRange(0, 64));
  Random random(8);
  std::vector<Key> keys(700);
  std::vector<float> gradients(700 * 12);
  for (int step = 0; step < 10; ++step) {
    for (size_t i = 0; i < keys.size(); ++i) keys[i] = 1000 * i + random.Below(1000);
    for (float& g : gradients) g = static_cast<float>(random.Unit() - 0.5);
    one.Apply(BatchOf(keys, gradients), {.clock = step});
    many.Apply(BatchOf(keys, gradients), {.clock = step});
  }
  REQUIRE(one.rows() == many.rows());
  const std::vector<Key> all = one.shard(0).SortedKeys();
  CHECK(GatherRows(one, all) == GatherRows(many, all));
}

TEST_CASE("bfloat16 on the wire is what float32 rounds to, both ways") {
  const RowLayout layout = LayoutOf("name: 'e' parts { name: 'v' dim: 5 init { normal: 1 } optimizer { sgd { lr: 1 } } }");
  TableGroup wide(&layout, 1, ShardRange(0, 2)), narrow(&layout, 1, ShardRange(0, 2));
  const std::vector<Key> keys = {1, 2, 3};
  std::vector<float> gradients(15);
  std::vector<uint16_t> half(15);
  for (size_t i = 0; i < 15; ++i) {
    half[i] = ToBfloat16(0.37f * static_cast<float>(i));
    gradients[i] = FromBfloat16(half[i]);
  }
  wide.Apply(BatchOf(keys, gradients), {});
  GradientBatch batch = BatchOf(keys, gradients);
  batch.values = std::as_bytes(std::span(half));
  batch.value_type = BFLOAT16;
  narrow.Apply(batch, {});
  const std::vector<float> rows = GatherRows(wide, keys);
  CHECK(rows == GatherRows(narrow, keys));
  std::vector<uint16_t> read(15);
  narrow.Gather(Packed(keys), {}, BFLOAT16, {}, reinterpret_cast<std::byte*>(read.data()));
  for (size_t i = 0; i < 15; ++i) CHECK(read[i] == ToBfloat16(rows[i]));
}

TEST_CASE("small updates of bfloat16 rows do not vanish") {
  const RowLayout layout = LayoutOf("name: 'e' parts { name: 'v' dim: 64 dtype: BFLOAT16 init { constant: 1 } optimizer { sgd { lr: 1 } } }");
  TableGroup group(&layout, 0, ShardRange(0, 1));
  const std::vector<float> gradients(64, 1e-4f);  // nearest rounding would drop each
  for (int i = 0; i < 2000; ++i) group.Apply(BatchOf({3}, gradients), {});
  double sum = 0;
  for (const float value : GatherRows(group, {3})) sum += value;
  CHECK(sum / 64 == Approx(0.8).epsilon(0.02));
}

TEST_CASE("memory of new rows is estimated from above, but for the slabs' own size") {
  const RowLayout layout = LayoutOf(kSpec);
  TableGroup group(&layout, 2, ShardRange(0, 4));
  std::vector<Key> keys(400000);
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = i;
  const std::vector<float> gradients(keys.size() * 2);
  const uint64_t before = group.BytesUsed();
  group.Apply(BatchOf(keys, gradients), {});
  CHECK(group.BytesUsed() - before <= group.BytesForRows(keys.size()) + 4 * (2u << 20));
  CHECK(group.BytesUsed() >= keys.size() * layout.stride());
}

TEST_CASE("a shard that leaves frees its rows, and its index takes another") {
  const RowLayout layout = LayoutOf(kSpec);
  TableGroup group(&layout, 1, ShardRange(0, 2));
  std::vector<Key> of_shard[2];
  for (Key key = 0; key < 20'000; ++key) of_shard[group.LocalOfKey(key)].push_back(key);
  for (const auto& keys : of_shard) group.Apply(BatchOf(keys, std::vector<float>(2 * keys.size(), 1)), {});
  const uint64_t digest = group.shard(1).Digest();
  const uint64_t bytes = group.BytesUsed();
  group.RemoveShard(0);
  CHECK(group.rows() == of_shard[1].size());
  CHECK(group.BytesUsed() < bytes);
  CHECK(group.LocalOfShard(0) == TableGroup::kNotLocal);
  CHECK(group.shard(1).Digest() == digest);
  group.AddShard(0, 0);
  CHECK(group.LocalOfShard(0) == 0);
  CHECK(GatherRows(group, {of_shard[0][0], of_shard[1][0]}) == std::vector<float>{8, 8, 7, 7});
  group.RemoveShard(1);
  group.AddShard(2, 1);
  CHECK(group.shards() == 3);
  CHECK(GatherRows(group, {of_shard[1][0]}) == std::vector<float>{8, 8});
}

}  // namespace tidegate
