// What a shard's table writes down of its changes: never less than what changed, and within bounds.
#include "server/table/touched_rows.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <vector>


namespace tidegate {
namespace {

TEST_CASE("nothing is known before the first time, then rows are noted one by one") {
  TouchLog log;
  CHECK_FALSE(log.on());
  log.Row(1 << 30);  // off: touches no memory
  CHECK(log.Begin(100).unknown);
  CHECK(log.on());
  log.Row(0);
  log.Row(99);
  log.MakeRoom(1000);
  log.Row(900);
  log.Row(64);
  log.RowFreed(64);
  const TouchedRows touched = log.Begin(1000);
  CHECK_FALSE(touched.unknown);
  for (uint32_t row = 0; row < 2000; ++row) CHECK(touched.Has(row) == (row == 0 || row == 99 || row == 900));
  CHECK_FALSE(log.Begin(1000).Has(0));
  log.Row(3);
  log.Stop();
  CHECK(log.Begin(1000).unknown);
}

TEST_CASE("keys that are counted again and again stay within bounds; too many different ones are all counters, or unknown") {
  TouchLog log;
  log.Begin(1);
  for (uint64_t i = 0; i < 1'000'000; ++i) {
    log.Counter(i % 1000, 0);
    log.Removed(i % 500, 0);
  }
  CHECK(log.bytes() < 8'000'000);
  TouchedRows touched = log.Begin(1);
  std::sort(touched.counters.begin(), touched.counters.end());
  touched.counters.erase(std::unique(touched.counters.begin(), touched.counters.end()), touched.counters.end());
  CHECK(touched.counters.size() == 1000);
  CHECK_FALSE(touched.all_counters);
  for (uint64_t i = 0; i < 200'000; ++i) log.Counter(i, 0);
  touched = log.Begin(1);
  CHECK(touched.all_counters);
  CHECK_FALSE(touched.unknown);
  for (uint64_t i = 0; i < 200'000; ++i) log.Removed(i, 0);
  CHECK_FALSE(log.on());
  CHECK(log.Begin(1).unknown);
}

}  // namespace
}  // namespace tidegate
