#include "cli/local_run.h"

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cli/job_report.h"
#include "cli/json.h"
#include "cli/local_cluster.h"
#include "cli/trace_file.h"
#include "common/clock.h"
#include "common/file_system.h"
#include "common/job_config/job_config.h"
#include "common/json.h"
#include "common/version.h"
#include "worker/model/model.h"

namespace tidegate::cli {
namespace {

constexpr int kStepMs = 500;

std::string ReadFile(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// What the run is of: the resolved config and who runs it. A run that goes on keeps what its first start wrote.
absl::Status WriteRunFolder(const LocalRunOptions& options, const LocalRun& run) {
  FileSystem& files = RealFileSystem();
  const std::string path = options.run_dir + "/config.textproto";
  const std::string config = JobConfigText(run.config);
  if (ReadFile(path) == config) return absl::OkStatus();
  if (absl::Status s = files.WriteAtomically(path, config); !s.ok()) return s;
  char started[32];
  const std::time_t now = std::time(nullptr);
  std::strftime(started, sizeof started, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  std::vector<std::string> sets;
  for (const std::string& set : options.sets) sets.push_back(JsonQuoted(set));
  const std::string versions = JsonObject()
                                   .Text("version", kVersion)
                                   .Text("compiler", "g++ " + std::to_string(__GNUC__) + "." + std::to_string(__GNUC_MINOR__))
                                   .Text("started", started)
                                   .Text("config", options.config)
                                   .Raw("set", JsonArray(sets))
                                   .Integer("servers", run.servers)
                                   .Integer("workers", run.workers)
                                   .BuildLines();
  return files.WriteAtomically(options.run_dir + "/versions.json", versions);
}

// Whether the scheduler has a job that lost shards stand still: `tidegate restore` wants servers, then.
bool WaitsForRestore(const std::vector<std::string>& scheduler_args) {
  return std::any_of(scheduler_args.begin(), scheduler_args.end(), [](const std::string& a) { return absl::StrContains(a, "-restore_wait_s="); });
}

LocalClusterOptions ClusterOptions(const LocalRunOptions& options, const LocalRun& run) {
  LocalClusterOptions cluster;
  cluster.bin_dir = options.bin_dir.empty() ? OwnFolder() : options.bin_dir;
  cluster.run_dir = options.run_dir;
  cluster.config = options.config;
  cluster.sets = options.sets;
  cluster.servers = run.servers;
  cluster.workers = run.workers;
  cluster.checkpoint_dir = options.checkpoint_dir;
  cluster.fresh = options.fresh;
  const ClusterConfig& config = run.config.cluster();
  cluster.restart_servers = config.replicas() > 1 || config.on_data_loss() == ClusterConfig::RESTORE || WaitsForRestore(options.scheduler_args);
  cluster.metrics_port = options.metrics_port;
  cluster.http_port = options.http_port;
  cluster.profile_steps = options.profile_steps;
  cluster.scheduler_args = options.scheduler_args;
  cluster.server_args = options.server_args;
  cluster.worker_args = options.worker_args;
  cluster.show_progress = options.show_progress;
  cluster.say_watch = options.show_progress && options.verbosity == Verbosity::kQuiet;
  cluster.signals = options.signals;
  const auto& files = run.config.data().train().files();
  cluster.worker_stdin = std::find(files.begin(), files.end(), "-") != files.end();
  return cluster;
}

absl::Status Resolve(const LocalRunOptions& options, LocalRun* run) {
  std::vector<std::string> sets = options.sets;
  if (options.servers > 0) sets.push_back(absl::StrCat("cluster.servers=", options.servers));
  if (options.workers > 0) sets.push_back(absl::StrCat("cluster.workers=", options.workers));
  auto config = LoadJobConfig(options.config, sets);
  if (!config.ok()) return config.status();
  run->config = *std::move(config);
  if (auto model = Model::Create(run->config); !model.ok()) return model.status();
  run->servers = static_cast<int>(run->config.cluster().servers());
  run->workers = static_cast<int>(run->config.cluster().workers());
  return absl::OkStatus();
}

void Watch(const LocalRunOptions& options, LocalCluster* cluster) {
  int signals_seen = 0;
  const TimeMs start = RealClock().NowMs();
  bool late = false;
  while (cluster->Step(kStepMs)) {
    if (!late && options.time_limit_s > 0 && RealClock().NowMs() - start > options.time_limit_s * TimeMs{1000}) {
      late = true;
      cluster->Stop(absl::StrCat("not finished after ", options.time_limit_s, " s"));
    }
    const int signals = options.signals ? options.signals() : 0;
    while (signals_seen < signals) {
      ++signals_seen;
      cluster->Stop("tidegate local got a signal");
    }
  }
}

// Of the summary: an exit status of 0 and the outcome "finished" come together.
void Conclude(const LocalRunOptions& options, const LocalCluster& cluster, LocalRun* run) {
  run->summary = ReadFile(cluster.summary_path());
  std::error_code error;
  std::filesystem::remove(cluster.summary_path(), error);
  const std::string earlier = run->already_ended ? ReadFile(options.run_dir + "/summary.json") : "";
  auto summary = ParseJson(earlier);
  if (summary.ok() && !TextField(*summary, "outcome").empty()) {
    run->summary = earlier;
  } else {
    run->already_ended = false;
    summary = ParseJson(run->summary);
  }
  if (!summary.ok()) {
    const bool stopped = options.signals && options.signals() > 0;
    const std::string why =
        cluster.reason().empty() ? absl::StrCat("the scheduler ended with exit status ", run->exit_status, " and left no summary") : cluster.reason();
    run->summary = ShortSummary(run->config.name(), stopped ? "stopped" : "failed", why);
    if (run->exit_status == 0) run->exit_status = 1;
    return;
  }
  const bool finished = TextField(*summary, "outcome") == "finished";
  run->exit_status = finished ? 0 : std::max(1, run->exit_status);
}

absl::Status Run(const LocalRunOptions& options, LocalRun* run) {
  if (absl::Status s = Resolve(options, run); !s.ok()) return s;
  auto lock = RealFileSystem().LockDirectory(options.run_dir);
  if (!lock.ok()) return absl::Status(lock.status().code(), absl::StrCat("--run_dir: ", std::string(lock.status().message())));
  run->locked = true;
  Terminal terminal(options.verbosity, options.run_dir + "/logs", options.is_terminal);
  LocalCluster cluster(ClusterOptions(options, *run), &terminal);
  const absl::Status started = cluster.Start();
  run->accepted = cluster.accepted();
  run->already_ended = cluster.already_ended();
  if (!started.ok()) return started;
  if (absl::Status s = WriteRunFolder(options, *run); !s.ok()) return s;
  Watch(options, &cluster);
  run->exit_status = cluster.Finish();
  if (options.profile_steps > 0 && !run->already_ended) {
    if (absl::Status s = MergeTraces(cluster.trace_files(), options.run_dir + "/trace.json"); !s.ok()) {
      terminal.Say(absl::StrCat("tidegate: --profile: ", std::string(s.message())));
    } else {
      run->trace = options.run_dir + "/trace.json";
    }
  }
  run->endings = cluster.endings();
  run->scheduler_restarts = cluster.scheduler_restarts();
  Conclude(options, cluster, run);
  if (run->exit_status == 0) run->attainable = AttainableOf(run->config);
  return absl::OkStatus();
}

}  // namespace

std::string ShortSummary(const std::string& job, const std::string& outcome, const std::string& message) {
  return JsonObject().Text("job", job).Text("outcome", outcome).Text("message", message).BuildLines();
}

absl::Status RunLocalJob(const LocalRunOptions& options, LocalRun* run) {
  run->run_dir = options.run_dir;
  const absl::Status status = Run(options, run);
  if (!status.ok()) {
    run->summary = ShortSummary(run->config.name(), status.code() == absl::StatusCode::kCancelled ? "stopped" : "failed",
                                std::string(status.message()));
  }
  return status;
}

}  // namespace tidegate::cli
