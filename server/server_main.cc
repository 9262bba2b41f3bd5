// tidegate-server: holds shards of a job's model and applies updates.

#include <gflags/gflags.h>

#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "common/executor/signal_watcher.h"
#include "common/exit_codes.h"
#include "common/logging.h"
#include "common/malloc_tuning.h"
#include "common/rpc/polling.h"
#include "server/rpc/server_process.h"

DEFINE_string(scheduler, "", "HOST:PORT of the job's scheduler (required)");
DEFINE_string(listen, "127.0.0.1:0", "HOST:PORT to serve shards at; port 0 picks a free one");
DEFINE_string(advertise, "", "HOST or HOST:PORT that workers use to reach this server, if not as listened");
DEFINE_bool(insecure_bind, false, "allow --listen beyond loopback without TLS (trusted networks only)");
DEFINE_string(name, "", "name in status and logs; default: host and pid");
DEFINE_int32(executors, 0, "threads that work on requests; 0: one per core");
DEFINE_uint64(memory_limit_bytes, 0, "memory for tables; pushes that need more are refused; 0: no limit");
DEFINE_int32(metrics_port, 0, "port of /metrics; 0 picks a free one, -1 serves none");
DEFINE_int32(join_timeout, 60, "seconds to wait for the scheduler");
DEFINE_int32(scheduler_timeout, 600, "seconds without an answer of the scheduler after which the server gives up; "
                                    "0: never");

namespace {

constexpr char kUsage[] =
    "usage: tidegate-server --scheduler=HOST:PORT [flags]\n"
    "Holds a part of the model of the scheduler's job. Exits 0 when the job is finished, 1 when it failed,\n"
    "2 on bad flag values or a port in use, 3 without a scheduler, 4 when given up, 128 + signal when stopped.\n\n";

void PrintHelp() {
  std::fputs(kUsage, stdout);
  std::vector<gflags::CommandLineFlagInfo> flags;
  gflags::GetAllFlags(&flags);
  for (const auto& flag : flags) {
    if (flag.filename.find("server_main.cc") == std::string::npos) continue;
    std::printf("  --%-19s %s%s%s\n", flag.name.c_str(), flag.description.c_str(),
                flag.default_value.empty() ? "" : "; default ", flag.default_value.c_str());
  }
}

int BadUsage(const char* message) {
  std::fprintf(stderr, "%s\n%s", message, kUsage);
  return tidegate::kExitUsage;
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--help") == 0 || std::strcmp(argv[i], "-h") == 0) {
      PrintHelp();
      return 0;
    }
  }
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  if (argc > 1) return BadUsage("tidegate-server takes no arguments, only flags");
  if (FLAGS_scheduler.empty()) return BadUsage("--scheduler=HOST:PORT is required");
  if (FLAGS_executors < 0 || FLAGS_join_timeout < 0 || FLAGS_scheduler_timeout < 0 ||
      FLAGS_metrics_port > 65535) {
    return BadUsage(
        "--executors, --join_timeout, --scheduler_timeout or --metrics_port is out of range");
  }
  tidegate::KeepFreedMemory();
  tidegate::PollOnOwnThreads();
  tidegate::InitLogging(argv[0], FLAGS_name.empty() ? "server" : FLAGS_name);

  tidegate::ServerOptions options;
  options.scheduler = FLAGS_scheduler;
  options.listen = FLAGS_listen;
  options.advertise = FLAGS_advertise;
  options.insecure_bind = FLAGS_insecure_bind;
  options.name = FLAGS_name;
  options.executors = FLAGS_executors;
  options.memory_limit_bytes = FLAGS_memory_limit_bytes;
  options.metrics_port = FLAGS_metrics_port;
  options.join_timeout_s = FLAGS_join_timeout;
  options.scheduler_timeout_s = FLAGS_scheduler_timeout;
  tidegate::ServerProcess* running = nullptr;
  std::mutex mutex;
  int early_signal = 0;
  tidegate::SignalWatcher signals([&](int signal) {
    std::lock_guard lock(mutex);
    if (running != nullptr) {
      running->Stop(signal);
    } else {
      early_signal = signal;
    }
  });
  tidegate::ServerProcess server(options, &tidegate::RealFileSystem());
  {
    std::lock_guard lock(mutex);
    running = &server;
    if (early_signal != 0) server.Stop(early_signal);
  }
  const int code = server.Run();
  std::lock_guard lock(mutex);
  running = nullptr;
  return code;
}
