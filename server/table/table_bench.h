#pragma once
// `tidegate bench table`: what a strand's work on rows costs, beside the ceiling of this machine, both
// measured here and now on one thread, in turns, by medians.
//
// Ceilings do the same memory traffic with nothing to find: rows of an array by known index, of the same size and
// footprint, with prefetch.

#include <cstdint>
#include <functional>
#include <string>

namespace tidegate {

struct TableFigure {
  std::string name;
  double value = 0;             // Mrows/s
  std::string unit;
  double ceiling = 0;           // in the same unit; 0: none
  double cpu_us_per_unit = 0;   // CPU time of the thread, per row
};

struct TableBenchOptions {
  uint64_t keys = 10'000'000;  // about 0.9 GiB at 16 floats; rows of 64 floats take a quarter of the keys
  int shards = 64;
  int repeats = 7;
};
// Quick: a footprint that is still beyond the caches, in a few seconds.
TableBenchOptions QuickTableBench();

void BenchTable(const TableBenchOptions& options, const std::function<void(const TableFigure&)>& report);

}  // namespace tidegate
