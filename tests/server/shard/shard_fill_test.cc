#include "server/shard/shard_fill.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "server/table/row_layout.h"

namespace tidegate {
namespace {

RowLayout Layout() {
  TableSpec spec;
  spec.set_name("t");
  PartSpec* part = spec.add_parts();
  part->set_name("v");
  part->set_dim(1);
  part->mutable_optimizer()->mutable_sgd();
  auto layout = RowLayout::Create(spec);
  REQUIRE(layout.ok());
  return *std::move(layout);
}
void Add(ShardTable& table, const RowLayout& layout, Key key) {
  table.Admit(PlacementHash(layout.table(), key), key, 1, 0);
}
// The keys of records of rows.
std::vector<Key> KeysOf(const std::string& bytes, const RowLayout& layout) {
  const size_t record = sizeof(Key) + sizeof(uint32_t) + layout.row_bytes();
  REQUIRE(bytes.size() % record == 0);
  std::vector<Key> keys(bytes.size() / record);
  for (size_t i = 0; i < keys.size(); ++i) std::memcpy(&keys[i], bytes.data() + i * record, sizeof(Key));
  return keys;
}

TEST_CASE("keys go in rising order, with those that came since, and pass the cursor one by one") {
  const RowLayout layout = Layout();
  ShardTable table(&layout, 0, 0);
  for (Key key : {50, 10, 30, 70}) Add(table, layout, key);
  ShardFill fill(7);
  CHECK_FALSE(fill.HasPassed(0, 10));
  fill.Begin();
  CHECK_FALSE(fill.HasPassed(0, 0));
  std::string bytes;
  fill.Take(table, 1, &bytes);
  CHECK(KeysOf(bytes, layout) == std::vector<Key>{10});
  CHECK(fill.HasPassed(0, 10));
  CHECK(fill.HasPassed(0, 5));
  CHECK_FALSE(fill.HasPassed(0, 11));
  for (Key key : {40, 30, 90}) fill.Note(0, key);
  for (Key key : {40, 90}) Add(table, layout, key);
  fill.Note(0, 60);  // never comes to be
  REQUIRE(table.Erase(50));
  bytes.clear();
  while (fill.table() == 0) fill.Take(table, 1, &bytes);
  CHECK(KeysOf(bytes, layout) == std::vector<Key>{30, 40, 70, 90});
  CHECK(fill.HasPassed(0, ~Key{0}));
  CHECK_FALSE(fill.HasPassed(1, 0));
}

TEST_CASE("a table without rows is one step; keys of later tables are listed when their turn comes") {
  const RowLayout layout = Layout();
  const ShardTable empty(&layout, 0, 0);
  ShardTable table(&layout, 0, 0);
  ShardFill fill(7);
  fill.Begin();
  fill.Note(1, 5);
  Add(table, layout, 5);
  std::string bytes;
  fill.Take(empty, 100, &bytes);
  CHECK(bytes.empty());
  REQUIRE(fill.table() == 1);
  fill.Take(table, 1000, &bytes);
  CHECK(KeysOf(bytes, layout) == std::vector<Key>{5});
  CHECK(fill.table() == 2);
}

}  // namespace
}  // namespace tidegate
