#include "scheduler/rpc/scheduler_process.h"

#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <system_error>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/checkpoint/manifest.h"
#include "common/clock.h"
#include "common/exit_codes.h"
#include "common/export/export_reader.h"
#include "common/export/warm_start.h"
#include "common/job_config/binary.h"
#include "common/job_config/job_config.h"
#include "common/job_config/same_job.h"
#include "common/logging.h"
#include "common/metrics/metrics.h"
#include "common/rpc/channel.h"
#include "common/version.h"
#include "scheduler/data_plan.h"
#include "scheduler/rpc/checkpoint_folder.h"
#include "scheduler/rpc/scheduler_loop.h"
#include "scheduler/rpc/scheduler_service.h"
#include "scheduler/rpc/status_page.h"
#include "scheduler/store/metrics_log.h"
#include "scheduler/store/state_store.h"
#include "scheduler/summary.h"

namespace tidegate {
namespace {

constexpr uint64_t kConfigBytesMax = 16 << 20;
constexpr TimeMs kPollMs = 20;

absl::StatusOr<JobConfig> LoadConfig(FileSystem* files, const std::string& path,
                                     const std::vector<std::string>& overrides) {
  if (!absl::EndsWith(path, ".pb") && !absl::EndsWith(path, ".binpb")) {
    return LoadJobConfig(path, overrides);
  }
  const auto named = [&](const absl::Status& s) {
    return absl::Status(s.code(), absl::StrCat("--config=", path, ": ", std::string(s.message())));
  };
  const auto bytes = files->Read(path, kConfigBytesMax);
  if (!bytes.ok()) return named(bytes.status());
  auto job = ParseBinaryJobConfig(*bytes);
  if (!job.ok()) return named(job.status());
  for (const std::string& text : overrides) {
    if (const absl::Status applied = ApplyOverride(text, &*job); !applied.ok()) return applied;
  }
  if (const absl::Status resolved = ResolveJobConfig(&*job); !resolved.ok()) return named(resolved);
  return job;
}

absl::StatusOr<std::string> StateFolder(const std::string& flag) {
  std::error_code error;
  if (!flag.empty()) {
    const auto path = std::filesystem::absolute(flag, error);
    if (error) return absl::InvalidArgumentError(absl::StrCat("--state=", flag, ": ", error.message()));
    return path.string();
  }
  const std::filesystem::path base = std::filesystem::absolute("tidegate-run", error);
  std::filesystem::create_directories(base, error);
  std::string pattern = (base / "scheduler-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot make a folder for the state in ", base.string(),
                     ": name one with --state"));
  }
  return pattern;
}

void WriteMetrics(SchedulerLoop* loop, MetricsPage* page) {
  const GetStatusResponse status = loop->Status();
  const SchedulerState state = loop->Durable();
  size_t servers = 0, workers = 0;
  for (const MemberStatus& member : status.members()) {
    if (!member.alive()) continue;
    ++(member.member().role() == SERVER ? servers : workers);
  }
  const auto number = [](auto value) { return static_cast<double>(value); };
  page->Gauge("tidegate_members", "Members that are alive.", number(servers), {{"role", "server"}});
  page->Gauge("tidegate_members", "Members that are alive.", number(workers), {{"role", "worker"}});
  page->Gauge("tidegate_job_phase",
              "0 starting, 1 training, 2 evaluating, 3 saving, 4 adjusting, 5 finished, 6 failed.",
              number(status.phase()));
  page->Gauge("tidegate_epoch", "The epoch that runs, from 1.", status.epoch());
  page->Gauge("tidegate_epoch_progress_ratio", "Done share of the epoch; -1: not known.",
              status.progress());
  page->Gauge("tidegate_leases", "Training work that is leased to workers.",
              number(state.current().leases_size()));
  page->Gauge("tidegate_splits_done", "Splits (staleness 0: steps) done in this epoch.",
              number(status.splits_done()));
  page->Gauge("tidegate_learning_rate_scale", "Factor of train.plateau on every configured learning rate.",
              state.lr_scale());
  page->Gauge("tidegate_learning_rate_factor", "Factor of train.schedule and train.plateau together.",
              status.learning_rate_factor());
  for (const MetricValue& metric : status.progressive()) {
    page->Gauge("tidegate_progressive", "Metrics of the newest window of the training stream.", metric.value(),
                {{"metric", metric.name()}});
  }
  page->Gauge("tidegate_scheduler_term", "Starts of the scheduler in this job.", number(status.term()));
  page->Gauge("tidegate_checkpoint_number", "Of the newest complete checkpoint; 0: none.",
              number(status.checkpoints().complete_number()));
  page->Gauge("tidegate_checkpoint_saving", "1 while a checkpoint is being made.",
              status.checkpoints().saving() ? 1 : 0);
  page->Counter("tidegate_checkpoint_failures_total",
                "Checkpoints that could not be made (a full disk ...); the job went on.",
                number(status.checkpoints().failures()));
  page->Counter("tidegate_samples_total", "Training samples of finished and running work.",
                number(status.samples_total()));
  page->Counter("tidegate_events_total", "Things that happened: joins, deaths, epochs.",
                number(state.events_total()));
}

double WallTime() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Writes what it is given; the job does not end where that fails. Called under the loop's lock.
struct MetricsWriter {
  std::unique_ptr<MetricsLog> log;
  std::atomic<uint64_t> failures{0};

  void Write(const MetricsRecord& record) {
    const absl::Status status = log->Write(WallTime(), record);
    if (status.ok()) return;
    if (failures++ == 0) TG_LOG(WARNING) << "metrics are left out: " << status.message();
  }
};

// Of a job that starts now: no other at this address has had it.
uint64_t NewGeneration() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

int64_t UnixMs() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

// A job that had ended before this process started: members that have not heard of it still can.
void TellOfEnd(const SchedulerState& state, const std::string& folder) {
  TG_LOG(WARNING) << "job \"" << state.job() << "\" of --state=" << folder
                  << (state.phase() == FINISHED ? " finished" : " failed") << " at "
                  << absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", absl::FromUnixMillis(state.ended_unix_ms()),
                                      absl::UTCTimeZone())
                  << " in epoch " << state.epoch()
                  << (state.message().empty() ? "" : ": ") << state.message()
                  << "; nothing is left to run. A new job wants an empty --state";
}

struct Job {
  std::string state_folder;
  SchedulerOptions options;
  std::unique_ptr<DirectoryStore> store;
  std::unique_ptr<FileLock> checkpoint_lock;
  std::unique_ptr<ClusterState> core;
};

// Two jobs would write over each other's shards, and both would say that they are done.
absl::StatusOr<std::unique_ptr<FileLock>> LockCheckpoints(FileSystem* files, const std::string& folder,
                                                          const std::string& state_folder) {
  absl::Status status = files->CreateDirectories(folder);
  std::error_code error;
  if (status.ok() && std::filesystem::equivalent(folder, state_folder, error)) {
    return std::unique_ptr<FileLock>();  // locked as the state
  }
  if (status.ok()) {
    auto lock = files->LockDirectory(folder);
    if (lock.ok()) return lock;
    status = lock.status();
  }
  return absl::Status(status.code(), absl::StrCat("--checkpoint_dir: ", status.message()));
}

// What the checkpoints' folder says of a job that has no state yet; half-written ones leave.
absl::StatusOr<SchedulerState> StateFromCheckpoints(FileSystem* files, const SchedulerOptions& core,
                                                    SchedulerState stored, bool fresh) {
  auto found = FindCheckpoints(*files, core.checkpoint_directory);
  if (!found.ok() && (stored.format() != 0 || fresh)) {
    TG_LOG(WARNING) << found.status().message();
    return stored;
  }
  if (!found.ok()) return found.status();
  const std::string in_progress = JoinPath(core.checkpoint_directory, stored.saving().name());
  for (const std::string& folder : found->half_written) {
    if (stored.has_saving() && folder == in_progress) continue;
    TG_LOG(INFO) << "removes " << folder << ": a checkpoint that was not completed";
    RemoveCheckpoint(*files, folder);
  }
  if (stored.format() != 0 || found->complete.empty()) return stored;
  if (!fresh) return ResumeFrom(found->complete, core);
  TG_LOG(WARNING) << "--fresh: starts anew beside " << found->complete.size() << " checkpoints of an earlier run in "
                  << core.checkpoint_directory;
  stored.set_last_checkpoint(found->complete.back().manifest.number());
  return stored;
}

// What can be said of train.init_from before any server reads the tensors.
absl::Status CheckWarmStarts(FileSystem* files, const JobConfig& job) {
  for (const InitFrom& init : job.train().init_from()) {
    auto spec = ReadExportSpec(*files, init.export_());
    if (!spec.ok()) return absl::Status(spec.status().code(), absl::StrCat("train.init_from: ", spec.status().message()));
    if (absl::Status s = CheckWarmKeys(init, job, *spec); !s.ok()) return s;
  }
  return absl::OkStatus();
}

// A state that was begun has its job's config beside it, to say in what another differs.
absl::Status SameConfig(FileSystem* files, const JobConfig& now, const SchedulerState& stored, const std::string& folder) {
  const std::string path = JoinPath(folder, "job.textproto");
  if (stored.format() == 0) return files->WriteAtomically(path, JobConfigText(now));
  if (stored.config_fingerprint() == JobConfigFingerprint(now)) return absl::OkStatus();
  const auto text = files->Read(path, kConfigBytesMax);
  if (!text.ok()) return absl::OkStatus();  // ClusterState says that they differ
  const auto before = ParseJobConfig(*text, path);
  if (!before.ok() || JobConfigFingerprint(*before) != stored.config_fingerprint()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("--state=", folder, " belongs to job \"", stored.job(), "\", whose config differs:\n",
                                                    ConfigDifferences(*before, now),
                                                    "start with that job's --config and --set, or an empty --state"));
}

absl::StatusOr<Job> Prepare(const SchedulerProcessOptions& options, FileSystem* files) {
  auto config = LoadConfig(files, options.config, options.overrides);
  if (!config.ok()) return config.status();
  for (const std::string& warning : JobConfigWarnings(*config)) TG_LOG(WARNING) << warning;
  const auto staleness = ParseStaleness(config->train().staleness());
  if (!staleness.ok()) return staleness.status();
  auto plan = PlanData(files, *config);
  if (!plan.ok()) return plan.status();
  auto folder = StateFolder(options.state);
  if (!folder.ok()) return folder.status();

  Job job;
  job.state_folder = *folder;
  SchedulerOptions& core = job.options;
  core.config_fingerprint = JobConfigFingerprint(*config);
  core.job = std::move(plan->job);
  core.synchronous = staleness->sync;
  core.bounded = !staleness->infinite;
  core.train_splits = std::move(plan->train);
  core.valid_splits = std::move(plan->valid);
  std::error_code error;
  core.checkpoint_directory = options.checkpoint_dir.empty()
                                  ? JoinPath(job.state_folder, "checkpoints")
                                  : std::filesystem::absolute(options.checkpoint_dir, error).string();
  core.version = kVersion;
  core.generation = NewGeneration();
  core.started_unix_ms = UnixMs();
  core.heartbeat_interval_ms = options.heartbeat_interval_ms;
  core.lease_ms = options.lease_ms;
  auto store = DirectoryStore::Open(files, job.state_folder);
  if (!store.ok()) return absl::Status(store.status().code(), absl::StrCat("--state: ", store.status().message()));
  job.store = *std::move(store);
  auto lock = LockCheckpoints(files, core.checkpoint_directory, job.state_folder);
  if (!lock.ok()) return lock.status();
  job.checkpoint_lock = *std::move(lock);
  auto stored = job.store->Load();
  if (!stored.ok()) return stored.status();
  if (absl::Status s = SameConfig(files, *config, *stored, job.state_folder); !s.ok()) return s;
  if (options.fresh && stored->format() != 0) {
    return absl::FailedPreconditionError(absl::StrCat("--fresh: --state=", job.state_folder,
                                                      " holds a job that was begun; name an empty folder"));
  }
  auto begun = StateFromCheckpoints(files, core, *std::move(stored), options.fresh);
  if (!begun.ok()) return begun.status();
  if (begun->format() == 0) {
    if (absl::Status s = CheckWarmStarts(files, core.job); !s.ok()) return s;
  }
  auto state = ClusterState::Create(core, *std::move(begun));
  if (!state.ok()) {
    return absl::Status(state.status().code(),
                        absl::StrCat("--state=", job.state_folder, ": ", state.status().message()));
  }
  job.core = *std::move(state);
  return job;
}

// Of what the store holds: what could not be stored is no result.
std::string StoredSummary(const Job& job, const std::string& failure) {
  auto stored = job.store->Load();
  if (!stored.ok()) stored = SchedulerState();
  auto core = ClusterState::Create(job.options, *stored);
  if (!core.ok()) core = ClusterState::Create(job.options, SchedulerState());
  return SummaryJson((*core)->Status(0), (*core)->Durable(), failure);
}

}  // namespace

int SchedulerProcess::Run() {
  const int code = RunJob();
  return signal_ != 0 ? 128 + signal_ : code;
}

// The newest checkpoint is the last of its job: no member need come.
int SchedulerProcess::TellOfFinished(const ClusterState& core) {
  const SchedulerState& state = core.Durable();
  TG_LOG(INFO) << "job \"" << state.job() << "\" is finished already, after epoch " << state.epoch() << "; its checkpoint is "
               << state.checkpoint() << ". Raise train.epochs to train on, or start anew with --fresh";
  if (options_.summary.empty()) return kExitFinished;
  const absl::Status written = files_->WriteAtomically(options_.summary, SummaryJson(core.Status(0), state));
  if (!written.ok()) TG_LOG(ERROR) << "--summary: " << written.message();
  return written.ok() ? kExitFinished : kExitFailed;
}

int SchedulerProcess::RunJob() {
  absl::StatusOr<Job> job = Prepare(options_, files_);
  if (!job.ok()) {
    TG_LOG(ERROR) << job.status().message();
    return kExitUsage;
  }
  if (job->core->Ended()) {
    const SchedulerState& state = job->core->Durable();
    if (state.term() == 0) return TellOfFinished(*job->core);
    TellOfEnd(state, job->state_folder);
  }
  const RealClock clock;
  SchedulerLoop::Hooks hooks;
  hooks.write_manifest = [this](const ManifestOrder& order) -> absl::Status {
    const absl::Status made = files_->CreateDirectories(order.directory);
    if (!made.ok()) return made;
    return WriteManifest(*files_, order.directory, order.manifest);
  };
  hooks.remove_checkpoint = [this](const std::string& folder) { RemoveCheckpoint(*files_, folder); };
  hooks.log = [](const std::string& event) { TG_LOG(INFO) << event; };
  MetricsWriter writer;
  if (!options_.metrics_dir.empty()) {
    auto log = MetricsLog::Open(options_.metrics_dir, WallTime());
    if (!log.ok()) {
      TG_LOG(ERROR) << "--metrics_dir: " << log.status().message();
      return kExitUsage;
    }
    writer.log = *std::move(log);
    hooks.metrics = [&writer](const MetricsRecord& record) { writer.Write(record); };
  }
  SchedulerLoop loop(job->core.get(), job->store.get(), &clock, std::move(hooks),
                     options_.store_patience_ms);
  SchedulerServiceImpl service(&loop);

  ListenOptions listen;
  listen.address = options_.listen;
  listen.advertise = options_.advertise;
  listen.insecure_bind = options_.insecure_bind;
  // Calls that come before the loop runs are UNAVAILABLE, and tried again.
  auto listening = Listen(listen, [&](grpc::ServerBuilder& builder) { builder.RegisterService(&service); });
  if (!listening.ok()) {
    TG_LOG(ERROR) << listening.status().message();
    return kExitUsage;
  }
  MetricsRegistry registry("scheduler");
  registry.AddSource([&](MetricsPage& page) {
    WriteMetrics(&loop, &page);
    page.Counter("tidegate_metrics_log_failures_total", "Records that --metrics_dir had no room for.",
                 static_cast<double>(writer.failures));
  });
  std::unique_ptr<MetricsServer> metrics;
  if (options_.metrics_port >= 0) {
    auto started = MetricsServer::Start(&registry, options_.metrics_host, options_.metrics_port);
    if (!started.ok()) {
      TG_LOG(ERROR) << started.status().message();
      return kExitUsage;
    }
    metrics = *std::move(started);
  }
  StatusPage page(&loop, &clock);
  std::unique_ptr<HttpServer> http;
  if (options_.http_port >= 0) {
    auto started = HttpServer::Start("--http_port", options_.http_host, options_.http_port, page.Pages());
    if (!started.ok()) {
      TG_LOG(ERROR) << started.status().message();
      return kExitUsage;
    }
    http = *std::move(started);
  }
  absl::Status status = loop.Start();
  if (status.ok() && !options_.address_file.empty()) {
    status = files_->WriteAtomically(options_.address_file, listening->address + "\n");
    if (!status.ok()) status = absl::Status(status.code(), absl::StrCat("--address_file: ", std::string(status.message())));
  }
  if (!status.ok()) {
    TG_LOG(ERROR) << status.message();
    loop.Stop();
    return kExitFailed;
  }
  TG_LOG(INFO) << "job \"" << job->options.job.name() << "\" at " << listening->address << ", state in "
               << job->state_folder << ", checkpoints in " << job->options.checkpoint_directory
               << (metrics ? absl::StrCat(", metrics at ", metrics->url()) : "")
               << (http ? absl::StrCat(", status page at ", http->url(), "/") : "");

  bool told = false;
  TimeMs ended_at = -1;
  while (loop.Health().ok() && !loop.Drained()) {
    if (signal_ != 0 && !told) {
      told = true;
      StopJobRequest stop;
      stop.set_reason(absl::StrCat("the scheduler got signal ", signal_.load()));
      loop.Submit(stop, [](const absl::Status&, SchedulerResponse) {});
    }
    if (http) page.Observe();
    if (ended_at < 0 && loop.Ended()) ended_at = clock.NowMs();
    if (ended_at >= 0 && clock.NowMs() - ended_at > options_.leave_grace_ms) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs));
  }
  const absl::Status health = loop.Health();
  const SchedulerState state = loop.Durable();
  const std::string unstored =
      health.ok() ? ""
                  : absl::StrCat("the state in ", job->state_folder, " cannot be stored: ",
                                 std::string(health.message()),
                                 "; make room, and start the scheduler again with --state=",
                                 job->state_folder, ": the job goes on from what was stored");
  const std::string summary =
      health.ok() ? SummaryJson(loop.Status(), state) : StoredSummary(*job, unstored);
  loop.Stop();
  listening->server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
  if (!options_.summary.empty()) {
    const absl::Status written = files_->WriteAtomically(options_.summary, summary);
    if (!written.ok()) TG_LOG(ERROR) << "--summary: " << written.message();
  }
  if (!health.ok()) {
    TG_LOG(ERROR) << unstored;
    return kExitFailed;
  }
  if (state.phase() == FINISHED) return kExitFinished;
  if (WasStopped(state.message())) {
    TG_LOG(INFO) << "the job was " << state.message();
  } else {
    TG_LOG(ERROR) << "the job failed: " << state.message();
  }
  return kExitFailed;
}

}  // namespace tidegate
