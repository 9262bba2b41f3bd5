// `tidegate chaos`: a cluster of processes on this machine under faults, and whether it kept its promises.

#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "cli/chaos/chaos_run.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/process.h"
#include "cli/stop_signals.h"
#include "common/counted.h"
#include "common/file_system.h"
#include "common/host_port.h"
#include "common/job_config/job_config.h"
#include "common/json.h"

DEFINE_int32(replicas, 0, "");
DEFINE_int32(shards, 0, "");
DEFINE_int32(schedulers, 0, "");
DEFINE_string(state, "", "");
DEFINE_int32(lease_ms, 3000, "");
DEFINE_int32(heartbeat_interval_ms, 250, "");
DEFINE_double(minutes, 1, "");
DEFINE_int32(fault_count, 0, "");
DEFINE_string(durability, "", "");
DEFINE_string(faults, "kill-server", "");

namespace tidegate::cli {
namespace {

constexpr int kServers = 3;
constexpr int kWorkers = 2;
constexpr int kReplicas = 2;
constexpr int kShards = 32;
constexpr int kSchedulers = 2;  // with a state that several can share

TimeMs Median(std::vector<TimeMs> values) {
  if (values.empty()) return -1;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// Of the faults that took a server away.
std::vector<TimeMs> FirstAcknowledgements(const ChaosResult& result) {
  std::vector<TimeMs> out;
  for (const ChaosInjection& injection : result.injections) {
    if (injection.shards > 0 && injection.first_ms >= 0) out.push_back(injection.first_ms);
  }
  return out;
}

const char* Verdict(const ChaosResult& result, const absl::Status& status) {
  if (status.ok()) return !FLAGS_config.empty() ? "finished" : result.lost == 0 ? "exact" : "bounded";
  if (absl::IsDataLoss(status)) return "wrong";
  return absl::IsCancelled(status) ? "stopped" : "stuck";
}

std::string Json(const ChaosResult& result, const absl::Status& status) {
  std::vector<std::string> injections;
  for (const ChaosInjection& injection : result.injections) {
    injections.push_back(JsonObject()
                             .Text("fault", NameOf(injection.fault))
                             .Text("target", injection.target)
                             .Integer("shards", injection.shards)
                             .Integer("first_ack_ms", injection.first_ms)
                             .Integer("all_acks_ms", injection.recovery_ms)
                             .Integer("elsewhere_ms", injection.elsewhere_ms)
                             .Integer("gap_ms", injection.gap_ms)
                             .Build());
  }
  return JsonObject()
      .Text("verdict", Verdict(result, status))
      .Text("message", std::string(status.message()))
      .Integer("faults", static_cast<int64_t>(result.injections.size()))
      .Integer("pushes", static_cast<int64_t>(result.pushes))
      .Integer("lost_pushes", static_cast<int64_t>(result.lost))
      .Integer("reads", static_cast<int64_t>(result.checks))
      .Integer("rows_audited", static_cast<int64_t>(result.rows))
      .Integer("median_first_ack_ms", Median(FirstAcknowledgements(result)))
      .Text("job", result.job)
      .Raw("injections", JsonArray(injections))
      .Build();
}

std::string VerdictLine(const ChaosResult& result, const absl::Status& status) {
  const bool accounts = FLAGS_config.empty();
  const std::string work = accounts ? absl::StrCat(Counted(result.injections.size(), "fault"), ", ", result.pushes, " pushes acknowledged, ",
                                                   result.checks, " reads of own writes")
                                    : absl::StrCat(Counted(result.injections.size(), "fault"), ", ", result.job);
  if (absl::IsDataLoss(status)) return absl::StrCat("WRONG: ", std::string(status.message()), " (", work, ")");
  if (!status.ok()) return absl::StrCat("NOT FINISHED: ", std::string(status.message()), " (", work, ")");
  const TimeMs median = Median(FirstAcknowledgements(result));
  if (!accounts) return absl::StrCat("FINISHED: ", work, median < 0 ? "" : absl::StrCat("; median ", median, " ms from a server's fault to new samples"));
  const std::string lost = result.lost == 0 ? "none lost" : absl::StrCat(result.lost, " of the acknowledged lost with their servers (durability ASYNC)");
  return absl::StrCat(result.lost == 0 ? "EXACT: " : "BOUNDED: ", work, ", ", result.rows, " sums audited, ", lost, ", none doubled",
                      median < 0 ? "" : absl::StrCat("; median ", median, " ms from a server's fault to the first push acknowledged on its shards"));
}

// What the flags say of the cluster, over the job's config where there is one.
absl::Status SetCluster(const Arguments& arguments, ChaosOptions* options) {
  options->servers = FLAGS_servers == 0 ? kServers : FLAGS_servers;
  options->workers = FLAGS_workers == 0 ? kWorkers : FLAGS_workers;
  options->replicas = FLAGS_replicas == 0 ? kReplicas : FLAGS_replicas;
  options->shards = FLAGS_shards == 0 ? kShards : FLAGS_shards;
  if ((options->shards & (options->shards - 1)) != 0) return absl::InvalidArgumentError(absl::StrCat("--shards=", options->shards, " must be a power of two"));
  options->async = FLAGS_durability == "ASYNC";
  if (!FLAGS_durability.empty() && FLAGS_durability != "SYNC" && !options->async) {
    return absl::InvalidArgumentError(absl::StrCat("--durability=", FLAGS_durability, " must be SYNC or ASYNC"));
  }
  if (options->async && options->replicas < 2) return absl::InvalidArgumentError("--durability=ASYNC needs --replicas=2 or more");
  options->sets = arguments.Repeated("set");
  if (FLAGS_config.empty()) {
    return options->sets.empty() ? absl::OkStatus() : absl::InvalidArgumentError("--set goes with --config");
  }
  options->config = std::filesystem::absolute(FLAGS_config).lexically_normal().string();
  std::vector<std::string>& sets = options->sets;
  if (FLAGS_servers > 0) sets.push_back(absl::StrCat("cluster.servers=", FLAGS_servers));
  if (FLAGS_workers > 0) sets.push_back(absl::StrCat("cluster.workers=", FLAGS_workers));
  if (FLAGS_shards > 0) sets.push_back(absl::StrCat("cluster.shards=", FLAGS_shards));
  if (FLAGS_replicas > 0) {
    sets.push_back(absl::StrCat("cluster.replicas=", FLAGS_replicas));
    if (FLAGS_durability.empty()) sets.push_back(absl::StrCat("cluster.durability=", FLAGS_replicas > 1 ? "SYNC" : "NONE"));
  }
  if (!FLAGS_durability.empty()) sets.push_back("cluster.durability=" + FLAGS_durability);
  auto config = LoadJobConfig(options->config, sets);
  if (!config.ok()) return config.status();
  const ClusterConfig& cluster = config->cluster();
  options->servers = static_cast<int>(cluster.servers());
  options->workers = static_cast<int>(cluster.workers());
  options->replicas = static_cast<int>(cluster.replicas());
  options->shards = static_cast<int>(cluster.shards());
  return absl::OkStatus();
}

// Schedulers that stand by need a state that they share.
absl::Status SetSchedulers(ChaosOptions* options) {
  options->state = FLAGS_state;
  const std::string scheme = "etcd://";
  if (!FLAGS_state.empty()) {
    const bool etcd = FLAGS_state.rfind(scheme, 0) == 0;
    const std::string hosts = etcd ? FLAGS_state.substr(scheme.size(), FLAGS_state.find('/', scheme.size()) - scheme.size()) : "";
    const absl::Status addresses = etcd ? SplitAddresses(hosts).status() : absl::InvalidArgumentError("it is no etcd");
    if (!addresses.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--state=", FLAGS_state, ": ", std::string(addresses.message()),
                                                     "; write etcd://HOST:PORT[,...][/PREFIX], or leave it out"));
    }
  }
  options->schedulers = FLAGS_schedulers > 0 ? FLAGS_schedulers : FLAGS_state.empty() ? 1 : kSchedulers;
  if (options->schedulers > 1 && FLAGS_state.empty()) return absl::InvalidArgumentError("--schedulers above 1 go with --state=etcd://...");
  if (!FLAGS_state.empty() && std::any_of(options->faults.begin(), options->faults.end(), CutsLinks)) {
    return absl::InvalidArgumentError("--state=etcd://... goes with faults that cut no links: namespaces do not reach it");
  }
  return absl::OkStatus();
}

int RunChaosCommand(const Arguments& arguments) {
  if (!arguments.positional.empty()) {
    std::cerr << "usage: tidegate chaos [--config=FILE] [--servers=N] [--replicas=R] [--minutes=M] [--faults=LIST]\n";
    return kUsage;
  }
  ChaosOptions options;
  const auto usage = [](const std::string& what) {
    std::cerr << "tidegate chaos: " << what << "\n";
    return kUsage;
  };
  auto faults = ParseFaults(FLAGS_faults, !FLAGS_config.empty());
  if (!faults.ok()) return usage("--faults: " + std::string(faults.status().message()));
  options.faults = *std::move(faults);
  if (absl::Status s = SetCluster(arguments, &options); !s.ok()) return usage(std::string(s.message()));
  if (absl::Status s = SetSchedulers(&options); !s.ok()) return usage(std::string(s.message()));
  options.lease_ms = FLAGS_lease_ms;
  options.heartbeat_interval_ms = FLAGS_heartbeat_interval_ms;
  options.minutes = FLAGS_minutes;
  options.count = FLAGS_fault_count;
  options.seed = FLAGS_seed;
  if (!(options.minutes > 0 && options.minutes <= 100'000)) return usage(absl::StrCat("--minutes=", options.minutes, " must be above 0, and at most 100000"));
  if (options.replicas > options.servers) {
    return usage(absl::StrCat("--replicas=", options.replicas, " needs as many servers: --servers=", options.servers));
  }
  if (options.heartbeat_interval_ms * 4 > options.lease_ms) {
    return usage(absl::StrCat("--lease_ms=", options.lease_ms, " must be at least four times --heartbeat_interval_ms=", options.heartbeat_interval_ms));
  }
  if (std::any_of(options.faults.begin(), options.faults.end(), HitsServer) && options.replicas < 2) {
    return usage("faults of servers need --replicas=2 or more: with one copy a server's death loses its shards");
  }
  options.bin_dir = FLAGS_bin_dir.empty() ? OwnFolder() : FLAGS_bin_dir;
  options.run_dir = std::filesystem::absolute(FLAGS_run_dir.empty() ? absl::StrCat("tidegate-run/chaos-", std::time(nullptr), "-", getpid()) : FLAGS_run_dir)
                        .lexically_normal()
                        .string();
  std::error_code error;
  if (std::filesystem::exists(options.run_dir + "/state", error)) {
    return usage(absl::StrCat("--run_dir=", options.run_dir, " holds an earlier run: name another folder"));
  }
  std::filesystem::create_directories(options.run_dir, error);
  if (error) return usage(absl::StrCat("--run_dir: cannot make ", options.run_dir, ": ", error.message()));
  const auto lock = RealFileSystem().LockDirectory(options.run_dir);
  if (!lock.ok()) return usage("--run_dir: " + std::string(lock.status().message()));
  std::unique_ptr<FaultNetwork> network;
  if (std::any_of(options.faults.begin(), options.faults.end(), CutsLinks)) {
    auto made = FaultNetwork::Create();
    if (!made.ok()) return usage("--faults=" + FLAGS_faults + ": " + std::string(made.status().message()));
    network = *std::move(made);
    options.network = network.get();
  }
  CatchStopSignals();
  options.signals = [] { return StopSignals(); };
  options.say = [](const std::string& line) { std::cerr << line << std::endl; };
  ChaosResult result;
  const absl::Status status = RunChaos(options, &result);
  if (FLAGS_json) {
    std::cout << Json(result, status) << "\n";
  } else {
    std::cout << VerdictLine(result, status) << "\n";
  }
  if (StopSignals() > 0) return 128 + LastStopSignal();
  return status.ok() ? kOk : kFailed;
}

}  // namespace

Command ChaosCommand() {
  return {"chaos",
          "",
          "break a cluster on this machine again and again, and audit every update",
          {Ranged({"servers", "N", "server processes (default: 3, or the config's)"}, 1, 64),
           Ranged({"workers", "M", "accounting workers, or worker processes (default: 2, or the config's)"}, 1, 64),
           Ranged({"replicas", "R", "copies of each shard (default: 2, or the config's)"}, 1, 16),
           {"durability", "SYNC|ASYNC", "of acknowledged pushes (default: SYNC, or the config's); ASYNC: a server's death may lose the newest, which are counted"},
           Ranged({"shards", "N", "a power of two; an accounting worker has one push to each under way (default: 32, or the config's)"}, 1, 64),
           {"minutes", "M", "for how long"},
           Ranged({"fault_count", "N", "so many faults, however long it takes (default: by --minutes)"}, 1, 1'000'000),
           {"faults", "LIST", "which, by comma: kill-server, pause-server, kill-scheduler, pause-scheduler, no-scheduler,\n"
            "                              restart-server, with --config kill-worker, all (of these); as root also cut-pair, cut-one-way, isolate-server,\n"
            "                              isolate-scheduler, network (all four)"},
           Ranged({"lease_ms", "MS", "how long a silent member counts as alive"}, 100, 600'000),
           Ranged({"heartbeat_interval_ms", "MS", "how often members report"}, 10, 60'000),
           {"seed", "N", "of amounts, faults and targets"},
           {"config", "FILE", "a job of your own instead of the accounts: it must finish"},
           {"set", "path=value", "override a field of the config", true},
           {"state", "URL", "etcd://HOST:PORT[,...][/PREFIX]: schedulers with standbys; a prefix that holds no job yet (default: a folder, no standby)"},
           Ranged({"schedulers", "N", "one leads, the others stand by (default: 2 with --state)"}, 1, 8),
           {"run_dir", "DIR", "state and logs (default: tidegate-run/chaos-TIME-PID)"},
           {"bin_dir", "DIR", "folder of the other binaries (default: this one's)"},
           {"json", "", "the result as one JSON object"}},
          RunChaosCommand};
}

}  // namespace tidegate::cli
