// `tidegate local`: a job on this machine, as real processes.

#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/job_report.h"
#include "cli/json.h"
#include "cli/local_cluster.h"
#include "cli/local_run.h"
#include "cli/process.h"
#include "cli/stop_signals.h"
#include "common/file_system.h"
#include "common/job_config/job_config.h"
#include "worker/model/model.h"

DEFINE_string(staleness, "", "");
DEFINE_string(checkpoint_dir, "", "");
DEFINE_bool(fresh, false, "");
DEFINE_string(summary, "", "");
DEFINE_int32(metrics_port, -1, "");
DEFINE_int32(http_port, 0, "");
DEFINE_uint64(limit_steps, 0, "");
DEFINE_bool(overfit_one_batch, false, "");
DEFINE_int32(profile, 0, "");

namespace tidegate::cli {
namespace {

std::string Absolute(const std::string& path) {
  return path.empty() ? "" : std::filesystem::absolute(path).lexically_normal().string();
}

// Relative where that is shorter.
std::string Nearby(const std::string& path) {
  const std::string near = std::filesystem::proximate(path).string();
  return near.size() < path.size() ? near : path;
}

std::string NewRunDir() {
  const std::time_t now = std::time(nullptr);
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", std::localtime(&now));
  return absl::StrCat("tidegate-run/", stamp, "-", getpid());
}

Verbosity VerbosityByFlags() {
  if (FLAGS_verbose) return Verbosity::kVerbose;
  return FLAGS_quiet ? Verbosity::kQuiet : Verbosity::kNormal;
}

// The scheduler's summary and what only we know of the run.
std::string FullSummary(const LocalRun& run) {
  if (run.already_ended) return run.summary;
  std::string json = run.summary;
  std::vector<std::string> endings;
  for (const std::string& ending : run.endings) endings.push_back(JsonQuoted(ending));
  const std::string local = JsonObject()
                                .Integer("servers", run.servers)
                                .Integer("workers", run.workers)
                                .Integer("exit_status", run.exit_status)
                                .Integer("scheduler_restarts", run.scheduler_restarts)
                                .Raw("endings", JsonArray(endings))
                                .Text("run_dir", run.run_dir)
                                .Build();
  auto with_local = WithField(json, "local", local);
  if (with_local.ok()) json = *with_local;
  if (!run.attainable) return json;
  auto with_best = WithField(json, "best_attainable",
                             JsonObject()
                                 .Number("auc", run.attainable->auc)
                                 .Number("logloss", run.attainable->logloss)
                                 .Integer("rows", static_cast<int64_t>(run.attainable->rows))
                                 .Build());
  return with_best.ok() ? *with_best : json;
}

std::string NextLine(const LocalRun& run, const std::string& checkpoint) {
  NextPaths paths;
  paths.program = Nearby(OwnFolder() + "/tidegate");
  paths.checkpoint = checkpoint.empty() ? "" : Nearby(checkpoint);
  paths.run_dir = Nearby(run.run_dir);
  if (run.config.data().valid().files_size() == 1) paths.data = Nearby(run.config.data().valid().files(0));
  const std::string command = NextCommand(run.config, paths);
  return command.empty() ? "" : absl::StrCat("next              ", command, "\n");
}

// To the run folder and to --summary. A run that did not begin leaves the results of an earlier one in its folder.
absl::Status WriteSummaries(const LocalRun& run, const std::string& full) {
  FileSystem& files = RealFileSystem();
  const std::string own = run.run_dir + "/summary.json";
  const std::string named = Absolute(FLAGS_summary);
  const bool keeps = !run.locked || run.already_ended || (!run.accepted && files.Size(own).ok());
  absl::Status status;
  if (!keeps) {
    status = files.WriteAtomically(own, full);
    if (!status.ok()) status = absl::Status(status.code(), absl::StrCat("cannot write the summary: ", std::string(status.message())));
  }
  if (named.empty() || named == own) return status;
  const absl::Status written = files.WriteAtomically(named, full);
  if (written.ok()) return status;
  return absl::Status(written.code(), absl::StrCat("cannot write --summary: ", std::string(written.message())));
}

int StatusOfSignal(int otherwise) { return StopSignals() > 0 ? 128 + LastStopSignal() : otherwise; }

int Report(const LocalRun& run) {
  const std::string full = FullSummary(run);
  const absl::Status written = WriteSummaries(run, full);
  if (!written.ok()) std::cerr << "tidegate local: " << written.message() << "\n";
  auto summary = ParseJson(full);
  if (summary.ok() && run.exit_status == 0) {
    std::cout << "\n" << JobTable(*summary, run.attainable) << LossWarning(run.config, *summary) << EpochsNote(run.config, *summary);
    std::cout << "run folder        " << Nearby(run.run_dir) << (run.trace.empty() ? "" : ", with trace.json") << "\n";
    std::cout << NextLine(run, TextField(*summary, "checkpoint"));
    return written.ok() ? kOk : kFailed;
  }
  const std::string message = summary.ok() ? TextField(*summary, "message") : "";
  std::cerr << "tidegate local: the job did not finish" << (message.empty() ? "" : ": ") << message << " (logs: " << run.run_dir
            << "/logs)\n";
  return StatusOfSignal(run.exit_status);
}

int ReportNoStart(const LocalRun& run, const absl::Status& why, int otherwise) {
  std::cerr << "tidegate local: " << why.message() << "\n";
  const absl::Status written = WriteSummaries(run, run.summary);
  if (!written.ok()) std::cerr << "tidegate local: " << written.message() << "\n";
  return StatusOfSignal(otherwise);
}

// What is written at the end is refused at the start.
absl::Status CheckWritable(const LocalRunOptions& options) {
  FileSystem& files = RealFileSystem();
  auto named = [](const char* flag, const absl::Status& s) {
    return s.ok() ? s : absl::Status(s.code(), absl::StrCat("--", flag, ": ", std::string(s.message())));
  };
  absl::Status status = named("run_dir", files.CheckWritableFolder(options.run_dir));
  if (status.ok() && !options.checkpoint_dir.empty()) {
    status = named("checkpoint_dir", files.CheckWritableFolder(options.checkpoint_dir));
  }
  if (FLAGS_summary.empty()) return status;
  const std::string summary = Absolute(FLAGS_summary);
  const absl::Status writable = named("summary", files.CheckWritableFile(summary));
  if (!writable.ok() || summary == options.run_dir + "/summary.json") return status.ok() ? writable : status;
  // Whatever ends this process, that file does not tell of an earlier run.
  const std::string text = status.ok() ? ShortSummary("", "running", "") : ShortSummary("", "failed", std::string(status.message()));
  const absl::Status written = named("summary", files.WriteAtomically(summary, text));
  return status.ok() ? written : status;
}

int RunLocal(const Arguments& arguments) {
  const std::vector<std::string> files = ConfigFiles(arguments);
  if (files.size() != 1) {
    std::cerr << "usage: tidegate local FILE [or --config=FILE] [--servers=N] [--workers=M] [--staleness=S] [--set path=value ...]\n";
    return kUsage;
  }
  LocalRunOptions options;
  options.config = files[0];
  options.sets = arguments.Repeated("set");
  if (const auto s = ParseStaleness(FLAGS_staleness); !FLAGS_staleness.empty() && !s.ok()) {
    std::cerr << "tidegate local: --staleness=" << FLAGS_staleness << ": " << s.status().message() << "\n";
    return kUsage;
  }
  if (!FLAGS_staleness.empty()) options.sets.push_back("train.staleness=\"" + FLAGS_staleness + "\"");
  if (FLAGS_limit_steps > 0) options.sets.push_back(absl::StrCat("train.limit_steps=", FLAGS_limit_steps));
  if (FLAGS_overfit_one_batch) options.sets.push_back("train.overfit_one_batch=true");
  options.servers = FLAGS_servers;
  options.workers = FLAGS_workers;
  options.bin_dir = FLAGS_bin_dir;
  options.run_dir = Absolute(FLAGS_run_dir.empty() ? NewRunDir() : FLAGS_run_dir);
  options.checkpoint_dir = Absolute(FLAGS_checkpoint_dir);
  options.fresh = FLAGS_fresh;
  options.metrics_port = FLAGS_metrics_port;
  options.http_port = FLAGS_http_port;
  options.profile_steps = FLAGS_profile;
  options.scheduler_args = arguments.Repeated("scheduler_arg");
  options.server_args = arguments.Repeated("server_arg");
  options.worker_args = arguments.Repeated("worker_arg");
  options.verbosity = VerbosityByFlags();
  options.is_terminal = isatty(STDERR_FILENO) != 0;
  CatchStopSignals();
  options.signals = [] { return StopSignals(); };
  if (absl::Status s = CheckWritable(options); !s.ok()) {
    std::cerr << "tidegate local: " << s.message() << "\n";
    return kUsage;
  }
  LocalRun run;
  const absl::Status status = RunLocalJob(options, &run);
  return status.ok() ? Report(run) : ReportNoStart(run, status, kFailed);
}

}  // namespace

Command LocalCommand() {
  return {"local",
          "FILE",
          "run a job on this machine: a scheduler, servers and workers as processes",
          {{"config", "FILE", "the same as FILE"},
           Ranged({"servers", "N", "server processes (default: the config's)"}, 1, 64),
           Ranged({"workers", "M", "worker processes (default: the config's)"}, 1, 64),
           {"staleness", "S", "0 (synchronous), N or inf (default: the config's)"},
           {"set", "path=value", "override a field of the config", true},
           Ranged({"limit_steps", "N", "end the job when a worker has made N steps (default: no such end)"}, 1, int64_t{1} << 60),
           {"overfit_one_batch", "", "every worker trains on its first batch again and again: its loss must go to 0"},
           Ranged({"profile", "N", "write a Chrome trace of the first N steps of all processes to <run_dir>/trace.json (default: none)"}, 1, 100000),
           {"checkpoint_dir", "DIR", "write checkpoints there; a job that is there already resumes from its newest"},
           {"fresh", "", "start anew, whatever --checkpoint_dir holds"},
           {"summary", "FILE", "write a JSON summary at the end"},
           {"run_dir", "DIR", "config, versions, summary, state, logs (default: a new folder under tidegate-run/)"},
           Ranged({"http_port", "PORT", "status page of the scheduler, 0: any free one (logged), -1: off"}, -1, 65535),
           Ranged({"metrics_port", "PORT", "Prometheus: first of consecutive ports, 0: any free ones, -1: off"}, -1, 65535 - 129),
           {"bin_dir", "DIR", "where the other binaries are (default: beside this one)"},
           {"quiet", "", "of the processes' lines only warnings and errors (also -q)"},
           {"verbose", "", "log lines as the processes write them (also -v)"},
           {"scheduler_arg", "FLAG", "pass on to the scheduler", true},
           {"server_arg", "FLAG", "pass on to every server", true},
           {"worker_arg", "FLAG", "pass on to every worker", true}},
          RunLocal};
}

}  // namespace tidegate::cli
