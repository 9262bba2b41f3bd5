#include "worker/client/dedup.h"

#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "common/random.h"
#include "tests/worker/client/tracker_harness.h"

namespace tidegate {
namespace {

struct Column {
  std::vector<Key> keys;
  std::vector<uint32_t> offsets = {0};
  std::vector<uint32_t> position;
};

std::vector<Column> RandomColumns(uint64_t seed, size_t columns, size_t rows, uint64_t vocabulary) {
  Random random(seed);
  std::vector<Column> out(columns);
  for (Column& c : out) {
    for (size_t r = 0; r < rows; ++r) {
      for (uint64_t n = random.Below(4); n > 0; --n) c.keys.push_back(random.Below(vocabulary) - 3);
      c.offsets.push_back(static_cast<uint32_t>(c.keys.size()));
    }
  }
  return out;
}

void Run(KeyDedup* dedup, std::vector<Column>* columns, const Routing* routing,
         std::vector<Key>* keys, std::vector<uint32_t>* counts) {
  std::vector<DedupColumn> in;
  for (Column& c : *columns) in.push_back({c.keys, c.offsets, &c.position});
  dedup->Run(4, in, routing, keys, counts);
}

}  // namespace

TEST_CASE("keys are distinct, positions lead back, counts are those of a plain map") {
  KeyDedup dedup;
  const auto routing = MakeRouting(1, {5, 9, 7, 9, 5, 5, 7, 9});
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    auto columns = RandomColumns(seed, 3, 50 * seed, 20 + 30 * seed);
    std::vector<Key> keys;
    std::vector<uint32_t> counts;
    Run(&dedup, &columns, seed % 2 ? routing.get() : nullptr, &keys, &counts);
    std::map<Key, std::set<size_t>> samples;
    for (const Column& c : columns) {
      for (size_t r = 0; r + 1 < c.offsets.size(); ++r) {
        for (uint32_t i = c.offsets[r]; i < c.offsets[r + 1]; ++i) {
          samples[c.keys[i]].insert(r);
          REQUIRE(keys.at(c.position[i]) == c.keys[i]);
        }
      }
    }
    REQUIRE(keys.size() == samples.size());
    for (size_t i = 0; i < keys.size(); ++i) REQUIRE(counts[i] == samples.at(keys[i]).size());
  }
}

TEST_CASE("keys are grouped by server, in the routing's order") {
  KeyDedup dedup;
  const auto routing = MakeRouting(1, {5, 9, 7, 9});
  auto columns = RandomColumns(3, 2, 300, 400);
  std::vector<Key> keys;
  std::vector<uint32_t> counts;
  Run(&dedup, &columns, routing.get(), &keys, &counts);
  uint32_t last = 0;
  for (Key k : keys) {
    const uint32_t server = routing->ServerOfHash(PlacementHash(4, k));
    REQUIRE(server >= last);
    last = server;
  }
  CHECK(last == 2);
}

TEST_CASE("without routing keys stand in order of first occurrence, row by row") {
  KeyDedup dedup;
  std::vector<Column> columns(2);
  columns[0] = {{7, 8, 7}, {0, 2, 3}, {}};
  columns[1] = {{9, 7}, {0, 1, 2}, {}};
  std::vector<Key> keys;
  std::vector<uint32_t> counts;
  Run(&dedup, &columns, nullptr, &keys, &counts);
  CHECK(keys == std::vector<Key>{7, 8, 9});
  CHECK(counts == std::vector<uint32_t>{2, 1, 1});
  CHECK(columns[1].position == std::vector<uint32_t>{2, 0});
}

TEST_CASE("a column's out-of-vocabulary key stands last of its server and counts for nobody, unless a sample holds it") {
  KeyDedup dedup;
  constexpr Key kOov[3] = {1000, 1001, 4};  // 4 is also a value
  for (const uint32_t servers : {1u, 3u}) {
    const auto routing = servers == 1 ? MakeRouting(1, {5}) : MakeRouting(1, {5, 9, 7, 9, 5, 5, 7, 9});
    auto columns = RandomColumns(5, 3, 100, 50);
    std::vector<Key> plain_keys, keys;
    std::vector<uint32_t> plain_counts, counts, positions(4, 77);
    Run(&dedup, &columns, routing.get(), &plain_keys, &plain_counts);
    columns.push_back({{}, std::vector<uint32_t>(101), {}});  // no value: its key is not asked for
    std::vector<DedupColumn> in;
    for (size_t c = 0; c < 4; ++c) {
      in.push_back({columns[c].keys, columns[c].offsets, &columns[c].position, c < 3 ? kOov[c] : Key{1002}, &positions[c]});
    }
    dedup.Run(4, in, routing.get(), &keys, &counts);
    REQUIRE(keys.size() == plain_keys.size() + 2);
    std::map<Key, uint32_t> expected = {{1000, 0}, {1001, 0}};
    for (size_t i = 0; i < plain_keys.size(); ++i) expected[plain_keys[i]] = plain_counts[i];
    uint32_t last = 0;
    for (size_t i = 0; i < keys.size(); ++i) {
      CHECK(expected.at(keys[i]) == counts[i]);
      const uint32_t server = routing->ServerOfHash(PlacementHash(4, keys[i]));
      CHECK(server >= last);
      last = server;
    }
    for (size_t c = 0; c < 3; ++c) {
      CHECK(keys.at(positions[c]) == kOov[c]);
      for (size_t i = 0; i < columns[c].keys.size(); ++i) REQUIRE(keys.at(columns[c].position[i]) == columns[c].keys[i]);
    }
    CHECK(positions[3] == 77);
  }
}

TEST_CASE("an empty batch has no keys") {
  KeyDedup dedup;
  std::vector<Column> columns(1);
  std::vector<Key> keys = {1};
  std::vector<uint32_t> counts = {1};
  Run(&dedup, &columns, nullptr, &keys, &counts);
  CHECK(keys.empty());
  CHECK(counts.empty());
}

}  // namespace tidegate
