#pragma once
// Faults on a cluster of processes that works: injects, measures, audits.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cli/chaos/fault_network.h"
#include "cli/chaos/faults.h"
#include "common/types.h"

namespace tidegate::cli {

struct ChaosOptions {
  std::string bin_dir;
  std::string run_dir;
  std::string config;             // of a job of one's own; empty: accounting workers (cli/chaos/accounting_worker.h)
  std::vector<std::string> sets;  // over `config`
  std::string state;              // etcd://...; empty: a folder of run_dir
  int schedulers = 1;
  FaultNetwork* network = nullptr;  // for faults that cut links
  int servers = 3;
  int workers = 2;
  int replicas = 2;
  bool async = false;  // durability ASYNC
  int shards = 32;
  int lease_ms = 3000;
  int heartbeat_interval_ms = 250;
  double minutes = 1;
  int count = 0;  // faults; 0: as many as fit into `minutes`
  std::vector<ChaosFault> faults = {ChaosFault::kKillServer};
  uint64_t seed = 1;
  int heal_timeout_s = 60;                   // until every shard has its replicas again
  std::function<int()> signals;              // how many signals to stop have come; empty: none ever
  std::function<void(const std::string&)> say;  // a line for people
};

struct ChaosInjection {
  ChaosFault fault;
  std::string target;
  int shards = 0;             // of which the target was primary
  TimeMs recovery_ms = -1;    // until a push to each of them was acknowledged; -1: not measured
  TimeMs first_ms = -1;       // until the first one was
  TimeMs elsewhere_ms = -1;   // the longest that no shard of which it has no copy acknowledged a push meanwhile; -1: there is none
  TimeMs gap_ms = -1;         // of a planned move: the longest that no push to one of its shards was acknowledged
};
struct ChaosResult {
  std::vector<ChaosInjection> injections;
  uint64_t pushes = 0;  // acknowledged
  uint64_t checks = 0;  // reads of own writes while faults went on
  uint64_t rows = 0;    // audited at the end
  uint64_t lost = 0;    // of `pushes`: acknowledged, and gone with a server (durability ASYNC)
  std::string job;      // of one's own: how far it is, and its metrics
};

// The job that the accounting workers are in, as text.
std::string ChaosConfig(const ChaosOptions& options);
// OK: every sum is exact, or the job of one's own is finished. DATA_LOSS: a sum is not. Others: the work did not go on, and why.
absl::Status RunChaos(const ChaosOptions& options, ChaosResult* result);

}  // namespace tidegate::cli
