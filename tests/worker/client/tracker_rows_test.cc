#include "worker/client/tracker.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/worker/client/tracker_harness.h"
#include "worker/client/bfloat16.h"

namespace tidegate {
namespace {

std::vector<Key> SomeKeys(size_t n) {
  std::vector<Key> keys(n);
  for (size_t i = 0; i < n; ++i) keys[i] = 3 * i + 1;
  return keys;
}

}  // namespace

TEST_CASE("a pull asks each server for its own keys once and fills every row in place") {
  TrackerHarness h;
  const std::vector<Key> keys = SomeKeys(100);
  std::vector<float> rows(300, -1);
  const TablePull pull{0, keys, rows};
  const auto call = h.tracker.Pull(h.now, 8, 5, {&pull, 1});
  h.Collect();
  REQUIRE(h.sends.size() == 2);
  size_t asked = 0;
  for (const auto& s : h.sends) {
    const auto& m = AsPull(s);
    CHECK(m.clock == 8);
    CHECK(m.bound == 5);
    CHECK(m.stamp.generation == 5);
    CHECK(m.stamp.incarnation == 77);
    CHECK(m.stamp.epoch == 1);
    for (size_t i = 0; i < m.tables[0].keys.size(); ++i) {
      const Key k = m.tables[0].keys[i];
      CHECK(h.routing->servers()[h.routing->ServerOfHash(PlacementHash(0, k))].incarnation == s.server);
    }
    asked += m.tables[0].keys.size();
  }
  CHECK(asked == keys.size());
  const auto sends = h.TakeSends();
  h.Reply(sends[1], RowsByKey(AsPull(sends[1]), 3, 6).response);
  CHECK(h.completed.empty());
  h.Reply(sends[0], RowsByKey(AsPull(sends[0]), 3, 7).response);
  REQUIRE(h.completed.size() == 1);
  CHECK(h.completed[0].call == call);
  CHECK(h.completed[0].status.ok());
  CHECK(h.completed[0].clock == 6);  // the lowest
  CHECK(RowsAreByKey(keys, rows, 3));
}

TEST_CASE("keys that come grouped by server are filled as well as scattered ones") {
  TrackerHarness h;
  std::vector<Key> keys;
  for (ShardId shard : {0, 2, 1, 3}) {
    for (int n = 0; n < 5; ++n) keys.push_back(h.KeyIn(shard, n));
  }
  std::vector<float> rows(keys.size() * 2);
  const TablePull pull{0, keys, rows};
  h.tracker.Pull(h.now, 0, -1, {&pull, 1});
  h.Collect();
  for (const auto& s : h.TakeSends()) h.Reply(s, RowsByKey(AsPull(s), 2).response);
  CHECK(h.completed.size() == 1);
  CHECK(RowsAreByKey(keys, rows, 2));
}

TEST_CASE("rows that come in pieces, cut anywhere, are filled as well as whole ones") {
  const auto cut = [](const wire::Fragments& whole, size_t size) {
    wire::Fragments out;
    for (wire::Bytes rest = whole.pieces()[0]; !rest.empty();) {
      out.Add(rest.first(std::min(size, rest.size())));
      rest = rest.subspan(std::min(size, rest.size()));
    }
    return out;
  };
  for (const size_t piece : {1, 5, 12, 100}) {
    TrackerHarness h;
    std::vector<Key> keys = SomeKeys(60);  // scattered over the servers
    std::vector<float> rows(keys.size() * 3);
    const std::vector<Key> one = {h.KeyIn(0, 0), h.KeyIn(0, 1)};  // of one server
    std::vector<float> other(one.size() * 3);
    const TablePull pulls[] = {{0, keys, rows}, {0, one, other}};
    h.tracker.Pull(h.now, 0, -1, pulls);
    h.Collect();
    for (const auto& s : h.TakeSends()) {
      PullAnswer answer = RowsByKey(AsPull(s), 3);
      for (auto& table : answer.response.tables) table.values = cut(table.values, piece);
      h.Reply(s, answer.response);
    }
    CHECK(h.completed.size() == 1);
    CHECK(RowsAreByKey(keys, rows, 3));
    CHECK(RowsAreByKey(one, other, 3));
  }
}

TEST_CASE("rows of refused shards of a pull come from the new server into their own places") {
  TrackerHarness h;
  const std::vector<Key> keys = {h.KeyIn(2), h.KeyIn(0), h.KeyIn(1), h.KeyIn(2, 1)};
  std::vector<float> rows(8, -1);
  const TablePull pull{0, keys, rows};
  h.tracker.Pull(h.now, 4, 3, {&pull, 1});
  h.Collect();
  for (const auto& s : h.TakeSends()) {
    auto answer = RowsByKey(AsPull(s), 2, 3);
    if (s.server == 1) answer.response.refused_shards = {2};
    h.Reply(s, answer.response);
  }
  h.Route(2, {1, 2, 2, 2});
  std::fill(rows.begin(), rows.begin() + 2, -1.f);
  h.AdvanceToNext();
  REQUIRE(h.sends.size() == 1);
  CHECK(h.sends[0].server == 2);
  CHECK(AsPull(h.sends[0]).tables[0].keys.size() == 2);
  h.Reply(h.sends[0], RowsByKey(AsPull(h.sends[0]), 2, 3).response);
  REQUIRE(h.completed.size() == 1);
  CHECK(RowsAreByKey(keys, rows, 2));
}

TEST_CASE("an answer of another shape is refused, the caller's rows untouched") {
  TrackerHarness h({}, {1});
  const std::vector<Key> keys = {1, 2};
  std::vector<float> rows(4, -1);
  const TablePull pull{0, keys, rows};
  h.tracker.Pull(h.now, 0, -1, {&pull, 1});
  h.Collect();
  auto answer = RowsByKey(AsPull(h.sends[0]), 3);
  h.Reply(h.sends[0], answer.response);
  REQUIRE(h.completed.size() == 1);
  CHECK(h.completed[0].status.code() == absl::StatusCode::kInternal);
  CHECK(rows == std::vector<float>(4, -1));
}

TEST_CASE("with bfloat16 on the wire, values are rounded to nearest even and widened back") {
  TrackerHarness h({.wire_type = wire::ValueType::kBfloat16}, {1});
  const std::vector<Key> keys = {1};
  const std::vector<float> gradients = {1.00390625f};  // halfway: to even, 1.0
  const TablePush push{0, keys, gradients, {}};
  h.tracker.Push(h.now, 0, 1, {&push, 1});
  std::vector<float> rows(1);
  const TablePull pull{0, keys, rows};
  h.tracker.Pull(h.now, 0, -1, {&pull, 1});
  h.Collect();
  REQUIRE(h.sends.size() == 2);
  CHECK(AsPush(h.sends[0]).value_type == wire::ValueType::kBfloat16);
  CHECK(PackedSpan<uint16_t>(AsPush(h.sends[0]).tables[0].values)[0] == 0x3f80);
  const uint16_t half = ToBfloat16(-2.5f);
  const wire::Bytes bytes = std::as_bytes(std::span(&half, 1));
  wire::Fragments halves;  // cut within the value
  halves.Add(bytes.first(1));
  halves.Add(bytes.last(1));
  wire::PullResponse answer;
  answer.tables.push_back({0, halves});
  h.Reply(h.sends[1], answer);
  CHECK(rows[0] == -2.5f);
}

}  // namespace tidegate
