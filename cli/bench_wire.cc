#include "cli/bench_wire.h"

#include "cli/bench_clusters.h"
#include "common/rpc/polling.h"
#include "worker/client/wire_bench.h"

namespace tidegate::cli {

absl::Status RunBenchWire(const BenchWireOptions& options, const std::function<void(const BenchFigure&)>& report) {
  PollOnOwnThreads();  // as servers and workers do
  IgnoreLockCycles();
  BenchClusters clusters(options.bin_dir, options.run_dir);
  if (absl::Status s = clusters.Start("one", WireBenchConfig(), 1); !s.ok()) return s;
  WireBenchOptions bench = options.quick ? QuickWireBench() : WireBenchOptions();
  bench.only = options.only;
  bench.scheduler = clusters.cluster(0).address();
  bench.server_pid = clusters.cluster(0).ServerPids().front();
  return clusters.Run([bench, report] {
    return BenchWire(bench, [&](const WireFigure& f) {
      report({f.name, f.value, f.unit, f.ceiling, f.cpu_us_per_unit, f.cpu_us_per_unit_least});
    });
  });
}

}  // namespace tidegate::cli
