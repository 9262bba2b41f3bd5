// Runs the table benchmark alone; `tidegate bench table` prints the same figures.
// usage: table_bench [quick | KEYS]

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "server/table/table_bench.h"

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::strcmp(argv[1], "quick") == 0;
  tidegate::TableBenchOptions options = quick ? tidegate::QuickTableBench() : tidegate::TableBenchOptions();
  if (argc > 1 && !quick) options.keys = std::strtoull(argv[1], nullptr, 10);
  tidegate::BenchTable(options,
                       [](const tidegate::TableFigure& f) {
                         std::printf("%-28s %8.2f %s  ceiling %8.2f  ratio %.2f  cpu_us %.4f\n", f.name.c_str(),
                                     f.value, f.unit.c_str(), f.ceiling,
                                     f.ceiling > 0 ? f.value / f.ceiling : 0, f.cpu_us_per_unit);
                         std::fflush(stdout);
                       });
}
