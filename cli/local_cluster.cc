#include "cli/local_cluster.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/status_text.h"
#include "common/clock.h"
#include "common/exit_codes.h"

namespace tidegate::cli {
namespace {

constexpr int kRestartsMax = 5;         // of the scheduler
constexpr int kServerRestartsMax = 20;  // of all servers, after deaths
constexpr int kStatusPeriodMs = 500;
constexpr int kPollMs = 100;
constexpr int kStopSchedulerMs = 3000;
constexpr int kWithoutStatusMs = 500;

TimeMs Now() { return RealClock().NowMs(); }

int Share(int processes) {
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  return std::max(1, cores / std::max(1, processes));
}

int TerminalWidth() {
  winsize size;
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col - 1 : 0;
}

bool IsWorker(const std::string& name) { return name.rfind("worker", 0) == 0; }

// "http://127.0.0.1:4000/" of the scheduler's line about itself.
std::string StatusPage(const std::string& lines) {
  constexpr std::string_view kBefore = "status page at ";
  const size_t at = lines.find(kBefore);
  if (at == std::string::npos) return "";
  const size_t begin = at + kBefore.size();
  return lines.substr(begin, lines.find_first_of(" ,\n", begin) - begin);
}

bool HasFlag(const std::vector<std::string>& args, const std::string& name) {
  return std::any_of(args.begin(), args.end(), [&](const std::string& arg) {
    return arg == "--" + name || arg.rfind("--" + name + "=", 0) == 0;
  });
}

}  // namespace

LocalCluster::LocalCluster(LocalClusterOptions options, Terminal* terminal)
    : options_(std::move(options)), terminal_(terminal) {}

LocalCluster::~LocalCluster() {
  status_stop_ = true;
  if (status_thread_.joinable()) status_thread_.join();
}

std::optional<LocalCluster::Status> LocalCluster::last_status() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return status_;
}

std::vector<pid_t> LocalCluster::ServerPids() const {
  std::vector<pid_t> pids;
  for (const auto& member : members_) {
    if (member->name().rfind("server", 0) == 0) pids.push_back(member->pid());
  }
  return pids;
}

absl::Status LocalCluster::Start() {
  for (const char* name : {"tidegate-scheduler", "tidegate-server", "tidegate-worker"}) {
    if (access(Binary(name).c_str(), X_OK) != 0) {
      return absl::NotFoundError(absl::StrCat("no ", Binary(name), ": build it (./quickstart.sh does), or name its folder by --bin_dir"));
    }
  }
  std::error_code error;
  std::filesystem::create_directories(options_.run_dir + "/logs", error);
  if (error) return absl::InternalError(absl::StrCat("cannot make ", options_.run_dir, ": ", error.message()));
  begun_ = std::filesystem::exists(options_.run_dir + "/state/scheduler.state", error);
  std::filesystem::remove(options_.run_dir + "/address", error);
  std::filesystem::remove(summary_path(), error);
  if (absl::Status s = StartScheduler(); !s.ok()) return s;
  if (absl::Status s = WaitForAddress(); !s.ok()) return s;
  accepted_ = true;
  if (ended_) return absl::OkStatus();
  status_thread_ = std::thread([this] { PollStatus(); });
  if (begun_) {
    if (absl::Status s = WaitForStoredJob(); !s.ok() || ended_) return s;
  }
  return StartMembers();
}

absl::Status LocalCluster::StartScheduler() {
  std::vector<std::string> argv = {Binary("tidegate-scheduler"), "--config=" + options_.config,
                                   "--state=" + options_.run_dir + "/state", "--summary=" + summary_path(),
                                   "--metrics_dir=" + options_.run_dir,
                                   "--address_file=" + options_.run_dir + "/address",
                                   absl::StrCat("--metrics_port=", options_.metrics_port),
                                   absl::StrCat("--http_port=", options_.http_port)};
  AddProfileFlags("scheduler", &argv);
  for (const std::string& set : options_.sets) argv.push_back("--set=" + set);
  argv.push_back(absl::StrCat("--set=cluster.servers=", options_.servers));
  argv.push_back(absl::StrCat("--set=cluster.workers=", options_.workers + options_.external_workers));
  if (!options_.checkpoint_dir.empty()) argv.push_back("--checkpoint_dir=" + options_.checkpoint_dir);
  argv.insert(argv.end(), options_.scheduler_args.begin(), options_.scheduler_args.end());
  if (options_.fresh && address_.empty()) argv.push_back("--fresh");
  if (begun_ && address_.empty()) argv.push_back("--members_gone");  // they ended with the `tidegate local` that ran them
  // Members know the first address: a scheduler that comes back listens there again.
  if (!address_.empty()) argv.push_back("--listen=" + address_);
  auto process = ChildProcess::Start("scheduler", argv);
  if (!process.ok()) return process.status();
  scheduler_ = *std::move(process);
  return absl::OkStatus();
}

void LocalCluster::AddProfileFlags(const std::string& name, std::vector<std::string>* argv) {
  if (options_.profile_steps <= 0) return;
  std::string file = name;
  std::replace(file.begin(), file.end(), '/', '-');
  trace_files_.push_back(absl::StrCat(options_.run_dir, "/trace-", file, ".json"));
  argv->push_back(absl::StrCat("--profile=", options_.profile_steps));
  argv->push_back("--profile_file=" + trace_files_.back());
}

absl::Status LocalCluster::WaitForAddress() {
  const TimeMs deadline = Now() + options_.start_timeout_s * 1000;
  while (Now() < deadline) {
    PollOutputs(kPollMs);
    std::ifstream file(options_.run_dir + "/address");
    std::string line;
    if (std::getline(file, line) && !line.empty()) {
      address_ = line;
      return absl::OkStatus();
    }
    if (scheduler_->Ended()) {
      Drain(scheduler_.get());
      if (scheduler_->exit_status() == 0) {  // nothing is left to do
        ended_ = true;
        exit_status_ = 0;
        return absl::OkStatus();
      }
      return Refusal();
    }
    if (options_.signals && options_.signals() > 0) return StopBeforeStart();
  }
  return absl::DeadlineExceededError(
      absl::StrCat("the scheduler does not listen after ", options_.start_timeout_s, " s; its log is in ", options_.run_dir, "/logs"));
}

absl::Status LocalCluster::Refusal() {
  const std::string why = LastError("scheduler");
  std::string message = absl::StrCat("the scheduler did not start: ", scheduler_->Ending(), why.empty() ? "" : ": ", why);
  if (begun_) {
    absl::StrAppend(&message, " (--run_dir=", options_.run_dir,
                    " holds the state and the results of an earlier run, which are kept: name another folder, or that run's config)");
  }
  return absl::FailedPreconditionError(message);
}

absl::Status LocalCluster::StopBeforeStart() {
  terminal_->Say("tidegate: stopping before the job has started: tidegate local got a signal");
  scheduler_->Signal(SIGTERM);
  const TimeMs until = Now() + kStopSchedulerMs;
  while (!scheduler_->Ended() && Now() < until) PollOutputs(kPollMs);
  Drain(scheduler_.get());
  return absl::CancelledError("stopped: tidegate local got a signal before the job had started");
}

// A job that has ended needs no members: its scheduler tells of the end, and leaves.
absl::Status LocalCluster::WaitForStoredJob() {
  const TimeMs deadline = Now() + options_.start_timeout_s * 1000;
  while (Now() < deadline) {
    PollOutputs(kPollMs);
    if (scheduler_->Ended()) {
      if (scheduler_->killed()) return Refusal();
      Drain(scheduler_.get());
      ended_ = already_ended_ = true;
      exit_status_ = scheduler_->exit_status();
      return absl::OkStatus();
    }
    if (options_.signals && options_.signals() > 0) return StopBeforeStart();
    const std::optional<Status> status = last_status();
    if (status && status->response.phase() != FINISHED && status->response.phase() != FAILED) return absl::OkStatus();
  }
  return absl::DeadlineExceededError(absl::StrCat("the scheduler at ", address_, " does not answer; its log is in ", options_.run_dir, "/logs"));
}

absl::Status LocalCluster::StartMembers() {
  int metrics_port = options_.metrics_port;
  auto start = [&](const char* binary, const std::string& name, std::vector<std::string> args) -> absl::Status {
    if (metrics_port > 0) ++metrics_port;
    std::vector<std::string> argv = {Binary(binary), "--scheduler=" + address_, "--name=" + name,
                                     absl::StrCat("--metrics_port=", metrics_port)};
    AddProfileFlags(name, &argv);
    argv.insert(argv.end(), args.begin(), args.end());
    auto process = ChildProcess::Start(name, argv, IsWorker(name) && options_.worker_stdin);
    if (!process.ok()) return process.status();
    if (!IsWorker(name)) server_argv_[name] = argv;
    members_.push_back(*std::move(process));
    return absl::OkStatus();
  };
  // Compute threads of several processes share these cores: one that spins at a barrier takes the core of
  // the one that it waits for.
  setenv("OMP_WAIT_POLICY", "passive", 0);
  std::vector<std::string> server_args = options_.server_args;
  if (!HasFlag(server_args, "executors")) server_args.push_back(absl::StrCat("--executors=", Share(options_.servers)));
  std::vector<std::string> worker_args = options_.worker_args;
  if (!HasFlag(worker_args, "compute_threads")) {
    worker_args.push_back(absl::StrCat("--compute_threads=", Share(options_.workers)));
  }
  for (int i = 0; i < options_.servers; ++i) {
    if (absl::Status s = start("tidegate-server", absl::StrCat("server/", i), server_args); !s.ok()) return s;
  }
  for (int i = 0; i < options_.workers; ++i) {
    if (absl::Status s = start("tidegate-worker", absl::StrCat("worker/", i), worker_args); !s.ok()) return s;
    ++workers_alive_;
  }
  return absl::OkStatus();
}

void LocalCluster::Drain(ChildProcess* process) {
  char buffer[16384];
  while (process->output() >= 0) {
    const ssize_t n = read(process->output(), buffer, sizeof buffer);
    if (n > 0) {
      last_output_ms_ = Now();
      terminal_->Output(process->name(), std::string_view(buffer, static_cast<size_t>(n)));
      continue;
    }
    if (n == 0) {
      terminal_->EndOutput(process->name());
      process->CloseOutput();
    }
    return;
  }
}

void LocalCluster::PollOutputs(int timeout_ms) {
  std::vector<pollfd> fds;
  std::vector<ChildProcess*> processes;
  auto add = [&](ChildProcess* process) {
    if (process == nullptr || process->output() < 0) return;
    fds.push_back({process->output(), POLLIN, 0});
    processes.push_back(process);
  };
  add(scheduler_.get());
  for (const auto& member : members_) add(member.get());
  if (poll(fds.data(), fds.size(), timeout_ms) <= 0) return;
  for (size_t i = 0; i < fds.size(); ++i) {
    if (fds[i].revents != 0) Drain(processes[i]);
  }
}

bool LocalCluster::Step(int timeout_ms) {
  const TimeMs until = Now() + timeout_ms;
  do {
    PollOutputs(static_cast<int>(std::clamp<TimeMs>(until - Now(), 0, kPollMs)));
    Reap();
    JudgeDeaths();
    SayWatch();
    if (stop_at_ms_ != 0 && Now() > stop_at_ms_ && scheduler_ && !scheduler_->Ended()) {
      terminal_->Say("tidegate: the scheduler does not end: SIGKILL");
      scheduler_->Signal(SIGKILL);
      stop_at_ms_ = 0;
    }
  } while (!ended_ && Now() < until);
  if (!ended_ && options_.show_progress) ShowProgress();
  return !ended_;
}

void LocalCluster::Reap() {
  // Asked once: who ends after this is met the next time.
  const auto ended = std::stable_partition(members_.begin(), members_.end(), [](const auto& m) { return !m->Ended(); });
  std::vector<std::unique_ptr<ChildProcess>> met(std::make_move_iterator(ended), std::make_move_iterator(members_.end()));
  members_.erase(ended, members_.end());
  for (const auto& member : met) OnMemberEnd(member.get());
  if (!ended_ && scheduler_->Ended()) OnSchedulerEnd();
}

void LocalCluster::OnMemberEnd(ChildProcess* process) {
  Drain(process);
  terminal_->EndOutput(process->name());
  if (IsWorker(process->name())) --workers_alive_;
  if (process->exit_status() == 0) return;
  const bool meant = process->exit_status() == kExitRestart && !IsWorker(process->name());
  if (!meant) endings_.push_back(process->name() + ": " + process->Ending());
  if (stops_ > 0 || ended_) return;
  const std::string error = LastError(process->name());
  deaths_.push_back({process->name(), process->Ending() + (error.empty() ? "" : ": ") + error, Now(), meant});
}

bool LocalCluster::StartAgain(const Death& death) {
  if (!options_.restart_servers || IsWorker(death.name)) return false;
  if (!death.meant && server_restarts_ >= kServerRestartsMax) return false;
  auto process = ChildProcess::Start(death.name, server_argv_.at(death.name));
  if (!process.ok()) return false;
  server_restarts_ += death.meant ? 0 : 1;
  terminal_->Say(absl::StrCat("tidegate: ", death.name, death.meant ? " is empty" : " ended: ", death.meant ? "" : death.why, "; starting it again",
                              death.meant ? "" : ", empty"));
  members_.push_back(*std::move(process));
  return true;
}

// By what the scheduler says of the job after the death: a member that ends because the job has ended is no news.
void LocalCluster::JudgeDeaths() {
  if (stops_ > 0 || ended_) deaths_.clear();
  const std::optional<Status> status = last_status();
  while (!deaths_.empty()) {
    const Death death = deaths_.front();
    const bool known = status && status->asked_ms > death.at_ms;
    const bool silent = Now() - death.at_ms > options_.answer_timeout_s * TimeMs{1000};
    if (!known && !(silent && workers_alive_ == 0)) return;
    deaths_.erase(deaths_.begin());
    const Phase phase = known ? status->response.phase() : TRAINING;
    if (phase == FINISHED || phase == FAILED) continue;
    const bool restored = known && status->response.restores_total() > 0;
    if (phase == STARTING && !restored) return GiveUp(absl::StrCat(death.name, " ended before the job started: ", death.why));
    if (known && StartAgain(death)) continue;
    const bool goes_on = IsWorker(death.name) && workers_alive_ > 0;
    terminal_->Say(absl::StrCat("tidegate: ", death.name, " ended: ", death.why, goes_on ? "; the job goes on without it" : ""));
    if (workers_alive_ == 0) return GiveUp(absl::StrCat("no worker is left: ", death.name, " ended: ", death.why));
  }
}

void LocalCluster::GiveUp(const std::string& reason) {
  deaths_.clear();
  Stop(reason);
}

std::string LocalCluster::LastError(const std::string& name) const {
  std::string error;
  std::istringstream lines(terminal_->LastLines(name));
  for (std::string line; std::getline(lines, line);) {
    if (!ErrorText(line).empty()) error = std::string(ErrorText(line));
  }
  return error;
}

void LocalCluster::SayWatch() {
  if (!options_.say_watch || watch_said_ || ended_) return;
  const std::string page = StatusPage(terminal_->LastLines("scheduler"));
  if (page.empty() && options_.http_port >= 0) return;
  watch_said_ = true;
  terminal_->Say(absl::StrCat("watch  ", page, page.empty() ? "" : "  or  ", "tidegate top --scheduler=", address_));
}

void LocalCluster::OnSchedulerEnd() {
  Drain(scheduler_.get());
  terminal_->EndOutput("scheduler");
  const std::string ending = scheduler_->Ending();
  if (scheduler_->killed() && stops_ == 0 && restarts_ < kRestartsMax) {
    ++restarts_;
    endings_.push_back("scheduler: " + ending + "; started again");
    terminal_->Say(absl::StrCat("tidegate: the scheduler ended: ", ending, "; starting it again with its state"));
    scheduler_->CloseOutput();
    const absl::Status status = StartScheduler();
    if (status.ok()) return;
    terminal_->Say(absl::StrCat("tidegate: ", std::string(status.message())));
  }
  if (scheduler_->exit_status() != 0) endings_.push_back("scheduler: " + ending);
  if (scheduler_->killed() && reason_.empty()) reason_ = "the scheduler ended: " + ending;
  exit_status_ = scheduler_->exit_status();
  if (scheduler_->killed() || (!reason_.empty() && exit_status_ != 0)) exit_status_ = 1;
  ended_ = true;
}

void LocalCluster::Stop(const std::string& reason) {
  ++stops_;
  if (stops_ > 1) {
    terminal_->Say("tidegate: ending all processes");
    SignalAll(SIGTERM);
    stop_at_ms_ = Now() + 5000;
    return;
  }
  reason_ = reason;
  terminal_->Say(absl::StrCat("tidegate: stopping the job: ", reason));
  stop_at_ms_ = Now() + options_.grace_s * 1000;
  const absl::Status status = StatusClient(address_).Stop(reason, 2000);
  if (status.ok()) return;
  // One that is about to end by itself answers no more.
  const TimeMs until = Now() + kWithoutStatusMs;
  while (!scheduler_->Ended() && Now() < until) PollOutputs(kPollMs);
  if (scheduler_->Ended()) return;
  terminal_->Say(absl::StrCat("tidegate: ", std::string(status.message()), "; sending SIGTERM"));
  scheduler_->Signal(SIGTERM);
}

void LocalCluster::SignalAll(int signal) {
  if (scheduler_) scheduler_->Signal(signal);
  for (const auto& member : members_) member->Signal(signal);
}

bool LocalCluster::AnyAlive() {
  return std::any_of(members_.begin(), members_.end(), [](const auto& member) { return !member->Ended(); });
}

int LocalCluster::Finish() {
  status_stop_ = true;
  if (status_thread_.joinable()) status_thread_.join();
  terminal_->ClearProgress();
  for (const int signal : {0, SIGTERM, SIGKILL}) {
    if (!AnyAlive()) break;
    if (signal != 0) {
      for (const auto& member : members_) {
        terminal_->Say(absl::StrCat("tidegate: ", member->name(), " does not end: ", strsignal(signal)));
      }
      SignalAll(signal);
    }
    const TimeMs until = Now() + options_.grace_s * 1000;
    while (AnyAlive() && Now() < until) {
      PollOutputs(kPollMs);
      Reap();
    }
  }
  Reap();
  return exit_status_;
}

void LocalCluster::PollStatus() {
  StatusClient client(address_);
  while (!status_stop_) {
    const TimeMs asked = Now();
    auto status = client.Get(kStatusPeriodMs);
    if (status.ok()) {
      std::lock_guard<std::mutex> lock(mutex_);
      status_ = Status{*std::move(status), asked};
    }
    for (int waited = 0; waited < kStatusPeriodMs && !status_stop_; waited += 50) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
}

void LocalCluster::ShowProgress() {
  const std::optional<Status> status = last_status();
  if (!status || status->response.phase() == FINISHED || status->response.phase() == FAILED) return;
  // Who has joined is in the log lines by now.
  if (status->response.phase() == STARTING && status->asked_ms <= last_output_ms_) return;
  terminal_->Progress(ProgressLine(status->response, TerminalWidth()), Now());
}

}  // namespace tidegate::cli
