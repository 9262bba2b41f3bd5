// tidegate-server: holds shards of a job's model and applies updates.

#include <gflags/gflags.h>

#include "common/executor/signal_watcher.h"
#include "common/logging.h"
#include "common/malloc_tuning.h"
#include "common/rpc/polling.h"
#include "common/wiring/daemon.h"
#include "common/wiring/exit_within.h"
#include "common/wiring/member.h"
#include "common/wiring/standard_streams.h"
#include "server/rpc/server_process.h"

DEFINE_string(listen, "127.0.0.1:0", "");
DEFINE_string(advertise, "", "");
DEFINE_bool(insecure_bind, false, "");
DEFINE_int32(executors, 0, "");
DEFINE_uint64(memory_limit_bytes, 0, "");
DEFINE_string(zone, "", "");
DEFINE_uint64(fill_rate_limit_mbps, 0, "");
DEFINE_int32(digest_interval, 60, "");

namespace tidegate {
namespace {

constexpr unsigned kShutdownSeconds = 20;

Daemon ServerDaemon() {
  return {"tidegate-server",
          "--scheduler=HOST:PORT",
          "Holds a part of the model of the scheduler's job. Exits 0 when the job is finished, 1 when it failed,\n"
          "2 on bad flags or a port in use, 3 without a scheduler, 4 when given up, 5 when emptied by `tidegate restart`\n"
          "(start it again), 128 + signal when stopped.",
          {MemberFlags(),
           {"its address",
            {{"listen", "HOST:PORT", "where to serve shards; port 0 picks a free one"},
             {"advertise", "HOST[:PORT]", "what workers use to reach this server, if not as listened"},
             {"insecure_bind", "", "allow --listen beyond loopback without TLS (trusted networks only)"}}},
           {"resources",
            {Ranged({"executors", "N", "threads that work on requests; 0: one per core"}, 0, 1024),
             Ranged({"memory_limit_bytes", "BYTES", "memory for tables; pushes that need more are refused; 0: no limit"}, 0, int64_t{1} << 60)}},
           {"replication",
            {{"zone", "NAME", "failure domain; replicas of a shard are spread over zones"},
             Ranged({"fill_rate_limit_mbps", "N", "megabits a second for filling replicas; 0: no limit"}, 0, 1000000),
             Ranged({"digest_interval", "SECONDS", "between comparisons of replicas, each a pass over all rows; 0: never"}, 0, 86400)}},
           MetricsFlags(),
           ProfileFlags()}};
}

int Main(int argc, char** argv) {
  const Daemon daemon = ServerDaemon();
  Arguments arguments;
  if (auto code = ParseDaemonFlags(daemon, argc, argv, &arguments)) return *code;
  if (auto s = CheckMemberFlags(); !s.ok()) return BadUsage(daemon, s);
  KeepFreedMemory();
  PollOnOwnThreads();
  IgnoreLockCycles();
  InitLogging(argv[0], FLAGS_name.empty() ? "server" : FLAGS_name);

  ServerOptions options;
  options.scheduler = FLAGS_scheduler;
  options.listen = FLAGS_listen;
  options.advertise = FLAGS_advertise;
  options.insecure_bind = FLAGS_insecure_bind;
  options.name = FLAGS_name;
  options.executors = FLAGS_executors;
  options.memory_limit_bytes = FLAGS_memory_limit_bytes;
  options.zone = FLAGS_zone;
  options.fill_rate_limit_mbps = FLAGS_fill_rate_limit_mbps;
  options.digest_interval_s = FLAGS_digest_interval;
  options.metrics_host = FLAGS_metrics_host;
  options.metrics_port = FLAGS_metrics_port;
  options.join_timeout_s = FLAGS_join_timeout;
  options.scheduler_timeout_s = FLAGS_scheduler_timeout;
  BlockStopSignals();  // before the first thread: they are the watcher's
  options.before_shutdown = [](int code) {
    WriteProfile();
    ExitWithin(kShutdownSeconds, code, "tidegate-server: the shutdown");
  };
  ServerProcess server(options, &RealFileSystem());
  SignalWatcher signals([&](int signal) { server.Stop(signal); });
  StartProfile(FLAGS_name.empty() ? "server" : FLAGS_name);
  return server.Run();
}

}  // namespace
}  // namespace tidegate

int main(int argc, char** argv) {
  tidegate::OpenStandardStreams();
  return tidegate::Main(argc, argv);
}
