#include "cli/chaos/chaos_cluster.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/clock.h"
#include "common/routing_table.h"

namespace tidegate::cli {
namespace {

constexpr char kScheduler[] = "scheduler";
constexpr int kCallMs = 1000;
constexpr std::chrono::milliseconds kPoll{20};

TimeMs Now() { return RealClock().NowMs(); }

std::string LogName(std::string name, const char* ending) {
  for (char& c : name) c = c == '/' ? '-' : c;
  return name + ending;
}

}  // namespace

ChaosCluster::~ChaosCluster() = default;

std::string ChaosCluster::ServerName(int number) { return absl::StrCat("server/", number); }
std::string ChaosCluster::WorkerName(int number) { return absl::StrCat("worker/", number); }

std::vector<std::string> ChaosCluster::Schedulers() const {
  if (options_.schedulers == 1) return {kScheduler};
  std::vector<std::string> out;
  for (int i = 0; i < options_.schedulers; ++i) out.push_back(absl::StrCat(kScheduler, "/", i));
  return out;
}

std::string ChaosCluster::address() const {
  std::vector<std::string> out;
  for (const auto& [name, address] : addresses_) out.push_back(address);
  return absl::StrJoin(out, ",");
}

absl::Status ChaosCluster::Start() {
  std::error_code error;
  std::filesystem::create_directories(options_.run_dir + "/logs", error);
  if (error) return absl::InternalError(absl::StrCat("cannot make ", options_.run_dir, ": ", error.message()));
  for (const char* name : {"tidegate-scheduler", "tidegate-server", "tidegate-worker"}) {
    if (access((options_.bin_dir + "/" + name).c_str(), X_OK) != 0) {
      return absl::NotFoundError(absl::StrCat("no ", options_.bin_dir, "/", name, ": build it (./quickstart.sh does), or name its folder by --bin_dir"));
    }
  }
  for (const std::string& name : Schedulers()) {
    if (absl::Status s = StartScheduler(name); !s.ok()) return s;
  }
  for (int i = 0; i < options_.servers; ++i) {
    if (absl::Status s = StartMember(ServerName(i)); !s.ok()) return s;
  }
  for (int i = 0; i < options_.workers; ++i) {
    if (absl::Status s = StartMember(WorkerName(i)); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status ChaosCluster::StartAgain(const std::string& name) {
  return absl::StartsWith(name, kScheduler) ? StartScheduler(name) : StartMember(name);
}

absl::Status ChaosCluster::StartScheduler(const std::string& name) {
  const std::string address_file = absl::StrCat(options_.run_dir, "/", LogName(name, ".address"));
  std::error_code error;
  std::filesystem::remove(address_file, error);
  std::vector<std::string> argv = {options_.bin_dir + "/tidegate-scheduler", "--config=" + options_.config,
                                   "--state=" + (options_.state.empty() ? options_.run_dir + "/state" : options_.state),
                                   "--address_file=" + address_file, absl::StrCat("--lease_ms=", options_.lease_ms), "--metrics_port=-1",
                                   "--http_port=-1", absl::StrCat("--heartbeat_interval_ms=", options_.heartbeat_interval_ms)};
  for (const std::string& set : options_.sets) argv.push_back("--set=" + set);
  // A job of one's own may ask for checkpoints; a state that schedulers share needs a folder for them.
  if (options_.workers > 0 || !options_.state.empty()) argv.push_back("--checkpoint_dir=" + options_.run_dir + "/checkpoints");
  if (!options_.state.empty()) argv.push_back(absl::StrCat("--leader_ttl_s=", std::max(1, (options_.lease_ms + 999) / 1000)));
  // Members know the first address: a scheduler that comes back listens there again.
  if (absl::Status s = Launch(name, std::move(argv), addresses_[name]); !s.ok()) return s;
  const TimeMs deadline = Now() + options_.start_timeout_s * TimeMs{1000};
  while (Now() < deadline) {
    std::ifstream file(address_file);
    std::string line;
    if (std::getline(file, line) && !line.empty()) {
      addresses_[name] = line;
      clients_[name] = std::make_unique<StatusClient>(line);
      status_ = std::make_unique<StatusClient>(address());
      return absl::OkStatus();
    }
    Poll();
    if (!Running(name)) {
      return absl::FailedPreconditionError(absl::StrCat("the scheduler did not start: ", Ending(name), LastLine(name), " (logs: ", options_.run_dir, "/logs)"));
    }
    std::this_thread::sleep_for(kPoll);
  }
  return absl::DeadlineExceededError(absl::StrCat("the scheduler does not listen after ", options_.start_timeout_s, " s"));
}

absl::Status ChaosCluster::StartMember(const std::string& name) {
  const bool server = absl::StartsWith(name, "server");
  std::vector<std::string> argv = {options_.bin_dir + (server ? "/tidegate-server" : "/tidegate-worker"), "--scheduler=" + address(),
                                   "--name=" + name, "--metrics_port=-1"};
  if (server) argv.push_back("--executors=1");
  return Launch(name, std::move(argv), "");
}

std::string ChaosCluster::LastLine(const std::string& name) const {
  std::ifstream log(options_.run_dir + "/logs/" + LogName(name, ".log"));
  std::string line, last;
  while (std::getline(log, line)) {
    if (!line.empty()) last = ": " + line;
  }
  return last;
}

absl::StatusOr<std::string> ChaosCluster::Leader() const {
  for (const auto& [name, client] : clients_) {
    if (Running(name) && client->Get(kCallMs).ok()) return name;
  }
  return absl::UnavailableError("no scheduler leads");
}

absl::Status ChaosCluster::Launch(const std::string& name, std::vector<std::string> argv, std::string listen) {
  if (options_.network != nullptr && !absl::StartsWith(name, "worker")) {  // workers are where this process is
    auto prefix = options_.network->Enter(name);
    if (!prefix.ok()) return prefix.status();
    if (listen.empty()) listen = options_.network->AddressOf(name) + ":0";
    argv.push_back("--insecure_bind");
    argv.insert(argv.begin(), prefix->begin(), prefix->end());
  }
  if (!listen.empty()) argv.push_back("--listen=" + listen);
  auto process = ChildProcess::Start(name, argv);
  if (!process.ok()) return process.status();
  endings_.erase(name);
  exit_statuses_.erase(name);
  processes_[name] = *std::move(process);
  return absl::OkStatus();
}

void ChaosCluster::Signal(const std::string& name, int signal) {
  const auto it = processes_.find(name);
  if (it != processes_.end()) it->second->Signal(signal);
}

std::vector<std::string> ChaosCluster::Poll() {
  std::vector<std::string> ended;
  for (const auto& [name, process] : processes_) {
    const bool over = process->Ended();
    char buffer[16384];
    ssize_t n;
    while (process->output() >= 0 && (n = read(process->output(), buffer, sizeof buffer)) > 0) {
      std::ofstream(options_.run_dir + "/logs/" + LogName(name, ".log"), std::ios::app).write(buffer, n);
    }
    if (over) {
      ended.push_back(name);
      endings_[name] = process->Ending();
      exit_statuses_[name] = process->exit_status();
      if (absl::StartsWith(name, kScheduler) && !process->killed()) job_end_ = process->exit_status();
    }
  }
  for (const std::string& name : ended) processes_.erase(name);
  return ended;
}

bool ChaosCluster::Running(const std::string& name) const { return processes_.contains(name); }

std::string ChaosCluster::Ending(const std::string& name) const {
  const auto it = endings_.find(name);
  return it == endings_.end() ? "" : it->second;
}

int ChaosCluster::ExitStatus(const std::string& name) const {
  const auto it = exit_statuses_.find(name);
  return it == exit_statuses_.end() ? -1 : it->second;
}

absl::Status ChaosCluster::Drain(const std::string& name) const { return status_->Drain(name, /*restart=*/true, kCallMs).status(); }

absl::StatusOr<GetStatusResponse> ChaosCluster::Status() const { return status_->Get(kCallMs); }

void ChaosCluster::Stop(int grace_s) {
  if (status_ != nullptr) status_->Stop("tidegate chaos is done", kCallMs).IgnoreError();
  for (const int signal : {0, SIGTERM, SIGKILL}) {
    for (const auto& [name, process] : processes_) {
      process->Signal(SIGCONT);
      if (signal != 0) process->Signal(signal);
    }
    const TimeMs until = Now() + grace_s * TimeMs{1000};
    while (!processes_.empty() && Now() < until) {
      Poll();
      std::this_thread::sleep_for(kPoll);
    }
  }
}

absl::StatusOr<std::set<ShardId>> ShardsBetween(const RoutingTable& table, Incarnation primary, Incarnation backup) {
  auto routing = Routing::FromProto(table);
  if (!routing.ok()) return routing.status();
  std::set<ShardId> out;
  for (const ShardId shard : routing->ShardsOf(primary)) {
    const auto backups = routing->BackupsOf(shard);
    if (backup == 0 || std::find(backups.begin(), backups.end(), backup) != backups.end()) out.insert(shard);
  }
  return out;
}

absl::StatusOr<std::set<ShardId>> ShardsWithout(const RoutingTable& table, const std::set<Incarnation>& servers) {
  auto routing = Routing::FromProto(table);
  if (!routing.ok()) return routing.status();
  std::set<ShardId> out;
  for (ShardId shard = 0; shard < routing->shards(); ++shard) {
    const auto backups = routing->BackupsOf(shard);
    const bool has_one = std::any_of(backups.begin(), backups.end(), [&](Incarnation backup) { return servers.contains(backup); });
    if (!has_one && !servers.contains(routing->PrimaryOf(shard))) out.insert(shard);
  }
  return out;
}

}  // namespace tidegate::cli
