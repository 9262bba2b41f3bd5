#include "cli/chaos/chaos_run.h"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "cli/chaos/accounting_worker.h"
#include "cli/chaos/chaos_cluster.h"
#include "common/clock.h"
#include "common/exit_codes.h"
#include "common/random.h"

namespace tidegate::cli {
namespace {

constexpr ChaosFault kFaults[] = {ChaosFault::kKillServer,    ChaosFault::kPauseServer,  ChaosFault::kKillScheduler,
                                  ChaosFault::kPauseScheduler, ChaosFault::kNoScheduler,  ChaosFault::kRestartServer, ChaosFault::kCutPair,
                                  ChaosFault::kCutOneWay,      ChaosFault::kIsolateServer, ChaosFault::kIsolateScheduler};
constexpr std::chrono::milliseconds kPoll{10};
constexpr TimeMs kInFlightMs = 20;     // what was acknowledged before a fault has arrived by then
constexpr TimeMs kRestartMsMax = 500;  // after which a killed server comes back
constexpr TimeMs kCalmMs = 500;        // between a healed cluster and the next fault
constexpr int kDrainTimeoutS = 60;
constexpr int kGraceS = 10;
constexpr size_t kKeysPerShard = 16;

TimeMs Now() { return RealClock().NowMs(); }

class Chaos {
 public:
  Chaos(const ChaosOptions& options, ChaosResult* result) : options_(options), result_(result), random_(options.seed) {}

  absl::Status Run() {
    absl::Status status = Start();
    if (status.ok()) status = InjectAll();
    if (status.ok()) status = Audit();
    for (const auto& worker : workers_) {
      result_->pushes += worker->counts().pushes;
      result_->checks += worker->counts().checks;
      result_->lost += worker->counts().lost;
    }
    workers_.clear();
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
  absl::Status OnLinks(ChaosFault fault, ChaosInjection* injection);
  absl::Status CutLinks(ChaosFault fault, const std::string& one, const std::string& other);
  // A running server that is primary of something.
  absl::StatusOr<Member> ChooseServer(const GetStatusResponse& status);
  absl::Status Audit();
  // One round of watching: logs, processes to start again, the workers' books.
  absl::Status Watch();
  absl::Status Sleep(TimeMs ms);
  absl::Status WaitUntilWhole(const char* after);
  absl::Status WaitForRecovery(const std::set<ShardId>& shards, TimeMs since, ChaosInjection* injection);
  void TakeAcknowledgements();

  const ChaosOptions& options_;
  ChaosResult* const result_;
  Random random_;
  TimeMs begun_ = 0;
  std::unique_ptr<ChaosCluster> cluster_;
  std::vector<std::unique_ptr<AccountingWorker>> workers_;
  std::vector<AccountingWorker::Acknowledgement> acknowledgements_;  // since the newest fault
  std::map<int, TimeMs> restart_at_;  // servers that are down
  std::set<std::string> held_down_;   // processes that are not to be started again now
};

absl::Status Chaos::Start() {
  ChaosCluster::Options cluster;
  cluster.bin_dir = options_.bin_dir;
  cluster.run_dir = options_.run_dir;
  cluster.config = options_.run_dir + "/chaos.textproto";
  cluster.servers = options_.servers;
  cluster.lease_ms = options_.lease_ms;
  cluster.heartbeat_interval_ms = options_.heartbeat_interval_ms;
  cluster.network = options_.network;
  std::ofstream file(cluster.config);
  file << ChaosConfig(options_);
  file.close();
  if (!file) return absl::InternalError(absl::StrCat("cannot write ", cluster.config));
  cluster_ = std::make_unique<ChaosCluster>(cluster);
  if (absl::Status s = cluster_->Start(); !s.ok()) return s;
  std::vector<absl::Status> started(static_cast<size_t>(options_.workers));
  std::vector<std::thread> threads;
  for (int i = 0; i < options_.workers; ++i) {
    AccountingWorker::Options worker;
    worker.scheduler = cluster_->address();
    worker.number = i;
    worker.seed = options_.seed;
    worker.keys_per_shard = kKeysPerShard;
    worker.tail_may_be_lost = options_.async;
    workers_.push_back(std::make_unique<AccountingWorker>(worker));
    threads.emplace_back([w = workers_.back().get(), s = &started[static_cast<size_t>(i)]] { *s = w->Start(); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : started) {
    if (!status.ok()) return status;
  }
  begun_ = Now();
  return WaitUntilWhole("the start");
}

absl::Status Chaos::Watch() {
  for (const std::string& name : cluster_->Poll()) {
    if (held_down_.contains(name)) continue;
    if (name == "scheduler") {
      options_.say(absl::StrCat("the scheduler ended by itself: ", cluster_->Ending(name), "; starting it again"));
      if (absl::Status s = cluster_->StartScheduler(); !s.ok()) return s;
    } else {
      restart_at_[std::stoi(name.substr(name.find('/') + 1))] = Now();
    }
  }
  for (auto it = restart_at_.begin(); it != restart_at_.end();) {
    if (it->second > Now()) {
      ++it;
      continue;
    }
    if (absl::Status s = cluster_->StartServer(it->first); !s.ok()) return s;
    it = restart_at_.erase(it);
  }
  TakeAcknowledgements();
  for (const auto& worker : workers_) {
    if (absl::Status s = worker->Health(); !s.ok()) return s;
  }
  if (options_.signals && options_.signals() > 0) return absl::CancelledError("stopped by a signal");
  return absl::OkStatus();
}

void Chaos::TakeAcknowledgements() {
  for (const auto& worker : workers_) {
    const auto taken = worker->TakeAcknowledgements();
    acknowledgements_.insert(acknowledgements_.end(), taken.begin(), taken.end());
  }
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
    auto status = cluster_->Status();
    if (status.ok()) {
      if (status->phase() == FAILED) return absl::AbortedError("the job failed: " + status->message());
      if (status->settled()) return absl::OkStatus();
      waits_for = absl::StrCat(status->degraded_shards(), " of ", options_.shards, " shards to have ", options_.replicas, " replicas");
    }
    std::this_thread::sleep_for(kPoll);
  }
  return absl::DeadlineExceededError(absl::StrCat("after ", after, ": waited ", options_.heal_timeout_s, " s for ", waits_for,
                                                  " (logs: ", options_.run_dir, "/logs)"));
}

absl::Status Chaos::WaitForRecovery(const std::set<ShardId>& shards, TimeMs since, ChaosInjection* injection) {
  const TimeMs deadline = Now() + options_.heal_timeout_s * TimeMs{1000};
  std::set<ShardId> left = shards;
  size_t seen = 0;
  std::vector<TimeMs> elsewhere = {since};
  while (!left.empty()) {
    if (Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat(NameOf(injection->fault), " ", injection->target, ": no push to shard ", *left.begin(), " and ",
                                                      left.size() - 1, " others was acknowledged within ", options_.heal_timeout_s, " s"));
    }
    if (absl::Status s = Watch(); !s.ok()) return s;
    std::sort(acknowledgements_.begin() + static_cast<std::ptrdiff_t>(seen), acknowledgements_.end(),
              [](const auto& a, const auto& b) { return a.at < b.at; });
    for (; seen < acknowledgements_.size(); ++seen) {
      const auto& ack = acknowledgements_[seen];
      if (!shards.contains(ack.shard)) {
        elsewhere.push_back(ack.at);
      } else if (ack.at >= since + kInFlightMs && left.erase(ack.shard) > 0) {
        if (injection->first_ms < 0) injection->first_ms = ack.at - since;
        injection->recovery_ms = std::max(injection->recovery_ms, ack.at - since);
      }
    }
    std::this_thread::sleep_for(kPoll);
  }
  elsewhere.push_back(since + injection->recovery_ms);
  std::sort(elsewhere.begin(), elsewhere.end());
  for (size_t i = 1; i < elsewhere.size(); ++i) injection->elsewhere_ms = std::max(injection->elsewhere_ms, elsewhere[i] - elsewhere[i - 1]);
  return absl::OkStatus();
}

absl::Status Chaos::InjectAll() {
  const TimeMs until = begun_ + static_cast<TimeMs>(options_.minutes * 60'000);
  for (int i = 0; options_.count > 0 ? i < options_.count : Now() < until; ++i) {
    if (absl::Status s = Sleep(kCalmMs); !s.ok()) return s;
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
                                            : OnScheduler(fault, &injection);
  if (!status.ok()) return absl::Status(status.code(), absl::StrCat(NameOf(fault), " ", injection.target, ": ", std::string(status.message())));
  std::string line = absl::StrCat("[", (at - begun_) / 1000, ".", (at - begun_) / 100 % 10, " s] ", NameOf(fault), " ", injection.target);
  if (injection.shards > 0) absl::StrAppend(&line, " (primary of ", injection.shards, ")");
  if (injection.first_ms >= 0) {
    absl::StrAppend(&line, ": first push acknowledged after ", injection.first_ms, " ms, all its shards after ", injection.recovery_ms,
                    " ms; others paused for ", injection.elsewhere_ms, " ms at most");
  }
  if (injection.gap_ms >= 0) absl::StrAppend(&line, ": ended empty; a push to one of its shards waited for ", injection.gap_ms, " ms at most");
  result_->injections.push_back(injection);
  status = WaitUntilWhole(NameOf(fault));
  options_.say(absl::StrCat(line, "; whole again after ", Now() - at, " ms"));
  return status;
}

absl::StatusOr<Member> Chaos::ChooseServer(const GetStatusResponse& status) {
  std::vector<Member> targets;
  for (const MemberStatus& member : status.members()) {
    if (member.shards() > 0 && cluster_->Running(member.member().name())) targets.push_back(member.member());
  }
  if (targets.empty()) return absl::InternalError("no server is primary of anything");
  return targets[random_.Below(targets.size())];
}

absl::Status Chaos::OnServer(ChaosFault fault, ChaosInjection* injection) {
  auto status = cluster_->Status();
  if (!status.ok()) return status.status();
  auto target = ChooseServer(*status);
  if (!target.ok()) return target.status();
  const std::string name = target->name();
  const auto shards = ShardsBetween(status->routing(), target->incarnation(), 0);
  if (!shards.ok()) return shards.status();
  injection->target = name;
  injection->shards = static_cast<int>(shards->size());
  acknowledgements_.clear();
  const TimeMs at = Now();
  if (fault == ChaosFault::kRestartServer) return Restart(name, *shards, injection);
  if (fault == ChaosFault::kKillServer) {
    held_down_.insert(name);
    cluster_->Signal(name, SIGKILL);
    while (cluster_->Running(name)) cluster_->Poll();
    held_down_.erase(name);
    restart_at_[std::stoi(name.substr(name.find('/') + 1))] = at + static_cast<TimeMs>(random_.Below(kRestartMsMax));
    return WaitForRecovery(*shards, at, injection);
  }
  cluster_->Signal(name, SIGSTOP);
  absl::Status recovered = WaitForRecovery(*shards, at, injection);
  if (recovered.ok()) recovered = Sleep(std::max<TimeMs>(0, at + 2 * options_.lease_ms - Now()));
  cluster_->Signal(name, SIGCONT);
  return recovered;
}

// Nothing is lost or waited for: others lead its shards before it ends.
absl::Status Chaos::Restart(const std::string& name, const std::set<ShardId>& shards, ChaosInjection* injection) {
  const TimeMs at = Now(), deadline = at + options_.heal_timeout_s * TimeMs{1000};
  if (absl::Status s = cluster_->Drain(name); !s.ok()) return s;
  held_down_.insert(name);
  while (cluster_->Running(name)) {
    if (Now() > deadline) return absl::DeadlineExceededError(absl::StrCat(name, " is not empty after ", options_.heal_timeout_s, " s"));
    if (absl::Status s = Watch(); !s.ok()) return s;
    std::this_thread::sleep_for(kPoll);
  }
  held_down_.erase(name);
  if (cluster_->ExitStatus(name) != kExitRestart) return absl::InternalError(absl::StrCat(name, " ended: ", cluster_->Ending(name)));
  if (absl::Status s = Sleep(kInFlightMs); !s.ok()) return s;
  std::map<ShardId, TimeMs> last;
  for (const ShardId shard : shards) last[shard] = at;
  std::sort(acknowledgements_.begin(), acknowledgements_.end(), [](const auto& a, const auto& b) { return a.at < b.at; });
  for (const auto& ack : acknowledgements_) {
    if (const auto it = last.find(ack.shard); it != last.end()) {
      injection->gap_ms = std::max(injection->gap_ms, ack.at - it->second);
      it->second = ack.at;
    }
  }
  for (const auto& [shard, at_last] : last) injection->gap_ms = std::max(injection->gap_ms, Now() - at_last);
  restart_at_[std::stoi(name.substr(name.find('/') + 1))] = Now() + static_cast<TimeMs>(random_.Below(kRestartMsMax));
  return absl::OkStatus();
}

absl::Status Chaos::OnScheduler(ChaosFault fault, ChaosInjection* injection) {
  injection->target = "scheduler";
  std::set<ShardId> all;
  for (int shard = 0; shard < options_.shards; ++shard) all.insert(static_cast<ShardId>(shard));
  acknowledgements_.clear();
  const TimeMs at = Now();
  if (fault == ChaosFault::kPauseScheduler) {
    cluster_->Signal("scheduler", SIGSTOP);
    absl::Status status = Sleep(2 * options_.lease_ms);
    if (status.ok()) status = WaitForRecovery(all, at + options_.lease_ms, injection);
    cluster_->Signal("scheduler", SIGCONT);
    return status;
  }
  held_down_.insert("scheduler");
  cluster_->Signal("scheduler", SIGKILL);
  while (cluster_->Running("scheduler")) cluster_->Poll();
  absl::Status status;
  if (fault == ChaosFault::kNoScheduler) {
    status = Sleep(5 * options_.lease_ms);
    // Pushes to every shard are acknowledged in the last of them.
    if (status.ok()) status = WaitForRecovery(all, at + 4 * options_.lease_ms, injection);
  }
  held_down_.erase("scheduler");
  if (!status.ok()) return status;
  return cluster_->StartScheduler();
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
  auto status = cluster_->Status();
  if (!status.ok()) return status.status();
  auto target = ChooseServer(*status);
  if (!target.ok()) return target.status();
  std::string one = target->name(), other;
  auto shards = ShardsBetween(status->routing(), target->incarnation(), 0);
  if (!shards.ok()) return shards.status();
  if (fault == ChaosFault::kIsolateScheduler) {
    one = "scheduler";
    for (int shard = 0; shard < options_.shards; ++shard) shards->insert(static_cast<ShardId>(shard));
  } else if (fault != ChaosFault::kIsolateServer) {
    for (const MemberStatus& member : status->members()) {
      const Member& backup = member.member();
      if (backup.role() != SERVER || backup.incarnation() == target->incarnation()) continue;
      auto between = ShardsBetween(status->routing(), target->incarnation(), backup.incarnation());
      if (!between.ok() || between->empty()) continue;
      other = backup.name();
      shards = *std::move(between);
    }
    if (other.empty()) return absl::InternalError(absl::StrCat(one, " has no backup"));
  }
  injection->target = other.empty() ? one : absl::StrCat(one, " and ", other);
  injection->shards = one == "scheduler" ? 0 : static_cast<int>(shards->size());
  acknowledgements_.clear();
  const TimeMs at = Now();
  absl::Status done = CutLinks(fault, one, other);
  if (done.ok()) done = WaitForRecovery(*shards, at, injection);
  if (done.ok()) done = Sleep(std::max<TimeMs>(0, at + 2 * options_.lease_ms - Now()));
  done.Update(options_.network->Heal());
  return done;
}

absl::Status Chaos::Audit() {
  if (absl::Status s = WaitUntilWhole("the last fault"); !s.ok()) return s;
  for (const auto& worker : workers_) {
    if (absl::Status s = worker->Drain(kDrainTimeoutS); !s.ok()) return s;
  }
  for (const auto& worker : workers_) {
    if (absl::Status s = worker->Audit(kDrainTimeoutS); !s.ok()) return s;
    result_->rows += static_cast<uint64_t>(options_.shards) * kKeysPerShard;
  }
  return absl::OkStatus();
}

}  // namespace

const char* NameOf(ChaosFault fault) {
  switch (fault) {
    case ChaosFault::kKillServer: return "kill-server";
    case ChaosFault::kPauseServer: return "pause-server";
    case ChaosFault::kKillScheduler: return "kill-scheduler";
    case ChaosFault::kPauseScheduler: return "pause-scheduler";
    case ChaosFault::kNoScheduler: return "no-scheduler";
    case ChaosFault::kRestartServer: return "restart-server";
    case ChaosFault::kCutPair: return "cut-pair";
    case ChaosFault::kCutOneWay: return "cut-one-way";
    case ChaosFault::kIsolateServer: return "isolate-server";
    case ChaosFault::kIsolateScheduler: return "isolate-scheduler";
  }
  return "?";
}

bool CutsLinks(ChaosFault fault) {
  return fault == ChaosFault::kCutPair || fault == ChaosFault::kCutOneWay || fault == ChaosFault::kIsolateServer || fault == ChaosFault::kIsolateScheduler;
}

bool HitsServer(ChaosFault fault) {
  return fault == ChaosFault::kKillServer || fault == ChaosFault::kPauseServer || fault == ChaosFault::kRestartServer || fault == ChaosFault::kCutPair ||
         fault == ChaosFault::kCutOneWay || fault == ChaosFault::kIsolateServer;
}

absl::StatusOr<std::vector<ChaosFault>> ParseFaults(const std::string& list) {
  std::vector<ChaosFault> out;
  std::string known = "all, network";
  for (const ChaosFault fault : kFaults) known += std::string(", ") + NameOf(fault);
  for (const std::string& word : static_cast<std::vector<std::string>>(absl::StrSplit(list, ','))) {
    if (word == "all" || word == "network") {
      std::copy_if(std::begin(kFaults), std::end(kFaults), std::back_inserter(out),
                   [&](ChaosFault f) { return CutsLinks(f) == (word == "network"); });
      continue;
    }
    const auto fault = std::find_if(std::begin(kFaults), std::end(kFaults), [&](ChaosFault f) { return word == NameOf(f); });
    if (fault == std::end(kFaults)) return absl::InvalidArgumentError(absl::StrCat("no fault \"", word, "\": there are ", known));
    out.push_back(*fault);
  }
  return out;
}

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
