#include "scheduler/rpc/job_setup.h"

#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/export/export_reader.h"
#include "common/export/warm_start.h"
#include "common/job_config/binary.h"
#include "common/job_config/job_config.h"
#include "common/job_config/same_job.h"
#include "common/logging.h"
#include "common/version.h"
#include "scheduler/data_plan.h"
#include "scheduler/rpc/checkpoint_folder.h"

namespace tidegate {
namespace {

// A member tries again within a second, and its connection within another (common/rpc).
constexpr TimeMs kReturnMs = 3000;
constexpr uint64_t kConfigBytesMax = 16 << 20;
// In a checkpoint folder that is used by jobs whose state is in etcd: the job's generation.
constexpr char kOwner[] = "OWNER";

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

// Of a job that starts now: no other at this address has had it.
uint64_t NewGeneration() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

int64_t UnixMs() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

// What the checkpoints' folder says of a job that has no state yet; half-written ones leave.
absl::StatusOr<SchedulerState> StateFromCheckpoints(FileSystem* files, const SchedulerOptions& core,
                                                    SchedulerState stored, bool fresh) {
  auto found = FindCheckpoints(*files, core.checkpoint_directory, CheckpointsFor::kResume);
  if (!found.ok() && (stored.format() != 0 || fresh)) {
    TG_LOG(WARNING) << found.status().message();
    return stored;
  }
  if (!found.ok()) return found.status();
  for (const std::string& why : found->broken) TG_LOG(WARNING) << why;
  const std::string in_progress = JoinPath(core.checkpoint_directory, stored.saving().name());
  for (const std::string& folder : found->half_written) {
    if (stored.has_saving() && folder == in_progress) continue;
    TG_LOG(INFO) << "removes " << folder << ": a checkpoint that was not completed";
    RemoveCheckpoint(*files, folder);
  }
  if (stored.format() != 0) return stored;
  if (found->complete.empty()) {
    stored.set_last_checkpoint(found->last_number);
    if (found->broken.empty() || fresh) return stored;
    return absl::DataLossError(absl::StrCat("no checkpoint in ", core.checkpoint_directory, " is whole: ", found->broken.back(),
                                            "; bring that back, or start anew with --fresh"));
  }
  if (!fresh) {
    auto state = ResumeFrom(found->complete, core);
    if (state.ok()) state->set_last_checkpoint(found->last_number);
    return state;
  }
  TG_LOG(WARNING) << "--fresh: starts anew beside " << found->complete.size() << " checkpoints of an earlier run in "
                  << core.checkpoint_directory;
  stored.set_last_checkpoint(found->last_number);
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

absl::Status WriteOwner(FileSystem* files, const StateHome& home, uint64_t generation) {
  if (!home.in_etcd) return absl::OkStatus();
  const absl::Status owned = files->WriteAtomically(JoinPath(home.checkpoints, kOwner), absl::StrCat(generation, "\n"));
  return absl::Status(owned.code(), absl::StrCat("--checkpoint_dir: ", owned.message()));
}

std::string Absolute(const std::string& path) {
  std::error_code error;
  return std::filesystem::absolute(path, error).string();
}

}  // namespace

absl::StatusOr<JobPlan> PlanJob(const SchedulerProcessOptions& options, FileSystem* files) {
  auto config = LoadConfig(files, options.config, options.overrides);
  if (!config.ok()) return config.status();
  for (const std::string& warning : JobConfigWarnings(*config)) TG_LOG(WARNING) << warning;
  const auto staleness = ParseStaleness(config->train().staleness());
  if (!staleness.ok()) return staleness.status();
  auto data = PlanData(files, *config);
  if (!data.ok()) return data.status();

  JobPlan plan;
  SchedulerOptions& core = plan.core;
  core.config_fingerprint = JobConfigFingerprint(*config);
  core.job = std::move(data->job);
  core.synchronous = staleness->sync;
  core.bounded = !staleness->infinite;
  core.train_splits = std::move(data->train);
  core.valid_splits = std::move(data->valid);
  core.version = kVersion;
  core.heartbeat_interval_ms = options.heartbeat_interval_ms;
  core.lease_ms = options.lease_ms;
  core.return_ms = kReturnMs;
  core.level_after_ms = options.level_after_ms;
  core.restore_wait_ms = options.restore_wait_ms;
  core.rebalance_load = options.rebalance_load;
  plan.config = *std::move(config);
  return plan;
}

absl::StatusOr<StateHome> OpenFolder(const SchedulerProcessOptions& options, FileSystem* files) {
  auto folder = StateFolder(options.state);
  if (!folder.ok()) return folder.status();
  auto store = DirectoryStore::Open(files, *folder);
  if (!store.ok()) return absl::Status(store.status().code(), absl::StrCat("--state: ", store.status().message()));
  StateHome home;
  home.name = *folder;
  home.checkpoints = options.checkpoint_dir.empty() ? JoinPath(*folder, "checkpoints") : Absolute(options.checkpoint_dir);
  home.store = *std::move(store);
  const std::string config = JoinPath(*folder, "job.textproto");
  home.read_config = [files, config] { return files->Read(config, kConfigBytesMax); };
  home.keep_config = [files, config](const std::string& text) { return files->WriteAtomically(config, text); };
  return home;
}

absl::StatusOr<StateHome> OpenEtcd(const SchedulerProcessOptions& options, const EtcdAddress& address, Etcd* etcd,
                                   LeaderKey::Lead lead) {
  if (options.checkpoint_dir.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--state=", options.state, " needs --checkpoint_dir=DIR: a folder that every scheduler and server reaches"));
  }
  StateHome home;
  home.name = address.Url();
  home.in_etcd = true;
  home.checkpoints = Absolute(options.checkpoint_dir);
  home.store = std::make_unique<EtcdStore>(etcd, address.prefix, lead, home.name);
  const auto config = std::make_shared<LeaderKey>(etcd, address.prefix + "/job.textproto", lead);
  home.read_config = [config] { return config->Read(); };
  home.keep_config = [config](const std::string& text) {
    const absl::Status read = config->Read().status();
    return read.ok() || absl::IsNotFound(read) ? config->Write(text) : read;
  };
  return home;
}

absl::Status CheckSameConfig(const JobPlan& plan, const SchedulerState& stored, const StateHome& home) {
  if (stored.format() == 0 || stored.config_fingerprint() == plan.core.config_fingerprint) return absl::OkStatus();
  const auto text = home.read_config();
  if (!text.ok()) return absl::OkStatus();  // ClusterState says that they differ
  const auto before = ParseJobConfig(*text, "job.textproto");
  if (!before.ok() || JobConfigFingerprint(*before) != stored.config_fingerprint()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("--state=", home.name, " belongs to job \"", stored.job(), "\", whose config differs:\n",
                                                    ConfigDifferences(*before, plan.config),
                                                    "start with that job's --config and --set, or an empty --state"));
}

absl::StatusOr<std::unique_ptr<FileLock>> LockCheckpoints(FileSystem* files, const StateHome& home, uint64_t generation) {
  absl::Status status = files->CreateDirectories(home.checkpoints);
  std::error_code error;
  if (status.ok() && !home.in_etcd && std::filesystem::equivalent(home.checkpoints, home.name, error)) {
    return std::unique_ptr<FileLock>();  // locked as the state
  }
  const std::string owner = JoinPath(home.checkpoints, kOwner);
  if (status.ok()) {
    auto lock = files->LockDirectory(home.checkpoints);
    if (lock.ok()) {
      status = files->Remove(owner);
      if (status.ok()) return lock;
    } else if (home.in_etcd && absl::IsFailedPrecondition(lock.status()) && generation != 0) {
      const auto holder = files->Read(owner, 64);
      if (holder.ok() && *holder == absl::StrCat(generation, "\n")) return std::unique_ptr<FileLock>();
      status = lock.status();
    } else {
      status = lock.status();
    }
  }
  return absl::Status(status.code(), absl::StrCat("--checkpoint_dir: ", status.message()));
}

absl::StatusOr<Job> BeginJob(const SchedulerProcessOptions& options, FileSystem* files, const JobPlan& plan, StateHome home) {
  auto stored = home.store->Load();
  if (!stored.ok()) return stored.status();
  if (absl::Status s = CheckSameConfig(plan, *stored, home); !s.ok()) return s;
  if (options.members_gone && home.in_etcd) {
    return absl::InvalidArgumentError("--members_gone: a state in etcd may be led by others; stop them, and start the job with another prefix and the same --checkpoint_dir");
  }
  const bool begun_before = stored->format() != 0;
  if (options.fresh && begun_before && !home.in_etcd) {
    return absl::FailedPreconditionError(absl::StrCat("--fresh: --state=", home.name,
                                                      " holds a job that was begun; name an empty folder"));
  }
  auto lock = LockCheckpoints(files, home, stored->generation());
  if (!lock.ok()) return lock.status();
  if (options.members_gone && begun_before && stored->phase() != FINISHED && stored->phase() != FAILED) {
    TG_LOG(WARNING) << "job \"" << stored->job() << "\" of --state=" << home.name << " has lost all its servers (--members_gone): it goes on from its newest checkpoint, or anew";
    stored = SchedulerState();
  }
  Job job;
  job.checkpoint_lock = *std::move(lock);
  job.options = plan.core;
  job.options.checkpoint_directory = home.checkpoints;
  job.options.generation = NewGeneration();
  job.options.started_unix_ms = UnixMs();
  if (!begun_before) {
    if (absl::Status s = home.keep_config(JobConfigText(plan.config)); !s.ok()) return s;
  }
  auto begun = StateFromCheckpoints(files, job.options, *std::move(stored), options.fresh);
  if (!begun.ok()) return begun.status();
  if (begun->format() == 0) {
    if (absl::Status s = CheckWarmStarts(files, job.options.job); !s.ok()) return s;
  }
  auto state = ClusterState::Create(job.options, *std::move(begun));
  if (!state.ok()) {
    return absl::Status(state.status().code(), absl::StrCat("--state=", home.name, ": ", state.status().message()));
  }
  job.core = *std::move(state);
  if (absl::Status s = WriteOwner(files, home, job.core->Durable().generation()); !s.ok()) return s;
  job.home = std::move(home);
  return job;
}

absl::StatusOr<ClusterState*> RestoreJob(FileSystem* files, Job* job) {
  auto found = FindCheckpoints(*files, job->home.checkpoints, CheckpointsFor::kRestore);
  if (!found.ok()) return found.status();
  for (const std::string& why : found->broken) TG_LOG(WARNING) << why;
  SchedulerOptions options = job->options;
  options.generation = std::max(NewGeneration(), job->core->Durable().generation() + 1);
  options.started_unix_ms = UnixMs();
  options.restored = true;
  auto state = RestoredState(found->complete, options, job->core->Durable());
  if (!state.ok()) return state.status();
  auto core = ClusterState::Create(options, *std::move(state));
  if (!core.ok()) return core.status();
  if (absl::Status s = WriteOwner(files, job->home, options.generation); !s.ok()) return s;
  job->options = std::move(options);
  job->before = std::exchange(job->core, *std::move(core));
  return job->core.get();
}

}  // namespace tidegate
