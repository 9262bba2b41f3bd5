// tidegate-worker: reads data, pulls parameters, computes gradients, pushes them.

#include <gflags/gflags.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "common/executor/signal_watcher.h"
#include "common/exit_codes.h"
#include "common/logging.h"
#include "common/malloc_tuning.h"
#include "common/metrics/metrics.h"
#include "common/rpc/polling.h"
#include "worker/rpc/worker_process.h"

DEFINE_string(scheduler, "", "HOST:PORT of the job's scheduler (required)");
DEFINE_string(name, "", "name of this worker, for people; default: host and pid");
DEFINE_int32(join_timeout, 60, "seconds to wait for the scheduler before giving up (exit code 3)");
DEFINE_int32(scheduler_timeout, 600, "seconds without an answer of the scheduler after which the worker gives up; "
                                    "0: never");
DEFINE_int32(compute_threads, 0, "threads of matrix products; 0: cores / workers, at least 1");
DEFINE_string(metrics_host, "127.0.0.1", "address that Prometheus metrics are served on");
DEFINE_int32(metrics_port, -1, "port of Prometheus metrics; 0: any free one (logged); -1: none");

namespace tidegate {
namespace {

constexpr char kUsage[] =
    "usage: tidegate-worker --scheduler=HOST:PORT [flags]\n"
    "Trains: reads data, pulls parameters, computes gradients, pushes them. Exits 0 when the job is finished,\n"
    "1 when it failed, 2 on bad flag values or a port in use, 3 without a scheduler, 128 + signal when stopped.\n\n";

void PrintHelp() {
  std::fputs(kUsage, stdout);
  std::vector<gflags::CommandLineFlagInfo> flags;
  gflags::GetAllFlags(&flags);
  for (const auto& flag : flags) {
    if (flag.filename.find("worker_main.cc") == std::string::npos) continue;
    std::printf("  --%-18s %s%s%s\n", flag.name.c_str(), flag.description.c_str(),
                flag.default_value.empty() ? "" : "; default ", flag.default_value.c_str());
  }
}

int Main() {
  if (FLAGS_scheduler.empty()) {
    std::fprintf(stderr, "tidegate-worker: --scheduler=HOST:PORT is required (try --help)\n");
    return kExitUsage;
  }
  if (FLAGS_join_timeout < 0 || FLAGS_scheduler_timeout < 0) {
    std::fprintf(stderr, "tidegate-worker: --join_timeout and --scheduler_timeout are seconds, not negative\n");
    return kExitUsage;
  }
  WorkerProcess::Options options;
  options.scheduler = FLAGS_scheduler;
  options.name = FLAGS_name;
  options.join_timeout_s = FLAGS_join_timeout;
  options.scheduler_timeout_s = FLAGS_scheduler_timeout;
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
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--help") == 0 || std::strcmp(argv[i], "-h") == 0) {
      tidegate::PrintHelp();
      return 0;
    }
  }
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
