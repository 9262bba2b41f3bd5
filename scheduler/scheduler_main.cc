// tidegate-scheduler: holds a job, its members and its work.

#include <gflags/gflags.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/executor/signal_watcher.h"
#include "common/file_system.h"
#include "common/logging.h"
#include "common/wiring/daemon.h"
#include "common/wiring/standard_streams.h"
#include "scheduler/rpc/scheduler_process.h"

DEFINE_string(config, "", "");
DEFINE_string(listen, "127.0.0.1:0", "");
DEFINE_string(advertise, "", "");
DEFINE_bool(insecure_bind, false, "");
DEFINE_string(address_file, "", "");
DEFINE_string(state, "", "");
DEFINE_string(checkpoint_dir, "", "");
DEFINE_string(metrics_dir, "", "");
DEFINE_bool(fresh, false, "");
DEFINE_string(summary, "", "");
DEFINE_int32(heartbeat_interval_ms, 250, "");
DEFINE_int32(lease_ms, 3000, "");
DEFINE_int32(level_after, 10, "");
DEFINE_int32(restore_wait_s, 0, "");
DEFINE_bool(members_gone, false, "");
DEFINE_double(rebalance_load, 1.3, "");
DEFINE_int32(leader_ttl_s, 3, "");
DEFINE_int32(etcd_timeout_s, 60, "");
DEFINE_int32(etcd_compaction_s, 300, "");
DEFINE_int32(http_port, 0, "");
DEFINE_string(http_host, "127.0.0.1", "");

namespace tidegate {
namespace {

constexpr int kHourMs = 3'600'000;

Daemon SchedulerDaemon() {
  return {"tidegate-scheduler",
          "--config=FILE",
          "Runs one job: servers and workers join it by --scheduler=HOST:PORT. Exits 0 when the job is finished,\n"
          "1 when it failed, 2 on bad flags, config, data or state, 128 + signal when stopped.",
          {{"the job",
            {{"config", "FILE", "text-format JobConfig, or binary if it ends in .pb (required)"},
             {"set", "PATH=VALUE", "override a field of the config", true},
             {"state", "DIR", "the durable state; started again with it the job goes on (default: a new one under ./tidegate-run); or etcd, below"},
             {"checkpoint_dir", "DIR", "checkpoints, shared with servers (default: in --state; required with etcd)"},
             {"fresh", "", "start anew, also where --checkpoint_dir holds this job: without it the job resumes from its newest"},
             {"members_gone", "", "of the job in --state: its servers and workers are gone, all of them (a power cut); it goes on from its newest checkpoint"},
             {"metrics_dir", "DIR", "gets metrics.jsonl and TensorBoard event files"},
             {"summary", "FILE", "a JSON summary at the end"}}},
           {"its address",
            {{"listen", "HOST:PORT", "where to serve; port 0 picks a free one"},
             {"advertise", "HOST[:PORT]", "what members use, if not as listened"},
             {"insecure_bind", "", "allow --listen beyond loopback without TLS (trusted networks only)"},
             {"address_file", "FILE", "gets HOST:PORT once it listens"}}},
           {"failure detection",
            {Ranged({"heartbeat_interval_ms", "MS", "how long a heartbeat is held when there is no news; of more than 1,000 workers longer, up to a quarter of --lease_ms"}, 10, kHourMs),
             Ranged({"lease_ms", "MS", "a member that is silent for so long is dead"}, 40, kHourMs),
             Ranged({"restore_wait_s", "SECONDS", "cluster.on_data_loss: STOP: a job that lost shards stands still for so long, for `tidegate restore`, before it fails"}, 0, 7 * 86400),
             Ranged({"level_after", "SECONDS", "with replicas: servers that lead few shards are given more once no server came or went for so long; 0: never"}, 0, 86400),
             {"rebalance_load", "X", "with replicas: a server with more than X times the mean of rows pulled and pushed gives shards to others; 0: never"}}},
           {"standbys: --state=etcd://HOST:PORT[,HOST:PORT...][/PREFIX] (default prefix: /tidegate), one prefix for each job",
            {Ranged({"leader_ttl_s", "SECONDS", "of the leader's lease in etcd: how long after its death another one leads"}, 1, 3600),
             Ranged({"etcd_timeout_s", "SECONDS", "without an answer of etcd's, at the start or while it stands by, then it gives up"}, 1, kHourMs / 1000),
             Ranged({"etcd_compaction_s", "SECONDS", "the leader compacts etcd's history to what is so old; 0: never (where etcd itself or others do)"}, 0, 30 * 24 * 3600)}},
           {"status page (/, /api/status); where there are standbys, of the leader",
            {Ranged({"http_port", "PORT", "0 picks a free one (logged), -1 serves none"}, -1, 65535),
             {"http_host", "HOST", "address it is served at; whoever reaches it sees the job, without a password"}}},
           MetricsFlags(),
           ProfileFlags()}};
}

absl::Status CheckFlags() {
  if (FLAGS_config.empty()) return absl::InvalidArgumentError("--config=FILE is required");
  if (FLAGS_lease_ms < 4 * FLAGS_heartbeat_interval_ms) {
    return absl::InvalidArgumentError(absl::StrCat("--lease_ms=", FLAGS_lease_ms, " must be at least four times --heartbeat_interval_ms=",
                                                   FLAGS_heartbeat_interval_ms));
  }
  if (FLAGS_rebalance_load != 0 && !(FLAGS_rebalance_load >= 1.05 && FLAGS_rebalance_load <= 100)) {
    return absl::InvalidArgumentError(absl::StrCat("--rebalance_load=", FLAGS_rebalance_load, " must be 0 or from 1.05 to 100"));
  }
  if (FLAGS_summary.empty()) return absl::OkStatus();
  const absl::Status writable = RealFileSystem().CheckWritableFile(FLAGS_summary);
  return absl::Status(writable.code(), absl::StrCat("--summary: ", std::string(writable.message())));
}

int Main(int argc, char** argv) {
  const Daemon daemon = SchedulerDaemon();
  Arguments arguments;
  if (auto code = ParseDaemonFlags(daemon, argc, argv, &arguments)) return *code;
  if (auto s = CheckFlags(); !s.ok()) return BadUsage(daemon, s);
  InitLogging(argv[0], "scheduler");

  SchedulerProcessOptions options;
  options.overrides = arguments.Repeated("set");
  options.config = FLAGS_config;
  options.listen = FLAGS_listen;
  options.advertise = FLAGS_advertise;
  options.insecure_bind = FLAGS_insecure_bind;
  options.state = FLAGS_state;
  options.checkpoint_dir = FLAGS_checkpoint_dir;
  options.fresh = FLAGS_fresh;
  options.members_gone = FLAGS_members_gone;
  options.summary = FLAGS_summary;
  options.metrics_dir = FLAGS_metrics_dir;
  options.address_file = FLAGS_address_file;
  options.heartbeat_interval_ms = FLAGS_heartbeat_interval_ms;
  options.lease_ms = FLAGS_lease_ms;
  options.level_after_ms = FLAGS_level_after * TimeMs{1000};
  options.restore_wait_ms = FLAGS_restore_wait_s * TimeMs{1000};
  options.rebalance_load = FLAGS_rebalance_load;
  options.leader_ttl_s = FLAGS_leader_ttl_s;
  options.etcd_patience_ms = TimeMs{1000} * FLAGS_etcd_timeout_s;
  options.etcd_compaction_ms = TimeMs{1000} * FLAGS_etcd_compaction_s;
  options.http_host = FLAGS_http_host;
  options.http_port = FLAGS_http_port;
  options.metrics_host = FLAGS_metrics_host;
  options.metrics_port = FLAGS_metrics_port;
  // Servers hear of the end after the workers have left or are known to be dead.
  options.leave_grace_ms = std::max<TimeMs>(options.leave_grace_ms, 2 * FLAGS_lease_ms);
  SchedulerProcess scheduler(options, &RealFileSystem());
  SignalWatcher signals([&](int signal) { scheduler.Stop(signal); });
  StartProfile("scheduler");
  const int code = scheduler.Run();
  WriteProfile();
  return code;
}

}  // namespace
}  // namespace tidegate

int main(int argc, char** argv) {
  tidegate::OpenStandardStreams();
  return tidegate::Main(argc, argv);
}
