// tidegate-scheduler: holds a job, its members and its work.

#include <gflags/gflags.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "common/executor/signal_watcher.h"
#include "common/exit_codes.h"
#include "common/file_system.h"
#include "common/logging.h"
#include "scheduler/rpc/scheduler_process.h"

DEFINE_string(config, "", "job config: text-format JobConfig, or binary if it ends in .pb (required)");
DEFINE_string(set, "", "PATH=VALUE, changes a field of the config; may be given many times");
DEFINE_string(listen, "127.0.0.1:0", "HOST:PORT to serve at; port 0 picks a free one");
DEFINE_string(advertise, "", "HOST or HOST:PORT that members use, if not as listened");
DEFINE_bool(insecure_bind, false, "allow --listen beyond loopback without TLS (trusted networks only)");
DEFINE_string(address_file, "", "file that gets HOST:PORT once it listens");
DEFINE_string(state, "", "folder of the durable state; started again with it the job goes on; "
                         "default: a new one under ./tidegate-run");
DEFINE_string(checkpoint_dir, "", "folder of checkpoints, shared with servers; default: in --state");
DEFINE_string(metrics_dir, "", "folder that gets metrics.jsonl and TensorBoard event files");
DEFINE_string(summary, "", "file that gets a JSON summary at the end");
DEFINE_int32(heartbeat_interval_ms, 250, "how long a heartbeat is held when there is no news");
DEFINE_int32(lease_ms, 3000, "a member that is silent for so long is dead");
DEFINE_int32(metrics_port, 0, "port of /metrics; 0 picks a free one, -1 serves none");

namespace {

constexpr char kUsage[] =
    "usage: tidegate-scheduler --config=FILE [flags]\n"
    "Runs one job: servers and workers join it by --scheduler=HOST:PORT. Exits 0 when the job is finished,\n"
    "1 when it failed, 2 on bad flag values, config, data or state, 128 + signal when stopped.\n\n";

void PrintHelp() {
  std::fputs(kUsage, stdout);
  std::vector<gflags::CommandLineFlagInfo> flags;
  gflags::GetAllFlags(&flags);
  for (const auto& flag : flags) {
    if (flag.filename.find("scheduler_main.cc") == std::string::npos) continue;
    std::printf("  --%-22s %s%s%s\n", flag.name.c_str(), flag.description.c_str(),
                flag.default_value.empty() ? "" : "; default ", flag.default_value.c_str());
  }
}

int BadUsage(const char* message) {
  std::fprintf(stderr, "%s\n%s", message, kUsage);
  return tidegate::kExitUsage;
}

// gflags keeps only the last of a repeated flag: --set=X and --set X are taken out before.
std::vector<std::string> TakeOverrides(int* argc, char** argv) {
  std::vector<std::string> overrides;
  int kept = 1;
  for (int i = 1; i < *argc; ++i) {
    const std::string word = argv[i];
    const size_t dashes = word.rfind("--", 0) == 0 ? 2 : word.rfind("-", 0) == 0 ? 1 : 0;
    if (dashes > 0 && word.compare(dashes, std::string::npos, "set") == 0 && i + 1 < *argc) {
      overrides.push_back(argv[++i]);
    } else if (dashes > 0 && word.compare(dashes, 4, "set=") == 0) {
      overrides.push_back(word.substr(dashes + 4));
    } else {
      argv[kept++] = argv[i];
    }
  }
  *argc = kept;
  return overrides;
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--help") == 0 || std::strcmp(argv[i], "-h") == 0) {
      PrintHelp();
      return 0;
    }
  }
  tidegate::SchedulerProcessOptions options;
  options.overrides = TakeOverrides(&argc, argv);
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  if (argc > 1) return BadUsage("tidegate-scheduler takes no arguments, only flags");
  if (FLAGS_config.empty()) return BadUsage("--config=FILE is required");
  if (FLAGS_heartbeat_interval_ms < 10 || FLAGS_lease_ms < 4 * FLAGS_heartbeat_interval_ms) {
    return BadUsage("--heartbeat_interval_ms must be at least 10, --lease_ms at least four times that");
  }
  if (FLAGS_metrics_port < -1 || FLAGS_metrics_port > 65535) {
    return BadUsage("--metrics_port is out of range");
  }
  tidegate::InitLogging(argv[0], "scheduler");

  options.config = FLAGS_config;
  options.listen = FLAGS_listen;
  options.advertise = FLAGS_advertise;
  options.insecure_bind = FLAGS_insecure_bind;
  options.state = FLAGS_state;
  options.checkpoint_dir = FLAGS_checkpoint_dir;
  options.summary = FLAGS_summary;
  options.metrics_dir = FLAGS_metrics_dir;
  options.address_file = FLAGS_address_file;
  options.heartbeat_interval_ms = FLAGS_heartbeat_interval_ms;
  options.lease_ms = FLAGS_lease_ms;
  options.metrics_port = FLAGS_metrics_port;
  // Servers hear of the end after the workers have left or are known to be dead.
  options.leave_grace_ms = std::max<tidegate::TimeMs>(options.leave_grace_ms, 2 * FLAGS_lease_ms);
  tidegate::SchedulerProcess scheduler(options, &tidegate::RealFileSystem());
  tidegate::SignalWatcher signals([&](int signal) { scheduler.Stop(signal); });
  return scheduler.Run();
}
