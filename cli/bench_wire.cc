#include "cli/bench_wire.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/local_cluster.h"
#include "cli/process.h"
#include "common/rpc/polling.h"
#include "worker/client/wire_bench.h"

namespace tidegate::cli {

absl::Status RunBenchWire(const BenchWireOptions& options, const std::function<void(const BenchFigure&)>& report) {
  PollOnOwnThreads();  // as servers and workers do
  std::error_code error;
  std::filesystem::create_directories(options.run_dir, error);
  LocalClusterOptions cluster_options;
  cluster_options.bin_dir = options.bin_dir.empty() ? OwnFolder() : options.bin_dir;
  cluster_options.run_dir = options.run_dir;
  cluster_options.config = options.run_dir + "/bench.textproto";
  cluster_options.servers = 1;
  cluster_options.workers = 0;
  cluster_options.external_workers = 1;
  cluster_options.server_args = {"--executors=1"};
  cluster_options.show_progress = false;
  std::ofstream(cluster_options.config) << WireBenchConfig();

  Terminal terminal(Verbosity::kQuiet, options.run_dir + "/logs", false);
  LocalCluster cluster(cluster_options, &terminal);
  if (absl::Status s = cluster.Start(); !s.ok()) return s;
  WireBenchOptions bench = options.quick ? QuickWireBench() : WireBenchOptions();
  bench.only = options.only;
  bench.scheduler = cluster.address();
  bench.server_pid = cluster.ServerPids().front();
  struct Outcome {
    absl::Status status;
    std::atomic<bool> done{false};
  };
  auto outcome = std::make_shared<Outcome>();
  std::thread thread([bench, report, outcome] {
    outcome->status = BenchWire(bench, [&](const WireFigure& f) {
      report({f.name, f.value, f.unit, f.ceiling, f.cpu_us_per_unit, f.cpu_us_per_unit_least});
    });
    outcome->done = true;
  });
  while (!outcome->done && cluster.Step(100) && cluster.endings().empty()) {
  }
  for (int i = 0; i < 50 && !outcome->done; ++i) {  // time to say what went wrong
    cluster.Step(0);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  absl::Status status = absl::AbortedError("the cluster ended before the figures were taken");
  if (outcome->done) {
    thread.join();
    status = outcome->status;
  } else {
    thread.detach();
  }
  if (!status.ok()) return absl::Status(status.code(), absl::StrCat(std::string(status.message()), " (logs: ", options.run_dir, "/logs)"));
  return absl::OkStatus();
}

}  // namespace tidegate::cli
