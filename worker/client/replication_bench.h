#pragma once
// `tidegate bench replication`: what copies of the shards cost, in CPU time. The same batches go to several running
// clusters in turns, which differ only in their jobs' replicas and durability (ReplicationBenchConfig); CPU time is that
// of the cluster's servers, until they have nothing left to do, with and without this process, their worker.

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tidegate {

struct ReplicationFigure {
  std::string name;            // replication/<what>/<cluster>, .../servers: of the servers alone
  double value = 0;            // Mrows per CPU second
  double ceiling = 0;          // of the first cluster
  double cpu_us_per_row = 0;   // median of the turns
  double cpu_us_per_row_least = 0;
};

struct ReplicationBenchCluster {
  std::string name;
  std::string scheduler;  // HOST:PORT
  std::vector<pid_t> servers;
};

struct ReplicationBenchOptions {
  std::vector<ReplicationBenchCluster> clusters;
  std::string only;            // figures with this in their names
  uint64_t keys = 4'000'000;   // of each table
  int turns = 9;
  double turn_s = 0.7;
};
// A shorter run, of a million keys.
ReplicationBenchOptions QuickReplicationBench();

constexpr int kReplicationBenchServers = 2;
// The job of a cluster, as text; `durability`: NONE (one copy), ASYNC or SYNC (two).
std::string ReplicationBenchConfig(const std::string& durability);

absl::Status BenchReplication(const ReplicationBenchOptions& options,
                              const std::function<void(const ReplicationFigure&)>& report);

}  // namespace tidegate
