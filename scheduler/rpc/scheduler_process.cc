#include "scheduler/rpc/scheduler_process.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/checkpoint/manifest.h"
#include "common/clock.h"
#include "common/exit_codes.h"
#include "common/host_port.h"
#include "common/logging.h"
#include "common/metrics/metrics.h"
#include "common/rpc/channel.h"
#include "scheduler/rpc/checkpoint_folder.h"
#include "scheduler/rpc/etcd_client.h"
#include "scheduler/rpc/job_setup.h"
#include "scheduler/rpc/leadership.h"
#include "scheduler/rpc/scheduler_loop.h"
#include "scheduler/rpc/scheduler_metrics.h"
#include "scheduler/rpc/scheduler_service.h"
#include "scheduler/rpc/status_page.h"
#include "scheduler/store/etcd_compaction.h"
#include "scheduler/store/metrics_log.h"
#include "scheduler/summary.h"

namespace tidegate {
namespace {

constexpr TimeMs kPollMs = 20;
constexpr TimeMs kLockEveryMs = 1000;

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

// Of what the store holds: what could not be stored is no result.
std::string StoredSummary(const Job& job, const std::string& failure) {
  auto stored = job.home.store->Load();
  if (!stored.ok()) stored = SchedulerState();
  auto core = ClusterState::Create(job.options, *stored);
  if (!core.ok()) core = ClusterState::Create(job.options, SchedulerState());
  return SummaryJson((*core)->Status(0), (*core)->Durable(), failure);
}

std::string WhyUnstored(const absl::Status& health, const StateHome& home) {
  if (health.ok()) return "";
  return absl::StrCat("the state in ", home.name, " cannot be stored: ", std::string(health.message()),
                      "; make room, and start the scheduler again with --state=", home.name,
                      ": the job goes on from what was stored");
}

int Refused(const absl::Status& status) {
  TG_LOG(ERROR) << status.message();
  return kExitUsage;
}

int ExitCodeOf(const SchedulerState& state) {
  if (state.phase() == FINISHED) return kExitFinished;
  if (WasStopped(state.message())) {
    TG_LOG(INFO) << "the job was " << state.message();
  } else {
    TG_LOG(ERROR) << "the job failed: " << state.message();
  }
  return kExitFailed;
}

// A standby's word is where members and commands go.
absl::Status CheckReachable(const SchedulerProcessOptions& options, const std::string& address) {
  const auto at = SplitHostPort(address);
  if (!at.ok() || (at->host != "0.0.0.0" && at->host != "::")) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--listen=", options.listen, " with --state=", options.state,
                                                 " needs --advertise=HOST: the others name this scheduler by it"));
}

}  // namespace

// What is seen of the process from outside, whether it leads or not.
struct SchedulerProcess::Front {
  SchedulerServiceImpl service;
  Listening listening;
};

// One time of leading. Calls that are under way hold it beyond its end.
struct SchedulerProcess::Term {
  Job job;
  RealClock clock;
  MetricsWriter writer;
  std::unique_ptr<SchedulerLoop> loop;
};

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

absl::Status SchedulerProcess::Open(Front* front) {
  ListenOptions listen;
  listen.address = options_.listen;
  listen.advertise = options_.advertise;
  listen.insecure_bind = options_.insecure_bind;
  auto listening = Listen(listen, [&](grpc::ServerBuilder& builder) { builder.RegisterService(&front->service); });
  if (!listening.ok()) return listening.status();
  front->listening = *std::move(listening);
  return absl::OkStatus();
}

absl::Status SchedulerProcess::WriteAddress(const Front& front) {
  if (options_.address_file.empty()) return absl::OkStatus();
  const absl::Status status = files_->WriteAtomically(options_.address_file, front.listening.address + "\n");
  return absl::Status(status.code(), absl::StrCat("--address_file: ", status.message()));
}

int SchedulerProcess::RunJob() {
  const auto plan = PlanJob(options_, files_);
  if (!plan.ok()) return Refused(plan.status());
  if (IsEtcdAddress(options_.state)) return RunInTurns(*plan);
  auto home = OpenFolder(options_, files_);
  if (!home.ok()) return Refused(home.status());
  auto job = BeginJob(options_, files_, *plan, *std::move(home));
  if (!job.ok()) return Refused(job.status());
  if (job->core->Ended() && job->core->Durable().term() == 0) return TellOfFinished(*job->core);
  Front front;
  if (absl::Status s = Open(&front); !s.ok()) return Refused(s);
  return Lead(*std::move(job), nullptr, &front).value_or(kExitFailed);
}

int SchedulerProcess::RunInTurns(const JobPlan& plan) {
  const auto address = ParseEtcdAddress(options_.state);
  if (!address.ok()) return Refused(address.status());
  const RealClock clock;
  EtcdClient etcd(address->endpoints, std::clamp<TimeMs>(250 * options_.leader_ttl_s, 250, 1000));
  const std::string key = address->prefix + "/leader";
  auto reader = OpenEtcd(options_, *address, &etcd, {key, 0});
  if (!reader.ok()) return Refused(reader.status());
  Front front;
  if (absl::Status s = Open(&front); !s.ok()) return Refused(s);
  if (absl::Status s = CheckReachable(options_, front.listening.address); !s.ok()) return Refused(s);
  if (absl::Status s = WriteAddress(front); !s.ok()) return Refused(s);

  // What would be refused when it is this scheduler's turn is refused now.
  const auto stop = [this] { return signal_ != 0; };
  const absl::Status fits = RetryEtcd(clock, options_.etcd_patience_ms, stop, [&] {
    const auto stored = reader->store->Load();
    if (!stored.ok()) return stored.status();
    if (absl::Status s = CheckSameConfig(plan, *stored, *reader); !s.ok()) return s;
    return ClusterState::Create(plan.core, *stored).status();
  });
  if (!fits.ok()) return Refused(fits);

  std::string told;
  const auto standby = [&](const std::string& leader) {
    front.service.Refuse(absl::StrCat("stands by; the leader is at ", leader), leader);
    if (std::exchange(told, leader) != leader) TG_LOG(INFO) << "stands by at " << front.listening.address << "; the leader is at " << leader;
  };
  Leadership leadership(&etcd, &clock, {key, front.listening.address, options_.leader_ttl_s, options_.etcd_patience_ms}, standby);
  for (;;) {
    const absl::Status leads = leadership.Campaign(stop);
    if (absl::IsCancelled(leads)) {
      TG_LOG(INFO) << "ends by signal " << signal_ << " and does not lead; the job goes on with the scheduler that does";
      return kExitFailed;
    }
    if (!leads.ok()) {
      TG_LOG(ERROR) << leads.message();
      return kExitFailed;
    }
    told.clear();
    TG_LOG(INFO) << "leads by " << key << " of etcd, revision " << leadership.revision();
    auto home = OpenEtcd(options_, *address, &etcd, {key, leadership.revision()});
    if (!home.ok()) return Refused(home.status());
    auto job = BeginJob(options_, files_, plan, *std::move(home));
    std::optional<int> code;
    if (job.ok() && job->core->Ended() && job->core->Durable().term() == 0) {
      code = TellOfFinished(*job->core);
    } else if (job.ok()) {
      EtcdCompaction compaction(&etcd, options_.etcd_compaction_ms);
      Turn turn{&leadership, &compaction};
      code = Lead(*std::move(job), &turn, &front);
    } else if (!absl::IsAborted(job.status()) && !IsEtcdAway(job.status())) {
      code = Refused(job.status());
    } else {
      TG_LOG(WARNING) << "cannot lead: " << job.status().message();
    }
    leadership.Resign();
    if (code) return *code;
  }
}

std::optional<int> SchedulerProcess::Lead(Job begun, Turn* turn, Front* front) {
  Leadership* const leadership = turn == nullptr ? nullptr : turn->leadership;
  const auto term = std::make_shared<Term>();
  term->job = std::move(begun);
  Job& job = term->job;
  const RealClock& clock = term->clock;
  if (job.core->Ended()) TellOfEnd(job.core->Durable(), job.home.name);
  const auto leads = [leadership] { return leadership == nullptr ? absl::OkStatus() : leadership->Leads(); };
  SchedulerLoop::Hooks hooks;
  if (leadership != nullptr) hooks.leads = leads;
  hooks.write_manifest = [this, leads](const ManifestOrder& order) -> absl::Status {
    if (absl::Status s = leads(); !s.ok()) return s;
    const absl::Status made = files_->CreateDirectories(order.directory);
    if (!made.ok()) return made;
    return WriteLinkedManifest(*files_, order.directory, order.manifest);
  };
  hooks.remove_checkpoint = [this, leads](const std::string& folder) {
    if (leads().ok()) RemoveCheckpoint(*files_, folder);
  };
  hooks.restore = [this, &job](const ClusterState&) { return RestoreJob(files_, &job); };
  hooks.log = [](const std::string& event) { TG_LOG(INFO) << event; };
  MetricsWriter& writer = term->writer;
  if (!options_.metrics_dir.empty()) {
    auto log = MetricsLog::Open(options_.metrics_dir, WallTime());
    if (!log.ok()) {
      TG_LOG(ERROR) << "--metrics_dir: " << log.status().message();
      return kExitUsage;
    }
    writer.log = *std::move(log);
    hooks.metrics = [&writer](const MetricsRecord& record) { writer.Write(record); };
  }
  term->loop = std::make_unique<SchedulerLoop>(job.core.get(), job.home.store.get(), &clock, std::move(hooks),
                                               options_.store_patience_ms);
  SchedulerLoop& loop = *term->loop;
  front->service.Serve({term, &loop});

  MetricsRegistry registry("scheduler");
  registry.AddSource([&](MetricsPage& page) {
    WriteSchedulerMetrics(&loop, &page);
    page.Counter("tidegate_metrics_log_failures_total", "Records that --metrics_dir had no room for.",
                 static_cast<double>(writer.failures));
  });
  std::unique_ptr<MetricsServer> metrics;
  if (options_.metrics_port >= 0) {
    auto started = MetricsServer::Start(&registry, options_.metrics_host, options_.metrics_port);
    if (!started.ok()) return Refused(started.status());
    metrics = *std::move(started);
  }
  StatusPage page(&loop, &clock);
  std::unique_ptr<HttpServer> http;
  if (options_.http_port >= 0) {
    auto started = HttpServer::Start("--http_port", options_.http_host, options_.http_port, page.Pages());
    if (!started.ok()) return Refused(started.status());
    http = *std::move(started);
  }
  const auto step_down = [&](const absl::Status& why) {
    TG_LOG(WARNING) << "leads no more: " << why.message();
    front->service.Refuse("stands by; no scheduler is known to lead", "");
    loop.Stop();
    return std::nullopt;
  };
  absl::Status status = loop.Start();
  if (leadership != nullptr && (absl::IsAborted(status) || IsEtcdAway(status))) return step_down(status);
  if (status.ok() && leadership == nullptr) status = WriteAddress(*front);
  if (!status.ok()) {
    TG_LOG(ERROR) << status.message();
    loop.Stop();
    return kExitFailed;
  }
  TG_LOG(INFO) << "job \"" << job.options.job.name() << "\" at " << front->listening.address << ", state in "
               << job.home.name << ", checkpoints in " << job.options.checkpoint_directory
               << (metrics ? absl::StrCat(", metrics at ", metrics->url()) : "")
               << (http ? absl::StrCat(", status page at ", http->url(), "/") : "");

  bool told = false;
  TimeMs ended_at = -1;
  TimeMs next_lock = 0;
  while (loop.Health().ok() && leads().ok() && !loop.Drained()) {
    if (signal_ == SIGTERM && leadership != nullptr) return step_down(absl::CancelledError("SIGTERM"));
    if (signal_ != 0 && !told) {
      told = true;
      StopJobRequest stop;
      stop.set_reason(absl::StrCat("the scheduler got signal ", signal_.load()));
      loop.Submit(stop, [](const absl::Status&, SchedulerResponse) {});
    }
    if (http) page.Observe();
    const TimeMs now = clock.NowMs();
    if (ended_at < 0 && loop.Ended()) ended_at = now;
    if (ended_at >= 0 && now - ended_at > options_.leave_grace_ms) break;
    if (job.home.in_etcd && job.checkpoint_lock == nullptr && now >= next_lock) {
      if (auto lock = files_->LockDirectory(job.home.checkpoints); lock.ok()) job.checkpoint_lock = *std::move(lock);
      next_lock = now + kLockEveryMs;
    }
    if (turn != nullptr) {
      if (absl::Status s = turn->compaction->Tick(now); !s.ok()) TG_LOG(WARNING) << "etcd was not compacted: " << s.message();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs));
  }
  const absl::Status health = loop.Health();
  const bool deposed = absl::IsAborted(health) || !leads().ok();
  if (leadership != nullptr && deposed && !loop.Drained()) return step_down(health.ok() ? leads() : health);
  const SchedulerState state = loop.Durable();
  const std::string unstored = WhyUnstored(health, job.home);
  const std::string summary =
      health.ok() ? SummaryJson(loop.Status(), state) : StoredSummary(job, unstored);
  loop.Stop();
  front->listening.server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
  if (!options_.summary.empty()) {
    const absl::Status written = files_->WriteAtomically(options_.summary, summary);
    if (!written.ok()) TG_LOG(ERROR) << "--summary: " << written.message();
  }
  if (!health.ok()) {
    TG_LOG(ERROR) << unstored;
    return kExitFailed;
  }
  return ExitCodeOf(state);
}

}  // namespace tidegate
