// tidegate-worker: reads data, pulls parameters, computes gradients, pushes them.

#include <gflags/gflags.h>

#include <atomic>
#include <memory>
#include <string>

#include "common/executor/signal_watcher.h"
#include "common/exit_codes.h"
#include "common/logging.h"
#include "common/malloc_tuning.h"
#include "common/metrics/metrics.h"
#include "common/rpc/polling.h"
#include "common/wiring/daemon.h"
#include "common/wiring/member.h"
#include "common/wiring/standard_streams.h"
#include "worker/rpc/worker_process.h"

DEFINE_int32(compute_threads, 0, "");

namespace tidegate {
namespace {

Daemon WorkerDaemon() {
  return {"tidegate-worker",
          "--scheduler=HOST:PORT",
          "Trains: reads data, pulls parameters, computes gradients, pushes them. Exits 0 when the job is finished,\n"
          "1 when it failed, 2 on bad flags or a port in use, 3 without a scheduler, 128 + signal when stopped.",
          {MemberFlags(),
           {"resources",
            {Ranged({"compute_threads", "N", "threads of matrix products; 0: cores / workers, at least 1"}, 0, 1024)}},
           MetricsFlags(),
           ProfileFlags()}};
}

int Train() {
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
    TG_LOG(INFO) << "metrics at " << metrics->url();
  }

  const absl::Status status = worker.Run();
  if (status.ok()) {
    TG_LOG(INFO) << "the job finished";
    return kExitFinished;
  }
  if (signal != 0) return 128 + signal;
  const std::string message(status.message());
  if (WasStopped(message)) {
    TG_LOG(INFO) << message;
    return kExitFailed;
  }
  TG_LOG(ERROR) << message;
  return absl::IsDeadlineExceeded(status) ? kExitJoinTimeout : kExitFailed;
}

int Main(int argc, char** argv) {
  const Daemon daemon = WorkerDaemon();
  Arguments arguments;
  if (auto code = ParseDaemonFlags(daemon, argc, argv, &arguments)) return *code;
  if (auto s = CheckMemberFlags(); !s.ok()) return BadUsage(daemon, s);
  KeepFreedMemory();
  PollOnOwnThreads();
  IgnoreLockCycles();
  InitLogging(argv[0], "worker");
  StartProfile(FLAGS_name.empty() ? "worker" : FLAGS_name);
  const int code = Train();
  WriteProfile();
  return code;
}

}  // namespace
}  // namespace tidegate

int main(int argc, char** argv) {
  tidegate::OpenStandardStreams();
  return tidegate::Main(argc, argv);
}
