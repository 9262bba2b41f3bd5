#include "cli/chaos/chaos_run.h"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cli/chaos/accounting_workload.h"
#include "cli/chaos/chaos_cluster.h"
#include "cli/chaos/job_workload.h"
#include "common/clock.h"
#include "common/exit_codes.h"
#include "common/random.h"

namespace tidegate::cli {
namespace {

constexpr std::chrono::milliseconds kPoll{10};
constexpr TimeMs kRestartMsMax = 500;  // after which a killed member comes back
constexpr TimeMs kCalmMs = 500;        // between a healed cluster and the next fault
constexpr int kGraceS = 10;

TimeMs Now() { return RealClock().NowMs(); }

class Chaos {
 public:
  Chaos(const ChaosOptions& options, ChaosResult* result) : options_(options), result_(result), random_(options.seed) {}

  absl::Status Run() {
    absl::Status status = Start();
    if (status.ok()) status = InjectAll();
    if (status.ok()) status = Audit();
    if (accounts_ != nullptr) {
      const AccountingWorkload::Totals totals = accounts_->totals();
      result_->pushes = totals.pushes;
      result_->checks = totals.checks;
      result_->rows = totals.rows;
      result_->lost = totals.lost;
    }
    if (job_ != nullptr) result_->job = job_->Text();
    if (workload_ != nullptr) workload_->Stop();
    if (cluster_ != nullptr) cluster_->Stop(kGraceS);
    return status;
  }

 private:
  absl::Status Start();
  absl::Status InjectAll();
  absl::Status Inject(ChaosFault fault);
  absl::Status OnServer(ChaosFault fault, ChaosInjection* injection);
  absl::Status Restart(const std::string& name, const std::set<ShardId>& shards, ChaosInjection* injection);
  absl::Status OnScheduler(ChaosFault fault, ChaosInjection* injection);
  absl::Status OnLeaderKilled(const std::string& leader, TimeMs at, ChaosInjection* injection);
  absl::Status OnWorker(ChaosInjection* injection);
  absl::Status OnLinks(ChaosFault fault, ChaosInjection* injection);
  absl::Status CutLinks(ChaosFault fault, const std::string& one, const std::string& other);
  // Of a cluster that is whole: on a busy machine its scheduler may take more than one call's time.
  absl::StatusOr<GetStatusResponse> PatientStatus();
  // A running server that is primary of something.
  absl::StatusOr<Member> ChooseServer(const GetStatusResponse& status);
  // Of a fault that hits no server.
  FaultReach AllShards() const;
  // Of one that hits servers: the first one's shards, with `backup` those that it follows.
  static absl::StatusOr<FaultReach> ReachOf(const RoutingTable& table, Incarnation server, Incarnation backup = 0);
  // kill -9; it is gone, and is started again at `again` or, while held_down_ has it, later.
  void Kill(const std::string& name, TimeMs again);
  absl::Status Audit();
  // One round of watching: logs, processes to start again, the work.
  absl::Status Watch();
  absl::Status Sleep(TimeMs ms);
  absl::Status WaitUntilWhole(const char* after);
  absl::Status WaitForRecovery(const FaultReach& reach, TimeMs since, ChaosInjection* injection);

  const ChaosOptions& options_;
  ChaosResult* const result_;
  Random random_;
  TimeMs begun_ = 0;
  std::unique_ptr<ChaosCluster> cluster_;
  std::unique_ptr<Workload> workload_;
  AccountingWorkload* accounts_ = nullptr;  // either of them is workload_
  JobWorkload* job_ = nullptr;
  std::map<std::string, TimeMs> restart_at_;  // processes that are down
  std::set<std::string> held_down_;   // processes that are not to be started again now
};

absl::Status Chaos::Start() {
  ChaosCluster::Options cluster;
  cluster.bin_dir = options_.bin_dir;
  cluster.run_dir = options_.run_dir;
  cluster.config = options_.config.empty() ? options_.run_dir + "/chaos.textproto" : options_.config;
  cluster.sets = options_.sets;
  cluster.state = options_.state;
  cluster.schedulers = options_.schedulers;
  cluster.servers = options_.servers;
  cluster.workers = options_.config.empty() ? 0 : options_.workers;
  cluster.lease_ms = options_.lease_ms;
  cluster.heartbeat_interval_ms = options_.heartbeat_interval_ms;
  cluster.network = options_.network;
  if (options_.config.empty()) {
    std::ofstream file(cluster.config);
    file << ChaosConfig(options_);
    file.close();
    if (!file) return absl::InternalError(absl::StrCat("cannot write ", cluster.config));
  }
  cluster_ = std::make_unique<ChaosCluster>(cluster);
  if (absl::Status s = cluster_->Start(); !s.ok()) return s;
  if (options_.config.empty()) {
    auto accounts = std::make_unique<AccountingWorkload>(
        AccountingWorkload::Options{cluster_->address(), options_.workers, options_.shards, options_.seed, options_.async});
    accounts_ = accounts.get();
    workload_ = std::move(accounts);
  } else {
    auto job = std::make_unique<JobWorkload>(cluster_.get(), JobWorkload::Options{options_.heal_timeout_s, options_.heartbeat_interval_ms});
    job_ = job.get();
    workload_ = std::move(job);
  }
  if (absl::Status s = workload_->Start(); !s.ok()) return s;
  begun_ = Now();
  return WaitUntilWhole("the start");
}

absl::Status Chaos::Watch() {
  if (options_.signals && options_.signals() > 0) return absl::CancelledError("stopped by a signal");
  const std::vector<std::string> ended = cluster_->Poll();
  if (absl::Status s = workload_->Watch(); !s.ok()) return s;
  if (workload_->Finished()) return absl::OkStatus();  // and so do its processes
  for (const std::string& name : ended) {
    if (held_down_.contains(name)) continue;
    if (absl::StartsWith(name, "scheduler")) options_.say(absl::StrCat(name, " ended by itself: ", cluster_->Ending(name), "; starting it again"));
    restart_at_.emplace(name, Now());
  }
  for (auto it = restart_at_.begin(); it != restart_at_.end();) {
    if (it->second > Now() || held_down_.contains(it->first)) {
      ++it;
      continue;
    }
    if (absl::Status s = cluster_->StartAgain(it->first); !s.ok()) return s;
    it = restart_at_.erase(it);
  }
  return absl::OkStatus();
}

absl::Status Chaos::Sleep(TimeMs ms) {
  const TimeMs until = Now() + ms;
  while (Now() < until) {
    if (absl::Status s = Watch(); !s.ok()) return s;
    std::this_thread::sleep_for(kPoll);
  }
  return absl::OkStatus();
}

absl::Status Chaos::WaitUntilWhole(const char* after) {
  const TimeMs deadline = Now() + options_.heal_timeout_s * TimeMs{1000};
  std::string waits_for = "the scheduler's answer";
  while (Now() < deadline) {
    if (absl::Status s = Watch(); !s.ok()) return s;
    if (workload_->Finished()) return absl::OkStatus();
    auto status = cluster_->Status();
    if (status.ok()) {
      if (status->phase() == FAILED) return absl::AbortedError("the job failed: " + status->message());
      if (status->settled() && restart_at_.empty()) return absl::OkStatus();
      waits_for = absl::StrCat(status->degraded_shards(), " of ", options_.shards, " shards to have ", options_.replicas, " replicas");
    }
    std::this_thread::sleep_for(kPoll);
  }
  return absl::DeadlineExceededError(absl::StrCat("after ", after, ": waited ", options_.heal_timeout_s, " s for ", waits_for,
                                                  " (logs: ", options_.run_dir, "/logs)"));
}

absl::Status Chaos::WaitForRecovery(const FaultReach& reach, TimeMs since, ChaosInjection* injection) {
  const TimeMs deadline = Now() + options_.heal_timeout_s * TimeMs{1000};
  for (;;) {
    if (absl::Status s = Watch(); !s.ok()) return s;
    const Recovery recovery = workload_->RecoveryOf(reach, since);
    injection->first_ms = recovery.first_ms;
    injection->recovery_ms = recovery.all_ms;
    injection->elsewhere_ms = recovery.elsewhere_ms;
    if (recovery.done) return absl::OkStatus();
    if (Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat("waited ", options_.heal_timeout_s, " s for ", recovery.waits_for,
                                                      " (logs: ", options_.run_dir, "/logs)"));
    }
    std::this_thread::sleep_for(kPoll);
  }
}

absl::Status Chaos::InjectAll() {
  const TimeMs until = begun_ + static_cast<TimeMs>(options_.minutes * 60'000);
  for (int i = 0; options_.count > 0 ? i < options_.count : Now() < until; ++i) {
    if (absl::Status s = Sleep(kCalmMs); !s.ok()) return s;
    if (workload_->Finished()) return absl::OkStatus();
    if (absl::Status s = Inject(options_.faults[random_.Below(options_.faults.size())]); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status Chaos::Inject(ChaosFault fault) {
  ChaosInjection injection;
  injection.fault = fault;
  const TimeMs at = Now();
  absl::Status status = CutsLinks(fault)    ? OnLinks(fault, &injection)
                        : HitsServer(fault) ? OnServer(fault, &injection)
                        : fault == ChaosFault::kKillWorker ? OnWorker(&injection)
                                            : OnScheduler(fault, &injection);
  if (!status.ok()) return absl::Status(status.code(), absl::StrCat(NameOf(fault), " ", injection.target, ": ", std::string(status.message())));
  std::string line = absl::StrCat("[", (at - begun_) / 1000, ".", (at - begun_) / 100 % 10, " s] ", NameOf(fault), " ", injection.target);
  if (injection.shards > 0) absl::StrAppend(&line, " (primary of ", injection.shards, ")");
  if (injection.first_ms >= 0 && job_ != nullptr) {
    absl::StrAppend(&line, ": new samples after ", injection.first_ms, " ms");
  } else if (injection.first_ms >= 0) {
    absl::StrAppend(&line, ": first push acknowledged after ", injection.first_ms, " ms, all its shards after ", injection.recovery_ms, " ms");
  }
  if (injection.elsewhere_ms >= 0) absl::StrAppend(&line, "; others paused for ", injection.elsewhere_ms, " ms at most");
  if (injection.gap_ms >= 0) absl::StrAppend(&line, ": ended empty; a push to one of its shards waited for ", injection.gap_ms, " ms at most");
  result_->injections.push_back(injection);
  status = WaitUntilWhole(NameOf(fault));
  options_.say(absl::StrCat(line, "; whole again after ", Now() - at, " ms"));
  return status;
}

absl::StatusOr<GetStatusResponse> Chaos::PatientStatus() {
  const TimeMs deadline = Now() + options_.heal_timeout_s * TimeMs{1000};
  for (;;) {
    auto status = cluster_->Status();
    if (status.ok() || Now() > deadline) return status;
    if (absl::Status s = Sleep(kPoll.count()); !s.ok()) return s;
  }
}

absl::StatusOr<Member> Chaos::ChooseServer(const GetStatusResponse& status) {
  std::vector<Member> targets;
  for (const MemberStatus& member : status.members()) {
    if (member.shards() > 0 && cluster_->Running(member.member().name())) targets.push_back(member.member());
  }
  if (targets.empty()) return absl::InternalError("no server is primary of anything");
  return targets[random_.Below(targets.size())];
}

FaultReach Chaos::AllShards() const {
  FaultReach all;
  for (int shard = 0; shard < options_.shards; ++shard) all.led.insert(static_cast<ShardId>(shard));
  return all;
}

absl::StatusOr<FaultReach> Chaos::ReachOf(const RoutingTable& table, Incarnation server, Incarnation backup) {
  auto led = ShardsBetween(table, server, backup);
  if (!led.ok()) return led.status();
  auto untouched = ShardsWithout(table, {server, backup});
  if (!untouched.ok()) return untouched.status();
  return FaultReach{*std::move(led), *std::move(untouched)};
}

void Chaos::Kill(const std::string& name, TimeMs again) {
  held_down_.insert(name);
  cluster_->Signal(name, SIGKILL);
  while (cluster_->Running(name)) cluster_->Poll();
  held_down_.erase(name);
  restart_at_[name] = again;
}

absl::Status Chaos::OnServer(ChaosFault fault, ChaosInjection* injection) {
  auto status = PatientStatus();
  if (!status.ok()) return status.status();
  auto target = ChooseServer(*status);
  if (!target.ok()) return target.status();
  const std::string name = target->name();
  const auto reach = ReachOf(status->routing(), target->incarnation());
  if (!reach.ok()) return reach.status();
  injection->target = name;
  injection->shards = static_cast<int>(reach->led.size());
  workload_->ExpectFault();
  const TimeMs at = Now();
  if (fault == ChaosFault::kRestartServer) return Restart(name, reach->led, injection);
  if (fault == ChaosFault::kKillServer) {
    Kill(name, at + static_cast<TimeMs>(random_.Below(kRestartMsMax)));
    return WaitForRecovery(*reach, at, injection);
  }
  cluster_->Signal(name, SIGSTOP);
  absl::Status recovered = WaitForRecovery(*reach, at, injection);
  if (recovered.ok()) recovered = Sleep(std::max<TimeMs>(0, at + 2 * options_.lease_ms - Now()));
  cluster_->Signal(name, SIGCONT);
  return recovered;
}

// Nothing is lost or waited for: others lead its shards before it ends.
absl::Status Chaos::Restart(const std::string& name, const std::set<ShardId>& shards, ChaosInjection* injection) {
  const TimeMs at = Now(), deadline = at + options_.heal_timeout_s * TimeMs{1000};
  if (absl::Status s = cluster_->Drain(name); !s.ok()) return s;
  held_down_.insert(name);
  while (cluster_->Running(name) && !workload_->Finished()) {
    if (Now() > deadline) return absl::DeadlineExceededError(absl::StrCat(name, " is not empty after ", options_.heal_timeout_s, " s"));
    if (absl::Status s = Sleep(kPoll.count()); !s.ok()) return s;
  }
  held_down_.erase(name);
  if (workload_->Finished()) return absl::OkStatus();
  if (cluster_->ExitStatus(name) != kExitRestart) return absl::InternalError(absl::StrCat(name, " ended: ", cluster_->Ending(name)));
  injection->gap_ms = workload_->LongestGap(shards, at);
  restart_at_[name] = Now() + static_cast<TimeMs>(random_.Below(kRestartMsMax));
  return absl::OkStatus();
}

absl::Status Chaos::OnWorker(ChaosInjection* injection) {
  injection->target = ChaosCluster::WorkerName(static_cast<int>(random_.Below(static_cast<uint64_t>(options_.workers))));
  if (!cluster_->Running(injection->target)) return absl::OkStatus();
  workload_->ExpectFault();
  const TimeMs at = Now();
  Kill(injection->target, at + static_cast<TimeMs>(random_.Below(kRestartMsMax)));
  return WaitForRecovery(AllShards(), at, injection);
}

absl::Status Chaos::OnScheduler(ChaosFault fault, ChaosInjection* injection) {
  auto leader = cluster_->Leader();
  if (!leader.ok()) return leader.status();
  injection->target = fault == ChaosFault::kNoScheduler ? "scheduler" : *leader;
  workload_->ExpectFault();
  const TimeMs at = Now();
  if (fault == ChaosFault::kKillScheduler) return OnLeaderKilled(*leader, at, injection);
  if (fault == ChaosFault::kPauseScheduler) {
    cluster_->Signal(*leader, SIGSTOP);
    absl::Status status = Sleep(2 * options_.lease_ms);
    if (status.ok()) status = WaitForRecovery(AllShards(), at + options_.lease_ms, injection);
    cluster_->Signal(*leader, SIGCONT);
    return status;
  }
  for (const std::string& name : cluster_->Schedulers()) {
    Kill(name, at);
    held_down_.insert(name);
  }
  absl::Status status = Sleep(5 * options_.lease_ms);
  // The work on every shard goes on in the last of them.
  if (status.ok()) status = WaitForRecovery(AllShards(), at + 4 * options_.lease_ms, injection);
  for (const std::string& name : cluster_->Schedulers()) held_down_.erase(name);
  return status;
}

// Of several, another one has to lead before it is there again.
absl::Status Chaos::OnLeaderKilled(const std::string& leader, TimeMs at, ChaosInjection* injection) {
  Kill(leader, at);
  if (options_.schedulers == 1) return absl::OkStatus();
  held_down_.insert(leader);
  const TimeMs deadline = at + options_.heal_timeout_s * TimeMs{1000};
  absl::Status status;
  while (status.ok() && !cluster_->Leader().ok()) {
    status = Sleep(kPoll.count());
    if (status.ok() && Now() > deadline) {
      status = absl::DeadlineExceededError(absl::StrCat("no other scheduler leads after ", options_.heal_timeout_s, " s"));
    }
  }
  held_down_.erase(leader);
  return status.ok() ? WaitForRecovery(AllShards(), at, injection) : status;
}

absl::Status Chaos::CutLinks(ChaosFault fault, const std::string& one, const std::string& other) {
  FaultNetwork* network = options_.network;
  absl::Status status;
  switch (fault) {
    case ChaosFault::kCutPair:
      status = network->Cut(one, other);
      status.Update(network->Cut(other, one));
      return status;
    case ChaosFault::kCutOneWay:
      return random_.Below(2) == 0 ? network->Cut(one, other) : network->Cut(other, one);
    default:
      break;
  }
  std::vector<std::string> others;
  for (int i = 0; i < options_.servers; ++i) others.push_back(ChaosCluster::ServerName(i));
  if (fault == ChaosFault::kIsolateServer) others.push_back("scheduler");
  for (const std::string& name : others) {
    if (name == one) continue;
    status.Update(network->Cut(one, name));
    status.Update(network->Cut(name, one));
  }
  return status;
}

absl::Status Chaos::OnLinks(ChaosFault fault, ChaosInjection* injection) {
  auto status = PatientStatus();
  if (!status.ok()) return status.status();
  auto target = ChooseServer(*status);
  if (!target.ok()) return target.status();
  std::string one = target->name(), other;
  auto reach = ReachOf(status->routing(), target->incarnation());
  if (!reach.ok()) return reach.status();
  if (fault == ChaosFault::kIsolateScheduler) {
    one = "scheduler";
    *reach = AllShards();
  } else if (fault != ChaosFault::kIsolateServer) {
    for (const MemberStatus& member : status->members()) {
      const Member& backup = member.member();
      if (backup.role() != SERVER || backup.incarnation() == target->incarnation()) continue;
      auto between = ReachOf(status->routing(), target->incarnation(), backup.incarnation());
      if (!between.ok() || between->led.empty()) continue;
      other = backup.name();
      reach = std::move(between);
    }
    if (other.empty()) return absl::InternalError(absl::StrCat(one, " has no backup"));
  }
  injection->target = other.empty() ? one : absl::StrCat(one, " and ", other);
  injection->shards = one == "scheduler" ? 0 : static_cast<int>(reach->led.size());
  workload_->ExpectFault();
  const TimeMs at = Now();
  absl::Status done = CutLinks(fault, one, other);
  if (done.ok()) done = WaitForRecovery(*reach, at, injection);
  if (done.ok()) done = Sleep(std::max<TimeMs>(0, at + 2 * options_.lease_ms - Now()));
  done.Update(options_.network->Heal());
  return done;
}

absl::Status Chaos::Audit() {
  if (absl::Status s = WaitUntilWhole("the last fault"); !s.ok()) return s;
  for (;;) {
    auto done = workload_->Audit();
    if (!done.ok() || *done) return done.status();
    if (absl::Status s = Sleep(kPoll.count()); !s.ok()) return s;
  }
}

}  // namespace

std::string ChaosConfig(const ChaosOptions& options) {
  return absl::StrCat(R"(# The job of tidegate chaos: its workers keep accounts and ask for no work, so the data is never read.
name: "chaos"
data { format: GENERATED train { rows: 1000 } generator { cardinality: [10] } }
feature { name: "C{1..1}" table: "emb" }
table { name: "emb" part { name: "w" dim: 1 sgd {} } }
model { preset { kind: LR wide: "emb.w" } }
train { epochs: 1 staleness: "inf" }
cluster {
  servers: )", options.servers, " workers: ", options.workers, " shards: ", options.shards, " replicas: ", options.replicas,
                      options.replicas < 2 ? "" : options.async ? " durability: ASYNC" : " durability: SYNC", "\n}\n");
}

absl::Status RunChaos(const ChaosOptions& options, ChaosResult* result) { return Chaos(options, result).Run(); }

}  // namespace tidegate::cli
