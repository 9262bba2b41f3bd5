#include "server/table/shard_table.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <limits>

#include "common/random.h"
#include "tests/server/table/table_testing.h"

namespace tidegate {
namespace {

const char* const kSpec =
    "id: 1 name: 'emb' parts { name: 'v' dim: 3 init { normal: 1 } optimizer { adagrad {} } }";

ShardTable::RowId Touch(ShardTable* table, Key key, uint32_t samples = 1) {
  return table->Admit(PlacementHash(1, key), key, samples, 0);
}
std::string Records(const ShardTable& table) {
  std::string out;
  table.AppendRows(table.SortedKeys(), &out);
  return out;
}
std::span<const std::byte> BytesOf(const std::string& s) { return std::as_bytes(std::span(s)); }

}  // namespace

TEST_CASE("erasing keys of one cluster leaves every other key to be found") {
  const RowLayout layout = LayoutOf(kSpec);
  // Keys whose home is in the last two slots of the smallest index: the cluster wraps around.
  std::vector<Key> keys;
  for (Key key = 0; keys.size() < 9; ++key) {
    if (PlacementHash(1, key) >> 61 == 7) keys.push_back(key);
  }
  for (size_t erased = 0; erased < keys.size(); ++erased) {
    ShardTable table(&layout, 0, 0);
    for (const Key key : keys) Touch(&table, key);
    CHECK(table.Erase(keys[erased]));
    CHECK_FALSE(table.Erase(keys[erased]));
    for (const Key key : keys) CHECK((table.Find(key) != ShardTable::kNoRow) == (key != keys[erased]));
  }
}

TEST_CASE("any order of insertion gives the same records and digest") {
  const RowLayout layout = LayoutOf(kSpec);
  ShardTable up(&layout, 0, 0), down(&layout, 0, 0);
  for (Key key = 0; key < 3000; ++key) Touch(&up, key);
  for (Key key = 4000; key-- > 0;) Touch(&down, key);
  CHECK(up.Digest() != down.Digest());
  for (Key key = 3000; key < 4000; ++key) CHECK(down.Erase(key));
  CHECK(up.Digest() == down.Digest());
  CHECK(Records(up) == Records(down));
  const uint64_t before = up.Digest();
  up.RowAt(up.Find(5))[5] ^= std::byte{1};
  CHECK(up.Digest() != before);
}

TEST_CASE("records load into an equal table, in chunks, counters included") {
  const RowLayout layout = LayoutOf(std::string(kSpec) + " admission { after: 2 }");
  ShardTable table(&layout, 0, 0);
  for (Key key = 0; key < 500; ++key) Touch(&table, Mix64(key), key % 3 + 1);
  CHECK(table.rows() > 0);
  CHECK(table.unadmitted() > 0);
  ShardTable loaded(&layout, 0, 0);
  const std::vector<Key> keys = table.SortedKeys();
  for (size_t begin = 0; begin < keys.size(); begin += 77) {
    std::string chunk;
    table.AppendRows(std::span(keys).subspan(begin, std::min<size_t>(77, keys.size() - begin)), &chunk);
    REQUIRE(loaded.LoadRows(BytesOf(chunk)).ok());
  }
  CHECK(loaded.Digest() == table.Digest());
  CHECK(loaded.rows() == table.rows());
  CHECK(loaded.unadmitted() == table.unadmitted());
}

TEST_CASE("broken records are refused, and say where") {
  const RowLayout layout = LayoutOf(kSpec);
  ShardTable table(&layout, 0, 0);
  for (Key key = 1; key <= 3; ++key) Touch(&table, key);
  const std::string good = Records(table);
  const size_t record = 12 + layout.row_bytes();
  REQUIRE(good.size() == 3 * record);
  const auto load = [&](const std::string& bytes, ShardId shard = 0, int log2_shards = 0) {
    ShardTable fresh(&layout, shard, log2_shards);
    const absl::Status status = fresh.LoadRows(BytesOf(bytes));
    return status.ok() ? std::string("ok") : std::string(status.message());
  };
  CHECK(load(good) == "ok");
  CHECK(load("") == "ok");
  for (size_t cut = 1; cut < good.size(); ++cut) {
    if (cut % record != 0) CHECK_THAT(load(good.substr(0, cut)), Catch::Contains("truncated"));
  }
  CHECK_THAT(load(good + good), Catch::Contains("record at byte " + std::to_string(3 * record) + ": key 1 is there twice"));
  std::string kind = good;
  kind[record + 8] = 7;
  CHECK_THAT(load(kind), Catch::Contains("record at byte " + std::to_string(record)) && Catch::Contains("unknown kind 7"));
  std::string value = good;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(value.data() + 28 + layout.parts()[0].value_offset + 4, &nan, 4);
  CHECK_THAT(load(value), Catch::Contains("not finite"));
  std::string slot = good;
  std::memcpy(slot.data() + 28 + layout.parts()[0].slot_offset, &nan, 4);
  CHECK_THAT(load(slot), Catch::Contains("not finite"));
  const ShardId other = ShardOfHash(PlacementHash(1, 1), 4) ^ 1;
  CHECK_THAT(load(good, other, 4), Catch::Contains("key 1 belongs to shard"));

  const RowLayout dense = LayoutOf("id: 1 name: 'd' kind: DENSE shape: 6 parts { name: 'v' dim: 3 optimizer { adagrad {} } }");
  ShardTable blocks(&dense, 0, 0);
  CHECK_THAT(std::string(blocks.LoadRows(BytesOf(good)).message()), Catch::Contains("key 2 names none"));
}

TEST_CASE("any flipped or random bytes are loaded or refused, never worse") {
  const RowLayout layout = LayoutOf(kSpec);
  ShardTable table(&layout, 0, 0);
  for (Key key = 1; key <= 20; ++key) Touch(&table, key);
  const std::string good = Records(table);
  Random random(3);
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string bad = good.substr(0, 1 + random.Below(good.size()));
    for (int flips = 0; flips < 3; ++flips) bad[random.Below(bad.size())] = static_cast<char>(random());
    ShardTable fresh(&layout, 0, 0);
    refused += !fresh.LoadRows(BytesOf(bad)).ok();
    CHECK(fresh.rows() + fresh.unadmitted() <= 60);
  }
  CHECK(refused > 1000);
}

TEST_CASE("keys seen once never fill the memory: counters are bounded") {
  const RowLayout layout = LayoutOf(std::string(kSpec) + " admission { after: 100 }");
  ShardTable table(&layout, 0, 0);
  const Key hot = 12345;
  bool admitted = false;
  bool any = false;
  for (Key key = 0; key < 300000; ++key) {
    any |= Touch(&table, Mix64(key)) != ShardTable::kNoRow;
    if (key % 100 == 0 && !admitted) admitted = Touch(&table, hot) != ShardTable::kNoRow;
  }
  CHECK(table.unadmitted() <= 65536);
  CHECK(table.BytesUsed() < 10u << 20);
  CHECK_FALSE(any);
  CHECK(admitted);  // a key that comes again and again is admitted all the same
}

TEST_CASE("sweeps tell which keys left, rising") {
  const RowLayout layout = LayoutOf(std::string(kSpec) + " eviction { max_age_clocks: 5 }");
  ShardTable table(&layout, 0, 0);
  for (Key key = 0; key < 100; ++key) table.Admit(PlacementHash(1, key), key, 1, key % 2 == 0 ? 0 : 10);
  std::vector<Key> evicted;
  CHECK(table.Sweep(5, &evicted) == 0);
  CHECK(table.Sweep(6, &evicted) == 50);
  REQUIRE(evicted.size() == 50);
  CHECK(std::is_sorted(evicted.begin(), evicted.end()));
  CHECK(evicted[1] == 2);
  CHECK(table.rows() == 50);
}

TEST_CASE("a cleared table is as new") {
  const RowLayout layout = LayoutOf(kSpec);
  ShardTable table(&layout, 0, 0), fresh(&layout, 0, 0);
  const uint64_t bytes = table.BytesUsed();
  for (Key key = 0; key < 100000; ++key) Touch(&table, key);
  CHECK(table.BytesUsed() > 100000 * layout.stride());
  table.Clear();
  CHECK(table.rows() == 0);
  CHECK(table.Find(7) == ShardTable::kNoRow);
  CHECK(table.BytesUsed() < bytes + 4096);
  Touch(&table, 7);
  Touch(&fresh, 7);
  CHECK(table.Digest() == fresh.Digest());
}

}  // namespace tidegate
