#include "server/rpc/server_process.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/exit_codes.h"
#include "common/job_config/job_config.h"
#include "common/logging.h"
#include "common/metrics/metrics.h"
#include "common/replica_limits.h"
#include "common/rpc/channel.h"
#include "common/rpc/member_link.h"
#include "proto/job.pb.h"
#include "server/checkpoint/cut_writer.h"
#include "server/checkpoint/restore.h"
#include "server/checkpoint/warm_start.h"
#include "server/rpc/replica_service.h"
#include "server/rpc/replication.h"
#include "server/rpc/server_metrics.h"
#include "server/rpc/shard_engine.h"
#include "server/rpc/shard_service.h"

namespace tidegate {
namespace {

constexpr std::chrono::milliseconds kCutPoll{5};
constexpr TimeMs kShardLoadsMs = 1000;  // between two reports of loads by shard

int Executors(const ServerOptions& options) {
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  return std::clamp(options.executors == 0 ? cores : options.executors, 1,
                    ShardEngine::kMaxStrands);
}

}  // namespace

class ServerProcess::Impl {
 public:
  Impl(ServerOptions options, FileSystem* files)
      : options_(std::move(options)),
        files_(files),
        executors_(Executors(options_)),
        metrics_("server"),
        engine_({executors_, options_.memory_limit_bytes,
                 [this](Epoch epoch) { FetchRouting(epoch); }}),
        replication_(&engine_),
        service_(&engine_, executors_),
        replica_service_([this](const std::shared_ptr<ReplicaPeer>& peer, OwnedBytes message) {
          replication_.Handle(peer, std::move(message));
        }) {
    metrics_.AddSource([this](MetricsPage& page) {
      WriteServerMetrics(engine_.Collect(), options_.memory_limit_bytes, page);
      WriteReplicationMetrics(replication_.Collect(), page);
    });
  }

  int Run();
  void Stop(int signal) {
    End(128 + signal, "stopped by a signal");
    if (MemberLink* link = link_now_.load()) link->Cancel();
  }

 private:
  struct Outcome {
    int exit_code;
    std::string reason;
  };

  int JoinAndServe();
  absl::Status Configure();
  MemberLink::Callbacks Callbacks();
  absl::StatusOr<std::vector<CheckpointFile>> RunCommand(const Command& command);
  absl::Status OpenTables(const tidegate::OpenTables& command);
  absl::StatusOr<std::vector<CheckpointFile>> WriteCheckpointFiles(const WriteCheckpoint& command);
  bool WaitForCut();
  void FetchRouting(Epoch epoch);
  void TakeRouting(const RoutingTable& table);
  absl::Status OpenJoinedTables();
  void End(int exit_code, const std::string& reason);  // the first counts
  Outcome WaitForEnd();

  const ServerOptions options_;
  FileSystem* const files_;
  const int executors_;
  MetricsRegistry metrics_;
  struct Load {
    std::mutex mutex;
    ServerLoad newest;
    std::atomic<bool> collecting{false};
    TimeMs shards_at = 0;  // of the newest with its shards; of whoever collects
  };
  const std::shared_ptr<Load> load_ = std::make_shared<Load>();
  ShardEngine engine_;
  Replication replication_;
  ShardServiceHost service_;
  ReplicaServiceHost replica_service_;
  Listening listening_;
  std::unique_ptr<MemberLink> link_;
  std::atomic<MemberLink*> link_now_{nullptr};
  std::atomic<Epoch> epoch_wanted_{0};
  bool joined_tables_open_ = false;  // of the heartbeat thread
  uint64_t cut_armed_ = 0;  // number; of the thread that runs commands

  std::mutex mutex_;
  std::condition_variable ended_;
  std::optional<Outcome> outcome_;
};

void ServerProcess::Impl::End(int exit_code, const std::string& reason) {
  {
    std::lock_guard lock(mutex_);
    if (!outcome_.has_value()) outcome_ = Outcome{exit_code, reason};
  }
  ended_.notify_all();
}

ServerProcess::Impl::Outcome ServerProcess::Impl::WaitForEnd() {
  std::unique_lock lock(mutex_);
  ended_.wait(lock, [this] { return outcome_.has_value(); });
  return *outcome_;
}

int ServerProcess::Impl::Run() {
  ListenOptions listen;
  listen.address = options_.listen;
  listen.insecure_bind = options_.insecure_bind;
  listen.advertise = options_.advertise;
  auto listening = Listen(listen, [this](grpc::ServerBuilder& b) {
    service_.Register(b);
    replica_service_.Register(b);
  });
  if (!listening.ok()) {
    TG_LOG(ERROR) << listening.status().message();
    return kExitUsage;
  }
  listening_ = *std::move(listening);
  service_.Start();
  replica_service_.Start(service_.queues());
  std::unique_ptr<MetricsServer> metrics_server;
  int code = kExitUsage;
  bool ready = true;
  if (options_.metrics_port >= 0) {
    auto started = MetricsServer::Start(&metrics_, options_.metrics_host, options_.metrics_port);
    ready = started.ok();
    if (ready) {
      metrics_server = *std::move(started);
      TG_LOG(INFO) << "metrics at " << metrics_server->url();
    } else {
      TG_LOG(ERROR) << started.status().message();
    }
  }
  if (ready) code = JoinAndServe();
  if (options_.before_shutdown) options_.before_shutdown(code);
  metrics_server.reset();
  link_now_ = nullptr;
  if (link_ != nullptr) link_->Stop();  // no newer table from here on
  replication_.CloseLinks();
  replica_service_.CloseStreams();
  service_.Shutdown(listening_.server.get());
  replica_service_.Join();
  service_.Join();
  replication_.Stop();
  return code;
}

int ServerProcess::Impl::JoinAndServe() {
  TG_LOG(INFO) << "serves shards at " << listening_.address << " with " << executors_
               << " executors; joins the scheduler at " << options_.scheduler;
  MemberLink::Options link;
  link.scheduler = options_.scheduler;
  link.role = SERVER;
  link.address = listening_.address;
  link.name = options_.name;
  link.zone = options_.zone;
  link.join_timeout_s = options_.join_timeout_s;
  link.scheduler_timeout_s = options_.scheduler_timeout_s;
  link_ = std::make_unique<MemberLink>(link, Callbacks());
  link_now_ = link_.get();
  {
    std::lock_guard lock(mutex_);
    if (outcome_.has_value()) return outcome_->exit_code;  // a signal came first
  }
  absl::Status status = link_->Join();
  if (absl::IsCancelled(status)) return WaitForEnd().exit_code;
  if (!status.ok()) {
    TG_LOG(ERROR) << status.message();
    return absl::IsDeadlineExceeded(status) ? kExitJoinTimeout : kExitFailed;
  }
  if (status = Configure(); !status.ok()) {
    TG_LOG(ERROR) << status.message();
    link_->ReportFatalError(std::string(status.message()));
    return kExitFailed;
  }
  link_->Start();
  const Outcome outcome = WaitForEnd();
  const bool meant = outcome.exit_code == kExitFinished || outcome.exit_code == kExitRestart;
  if (meant || outcome.exit_code > 128 || WasStopped(outcome.reason)) {
    TG_LOG(INFO) << outcome.reason;
  } else {
    TG_LOG(ERROR) << outcome.reason;
  }
  if (outcome.exit_code != kExitRemoved) link_->Leave(outcome.reason).IgnoreError();
  return outcome.exit_code;
}

absl::Status ServerProcess::Impl::Configure() {
  const MemberLink::Membership& membership = link_->membership();
  JobConfig config;
  if (!config.ParseFromString(membership.job_config)) {
    return absl::InternalError("the scheduler's job config cannot be read: another version?");
  }
  auto staleness = ParseStaleness(config.train().staleness());
  if (!staleness.ok()) return staleness.status();
  ShardEngine::JobOptions job;
  job.incarnation = membership.incarnation;
  job.generation = membership.generation;
  job.synchronous = staleness->sync;
  job.drop_slowest = config.train().drop_slowest();
  job.schedule = LearningRateSchedule(config.train().schedule());
  if (!staleness->sync && !staleness->infinite) {
    job.staleness = std::min(staleness->bound, kClockLimit);
  }
  job.message_limit_bytes = config.cluster().message_limit_bytes();
  job.log_touched = config.train().checkpoint().full_every() > 1;
  job.durable = config.cluster().durability() == ClusterConfig::SYNC;
  if (config.cluster().durability() == ClusterConfig::ASYNC) job.log_window_records = kAsyncTailRecordsMax;
  engine_.Configure(job);
  Replication::Options replication;
  replication.generation = job.generation;
  replication.self = job.incarnation;
  if (membership.grant_ms > 0) replication.grant_ms = membership.grant_ms;
  replication.message_limit_bytes = static_cast<int>(std::min<uint64_t>(job.message_limit_bytes, kControlMessageLimitBytes));
  replication.fill_bytes_per_second = options_.fill_rate_limit_mbps * 125'000;
  replication.digest_interval_ms = TimeMs{options_.digest_interval_s} * 1000;
  for (grpc::ServerCompletionQueue* queue : service_.queues()) replication.queues.push_back(queue);
  replication.newer_epoch = [this](Epoch epoch) { FetchRouting(epoch); };
  replication.report = [this] {
    if (MemberLink* link = link_now_.load()) link->HeartbeatNow();
  };
  replication_.Configure(replication);
  TG_LOG(INFO) << "joined job \"" << config.name() << "\" as server " << job.incarnation
               << ", staleness " << config.train().staleness();
  return absl::OkStatus();
}

MemberLink::Callbacks ServerProcess::Impl::Callbacks() {
  MemberLink::Callbacks callbacks;
  callbacks.routing = [this](const RoutingTable& table) { TakeRouting(table); };
  callbacks.workers = [this](const WorkerSet& workers) { engine_.SetWorkers(workers); };
  callbacks.phase = [this](Phase phase, const std::string& message) {
    if (phase == FINISHED) End(IsToRestart(message) ? kExitRestart : kExitFinished, message.empty() ? "the job is finished" : message);
    if (phase == FAILED) End(kExitFailed, WasStopped(message) ? message : "the job failed: " + message);
  };
  callbacks.lost = [this](const std::string& why) { End(kExitFailed, why); };
  callbacks.rejoin = [this] {
    End(kExitRemoved,
        "the scheduler gave this server up (silent for longer than the lease, or it runs another "
        "job now); start it again to join as a new, empty server, where the job has replicas");
  };
  callbacks.run_command = [this](const Command& command) { return RunCommand(command); };
  callbacks.fill_heartbeat = [this](HeartbeatRequest* request) {
    replication_.FillHeartbeat(request);
    // A sign of life waits for no strand, however long its push: it carries the newest load there is.
    if (!load_->collecting.exchange(true)) {
      const TimeMs now = RealClock().NowMs();
      const bool with_shards = now - load_->shards_at >= kShardLoadsMs;
      if (with_shards) load_->shards_at = now;
      engine_.CollectThen(with_shards, [load = load_](ShardEngine::Statistics statistics) {
        {
          std::lock_guard lock(load->mutex);
          ServerLoad next = ToServerLoad(statistics);
          if (!next.has_shards() && load->newest.has_shards()) next.mutable_shards()->Swap(load->newest.mutable_shards());
          load->newest = std::move(next);
        }
        load->collecting = false;
      });
    }
    std::lock_guard lock(load_->mutex);
    *request->mutable_server_load() = load_->newest;
    load_->newest.clear_shards();  // said once
  };
  return callbacks;
}

void ServerProcess::Impl::FetchRouting(Epoch epoch) {
  Epoch wanted = epoch_wanted_.load();
  while (epoch > wanted) {
    if (!epoch_wanted_.compare_exchange_weak(wanted, epoch)) continue;
    if (MemberLink* link = link_now_.load()) link->HeartbeatNow();
    return;
  }
}

void ServerProcess::Impl::TakeRouting(const RoutingTable& table) {
  auto routing = Routing::FromProto(table);
  absl::Status status = routing.ok() ? replication_.SetRouting(*routing) : routing.status();
  if (status.ok()) status = OpenJoinedTables();
  if (status.ok()) {
    const size_t led = engine_.led_shards().size(), all = engine_.shards().size();
    TG_LOG(INFO) << "routing epoch " << table.epoch() << ": serves " << led << " of " << table.shards() << " shards"
                 << (all > led ? absl::StrCat(", follows ", all - led) : "");
    return;
  }
  TG_LOG(ERROR) << "routing epoch " << table.epoch() << ": " << status.message();
  End(kExitFailed, std::string(status.message()));
}

// A server that came to a running job has missed the command that opened the tables.
absl::Status ServerProcess::Impl::OpenJoinedTables() {
  if (std::exchange(joined_tables_open_, true)) return absl::OkStatus();
  const MemberLink::Membership& membership = link_->membership();
  if (membership.tables.empty()) return absl::OkStatus();
  if (absl::Status s = engine_.OpenTables(membership.tables); !s.ok()) return s;
  engine_.SetLearningRateScale(membership.learning_rate_scale);
  TG_LOG(INFO) << "opened " << membership.tables.size() << " tables of the running job, empty";
  return absl::OkStatus();
}

absl::StatusOr<std::vector<CheckpointFile>> ServerProcess::Impl::RunCommand(
    const Command& command) {
  switch (command.kind_case()) {
    case Command::kOpenTables:
      if (absl::Status s = OpenTables(command.open_tables()); !s.ok()) return s;
      return std::vector<CheckpointFile>();
    case Command::kCutShards:
      cut_armed_ = command.cut_shards().number();
      engine_.ArmCut(cut_armed_, command.cut_shards().clock(), command.cut_shards().base());
      return std::vector<CheckpointFile>();
    case Command::kSetLearningRate:
      engine_.SetLearningRateScale(command.set_learning_rate().scale());
      return std::vector<CheckpointFile>();
    case Command::kSweep:
      engine_.Sweep(command.sweep().clock());
      return std::vector<CheckpointFile>();
    case Command::kWriteCheckpoint:
      return WriteCheckpointFiles(command.write_checkpoint());
    case Command::KIND_NOT_SET:
      break;
  }
  return absl::UnimplementedError("this server does not know the command: another version?");
}

absl::Status ServerProcess::Impl::OpenTables(const tidegate::OpenTables& command) {
  const std::vector<TableSpec> specs(command.tables().begin(), command.tables().end());
  const RestoreTables& restore = command.restore();
  const auto load = [this](ShardId shard, TableId table, std::string_view records) {
    absl::Status loaded;
    const absl::Status visited = engine_.VisitShard(shard, [&](ShardGroup& group) {
      TableGroup& tables = group.mutable_table(table);
      loaded = tables.shard(tables.LocalOfShard(shard)).LoadRows(std::as_bytes(std::span(records.data(), records.size())));
    });
    return visited.ok() ? loaded : visited;
  };
  const auto fill = [&]() -> absl::Status {
    if (!command.has_restore()) {
      const std::vector<InitFrom> inits(command.init().begin(), command.init().end());
      return WarmStartShards(*files_, inits, specs, engine_.shards(), engine_.total_shards(), load);
    }
    absl::Status status = RestoreShards(*files_, restore.directory(), specs, engine_.shards(), engine_.total_shards(), load);
    if (status.ok()) engine_.Resume(restore.clock(), restore.learning_rate_scale());
    return status;
  };
  if (absl::Status s = engine_.OpenTables(specs, fill); !s.ok()) return s;
  TG_LOG(INFO) << "opened " << specs.size() << " tables" << (command.has_restore() ? ", restored from " + restore.directory() : "")
               << (command.init().empty() ? "" : ", filled from exports");
  return absl::OkStatus();
}

bool ServerProcess::Impl::WaitForCut() {
  std::unique_lock lock(mutex_);
  return !ended_.wait_for(lock, kCutPoll, [this] { return outcome_.has_value(); });
}

absl::StatusOr<std::vector<CheckpointFile>> ServerProcess::Impl::WriteCheckpointFiles(
    const WriteCheckpoint& command) {
  const std::string directory = JoinPath(command.directory(), command.name());
  if (absl::Status s = files_->CreateDirectories(directory); !s.ok()) return s;
  // From here on the folder holds no checkpoint, whatever an earlier job left there.
  if (absl::Status s = files_->Remove(JoinPath(directory, "MANIFEST")); !s.ok()) return s;
  if (cut_armed_ != command.number() || command.number() == 0) {
    engine_.ArmCut(command.number(), kNoBound, command.base());
  }
  cut_armed_ = 0;
  CutSource source;
  source.shards = engine_.led_shards();
  source.visit = [this](ShardId shard, const std::function<void(ShardGroup&)>& visit) {
    return engine_.VisitShard(shard, visit);
  };
  source.wait = [this] { return WaitForCut(); };
  auto files = WriteCut(*files_, directory, command.number(), source);
  if (!files.ok()) {
    engine_.DropCut(command.number());
    return files.status();
  }
  TG_LOG(INFO) << "wrote " << files->size() << " shards to " << directory;
  return files;
}

ServerProcess::ServerProcess(ServerOptions options, FileSystem* files)
    : impl_(std::make_unique<Impl>(std::move(options), files)) {}
ServerProcess::~ServerProcess() = default;
int ServerProcess::Run() { return impl_->Run(); }
void ServerProcess::Stop(int signal) { impl_->Stop(signal); }

}  // namespace tidegate
