#include "cli/local_run.h"

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/job_report.h"
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

// What the run is of: the resolved config and who runs it.
absl::Status WriteRunFolder(const LocalRunOptions& options, const LocalRun& run) {
  FileSystem& files = RealFileSystem();
  if (absl::Status s = files.CreateDirectories(options.run_dir); !s.ok()) return s;
  if (absl::Status s = files.WriteAtomically(options.run_dir + "/config.textproto", JobConfigText(run.config)); !s.ok()) return s;
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

}  // namespace

absl::StatusOr<LocalRun> RunLocalJob(const LocalRunOptions& options) {
  LocalRun run;
  std::vector<std::string> sets = options.sets;
  if (options.servers > 0) sets.push_back(absl::StrCat("cluster.servers=", options.servers));
  if (options.workers > 0) sets.push_back(absl::StrCat("cluster.workers=", options.workers));
  auto config = LoadJobConfig(options.config, sets);
  if (!config.ok()) return config.status();
  run.config = *std::move(config);
  if (auto model = Model::Create(run.config); !model.ok()) return model.status();
  run.servers = static_cast<int>(run.config.cluster().servers());
  run.workers = static_cast<int>(run.config.cluster().workers());
  run.run_dir = options.run_dir;

  LocalClusterOptions cluster_options;
  cluster_options.bin_dir = options.bin_dir.empty() ? OwnFolder() : options.bin_dir;
  cluster_options.run_dir = options.run_dir;
  cluster_options.config = options.config;
  cluster_options.sets = options.sets;
  cluster_options.servers = run.servers;
  cluster_options.workers = run.workers;
  cluster_options.checkpoint_dir = options.checkpoint_dir;
  cluster_options.fresh = options.fresh;
  cluster_options.metrics_port = options.metrics_port;
  cluster_options.http_port = options.http_port;
  cluster_options.profile_steps = options.profile_steps;
  cluster_options.scheduler_args = options.scheduler_args;
  cluster_options.server_args = options.server_args;
  cluster_options.worker_args = options.worker_args;
  cluster_options.show_progress = options.show_progress;
  const auto& files = run.config.data().train().files();
  cluster_options.worker_stdin = std::find(files.begin(), files.end(), "-") != files.end();
  Terminal terminal(options.verbosity, options.run_dir + "/logs", options.is_terminal);

  if (absl::Status s = WriteRunFolder(options, run); !s.ok()) return s;
  LocalCluster cluster(std::move(cluster_options), &terminal);
  if (absl::Status s = cluster.Start(); !s.ok()) return s;
  int signals_seen = 0;
  const TimeMs start = RealClock().NowMs();
  bool late = false;
  while (cluster.Step(kStepMs)) {
    if (!late && options.time_limit_s > 0 && RealClock().NowMs() - start > options.time_limit_s * TimeMs{1000}) {
      late = true;
      cluster.Stop(absl::StrCat("not finished after ", options.time_limit_s, " s"));
    }
    const int signals = options.signals ? options.signals() : 0;
    while (signals_seen < signals) {
      ++signals_seen;
      cluster.Stop("tidegate local got a signal");
    }
  }
  run.exit_status = cluster.Finish();
  if (options.profile_steps > 0) {
    if (absl::Status s = MergeTraces(cluster.trace_files(), options.run_dir + "/trace.json"); !s.ok()) {
      terminal.Say(absl::StrCat("tidegate: --profile: ", std::string(s.message())));
    } else {
      run.trace = options.run_dir + "/trace.json";
    }
  }
  run.summary = ReadFile(cluster.summary_path());
  run.endings = cluster.endings();
  run.scheduler_restarts = cluster.scheduler_restarts();
  if (run.exit_status == 0) run.attainable = AttainableOf(run.config);
  return run;
}

}  // namespace tidegate::cli
