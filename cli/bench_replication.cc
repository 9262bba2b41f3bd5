#include "cli/bench_clusters.h"
#include "cli/bench_wire.h"
#include "common/rpc/polling.h"
#include "worker/client/replication_bench.h"

namespace tidegate::cli {

absl::Status RunBenchReplication(const BenchWireOptions& options, const std::function<void(const BenchFigure&)>& report) {
  PollOnOwnThreads();  // as servers and workers do
  IgnoreLockCycles();
  BenchClusters clusters(options.bin_dir, options.run_dir);
  ReplicationBenchOptions bench = options.quick ? QuickReplicationBench() : ReplicationBenchOptions();
  bench.only = options.only;
  for (const char* durability : {"NONE", "SYNC", "ASYNC"}) {
    const absl::Status started = clusters.Start(durability, ReplicationBenchConfig(durability), kReplicationBenchServers);
    if (!started.ok()) return started;
    const LocalCluster& cluster = clusters.cluster(bench.clusters.size());
    bench.clusters.push_back({durability, cluster.address(), cluster.ServerPids()});
  }
  return clusters.Run([bench, report] {
    return BenchReplication(bench, [&](const ReplicationFigure& f) {
      report({f.name, f.value, "Mrows/CPU s", f.ceiling, f.cpu_us_per_row, f.cpu_us_per_row_least});
    });
  });
}

}  // namespace tidegate::cli
