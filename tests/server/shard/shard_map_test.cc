#include "server/shard/shard_map.h"

#include <catch2/catch.hpp>
#include <numeric>

namespace tidegate {
namespace {

TEST_CASE("touched shards and foreign keys are those of the keys selected") {
  ShardMap map;
  CHECK(map.empty());
  const std::vector<ShardId> mine = {1, 4, 6};
  map.Reset(3, mine);
  std::vector<Key> keys(40);
  std::iota(keys.begin(), keys.end(), Key{1000});
  const PackedSpan<Key> span(keys.data(), keys.size());
  std::vector<uint32_t> of_shard_4;
  uint64_t foreign = 0;
  for (uint32_t i = 0; i < keys.size(); ++i) {
    const ShardId shard = ShardOfHash(PlacementHash(2, keys[i]), 3);
    CHECK(map.ShardOf(2, keys[i]) == shard);
    if (shard == 4) of_shard_4.push_back(i);
    if (shard != 1 && shard != 4 && shard != 6) ++foreign;
  }
  REQUIRE(of_shard_4.size() > 0);
  std::vector<uint8_t> touched(3, 0);
  CHECK(map.Touch(2, span, false, of_shard_4, touched) == 0);
  CHECK(touched == std::vector<uint8_t>{0, 1, 0});
  CHECK(map.Touch(2, span, false, {}, touched) == 0);  // none selected
  CHECK(map.Touch(2, span, true, {}, touched) == foreign);
  CHECK(touched == std::vector<uint8_t>{1, 1, 1});
}

TEST_CASE("rows are counted by led shard, about right for messages of any size, and none of others") {
  ShardMap map;
  map.Reset(2, std::vector<ShardId>{0, 1, 2});
  map.SetLed(1, false);
  Key next_key = 0;
  const auto keys_of = [&](ShardId shard, size_t count) {
    std::vector<Key> keys;
    for (; keys.size() < count; ++next_key) {
      if (map.ShardOf(5, next_key) == shard) keys.push_back(next_key);
    }
    return keys;
  };
  for (const size_t size : {1, 3, 8, 100}) {
    std::vector<uint64_t> rows(3, 0);
    size_t next = 0;
    uint64_t sent = 0;
    for (; sent < 4000; sent += size) {
      for (const ShardId shard : {0, 1, 3}) {
        const std::vector<Key> keys = keys_of(shard, size);
        const PackedSpan<Key> span(keys.data(), keys.size());
        if (sent % 2 == 0) {
          map.CountRows(5, span, true, {}, &next, rows);
        } else {
          std::vector<uint32_t> all(size);
          std::iota(all.begin(), all.end(), 0u);
          map.CountRows(5, span, false, all, &next, rows);
        }
      }
    }
    CHECK(rows[0] > sent * 9 / 10);
    CHECK(rows[0] < sent * 11 / 10);
    CHECK(rows[1] == 0);
    CHECK(rows[2] == 0);
  }
}

TEST_CASE("a shard that leaves keeps the others' local indices") {
  ShardMap map;
  const std::vector<ShardId> mine = {0, 1};
  map.Reset(1, mine);
  map.Remove(0);
  CHECK_FALSE(map.Has(0));
  CHECK(map.Has(1));
  CHECK_FALSE(map.Has(2));
  const Key key = map.ShardOf(0, 1) == 1 ? 1 : [&] {
    Key k = 2;
    while (map.ShardOf(0, k) != 1) ++k;
    return k;
  }();
  std::vector<uint8_t> touched(2, 0);
  CHECK(map.Touch(0, PackedSpan<Key>(&key, 1), true, {}, touched) == 0);
  CHECK(touched == std::vector<uint8_t>{0, 1});
}

TEST_CASE("a local index that was left is used again; shards that are not led are not touched") {
  ShardMap map;
  map.Reset(2, std::vector<ShardId>{0, 1, 2});
  map.Remove(1);
  CHECK(map.shards()[1] == ShardMap::kVacant);
  CHECK(map.Add(3) == 1);
  CHECK(map.Has(3));
  CHECK_FALSE(map.Leads(3));
  map.SetLed(0, false);
  CHECK(map.Add(1) == 3);
  std::vector<Key> keys(100);
  std::iota(keys.begin(), keys.end(), Key{0});
  std::vector<uint8_t> touched(4, 0);
  CHECK(map.Touch(0, PackedSpan<Key>(keys.data(), keys.size()), true, {}, touched) > 0);
  CHECK(touched == std::vector<uint8_t>{0, 0, 1, 0});
  map.SetLed(3, true);
  map.Touch(0, PackedSpan<Key>(keys.data(), keys.size()), true, {}, touched);
  CHECK(touched == std::vector<uint8_t>{0, 1, 1, 0});
}

}  // namespace
}  // namespace tidegate
