// tidegate-worker: reads data, pulls parameters, computes gradients, pushes them.

#include <gflags/gflags.h>

#include <atomic>
#include <cstdio>
#include <memory>

#include "common/executor/signal_watcher.h"
#include "common/exit_codes.h"
#include "common/logging.h"
#include "common/malloc_tuning.h"
#include "common/metrics/metrics.h"
#include "common/rpc/polling.h"
#include "worker/rpc/worker_process.h"

DEFINE_string(scheduler, "", "address of the scheduler, host:port (required)");
DEFINE_string(name, "", "name of this worker, for people; default: host and pid");
DEFINE_int32(join_timeout, 60, "seconds to wait for the scheduler before giving up (exit code 3)");
DEFINE_int32(compute_threads, 0, "threads of matrix products; 0: cores / workers, at least 1");
DEFINE_string(metrics_host, "127.0.0.1", "address that Prometheus metrics are served on");
DEFINE_int32(metrics_port, -1, "port of Prometheus metrics; 0: any free one (logged); -1: none");

namespace tidegate {
namespace {

int Main() {
  if (FLAGS_scheduler.empty()) {
    std::fprintf(stderr, "tidegate-worker: --scheduler=HOST:PORT is required (try --help)\n");
    return kExitUsage;
  }
  WorkerProcess::Options options;
  options.scheduler = FLAGS_scheduler;
  options.name = FLAGS_name;
  options.join_timeout_s = FLAGS_join_timeout;
  options.compute_threads = FLAGS_compute_threads;
  WorkerProcess worker(options);
  std::atomic<int> signal = 0;
  SignalWatcher signals([&](int number) {
    signal = number;
    worker.RequestStop();
  });

  MetricsRegistry registry("worker");
  registry.AddSource([&](MetricsPage& page) { worker.AddMetrics(page); });
  std::unique_ptr<MetricsServer> metrics;
  if (FLAGS_metrics_port >= 0) {
    auto started = MetricsServer::Start(&registry, FLAGS_metrics_host, FLAGS_metrics_port);
    if (!started.ok()) {
      TG_LOG(ERROR) << started.status().message();
      return kExitUsage;
    }
    metrics = *std::move(started);
    TG_LOG(INFO) << "metrics on port " << metrics->port();
  }

  const absl::Status status = worker.Run();
  if (status.ok()) {
    TG_LOG(INFO) << "the job finished";
    return kExitFinished;
  }
  if (signal != 0) return 128 + signal;
  TG_LOG(ERROR) << status.message();
  return absl::IsDeadlineExceeded(status) ? kExitJoinTimeout : kExitFailed;
}

}  // namespace
}  // namespace tidegate

int main(int argc, char** argv) {
  gflags::SetUsageMessage(
      "trains: reads data, pulls parameters, computes gradients, pushes them.\n"
      "  tidegate-worker --scheduler=HOST:PORT");
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  tidegate::KeepFreedMemory();
  tidegate::PollOnOwnThreads();
  tidegate::InitLogging(argv[0], "worker");
  if (argc > 1) {
    std::fprintf(stderr, "tidegate-worker: unexpected argument \"%s\"\n", argv[1]);
    return tidegate::kExitUsage;
  }
  return tidegate::Main();
}
