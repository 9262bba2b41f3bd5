#include "common/rpc/member_link.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/rpc/scheduler_calls.h"

namespace tidegate {
namespace {

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;
constexpr milliseconds kLogEvery = SchedulerCalls::kLogEvery;
constexpr milliseconds kHeartbeatGap{5};  // between two heartbeats that nothing woke
constexpr int kLongPollGraceMs = 10000;
constexpr size_t kResultsKept = 32;

std::string DefaultName() {
  char host[256] = "unknown";
  gethostname(host, sizeof(host) - 1);
  return absl::StrCat(host, ":", getpid());
}

uint64_t NewNonce() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) ^ device() ^ 1;
}

}  // namespace

class MemberLink::Impl {
 public:
  Impl(Options options, Callbacks callbacks)
      : options_(std::move(options)),
        callbacks_(std::move(callbacks)),
        calls_(options_.scheduler) {
    if (options_.name.empty()) options_.name = DefaultName();
  }

  absl::Status Join();
  const Membership& membership() const { return membership_; }
  void Start();
  void Stop();
  void Cancel();
  void HeartbeatNow();
  void ReportFatalError(const std::string& message, int timeout_ms);
  absl::StatusOr<AcquireWorkResponse> AcquireWork(AcquireWorkRequest request);
  absl::Status DeclareTables(const std::vector<TableSpec>& tables);
  absl::StatusOr<GetRoutingResponse> GetRouting(Epoch newer_than);
  absl::Status Leave(const std::string& reason);

 private:
  using Stub = SchedulerCalls::Stub;
  using Context = SchedulerCalls::Context;

  void NotifyStopped();
  // How long the scheduler has not answered.
  struct Silence {
    SteadyClock::time_point counted_to = SteadyClock::now();
    milliseconds total{0};
    void Add(SteadyClock::time_point now, milliseconds attempt_max);
  };

  void HeartbeatLoop();
  int HeartbeatTimeoutMs() const;
  bool GiveUp(const Silence& silence, const absl::Status& status);
  HeartbeatRequest MakeHeartbeat();
  absl::Status SendHeartbeat(const HeartbeatRequest& request, HeartbeatResponse* response);
  bool TakeHeartbeat(const HeartbeatRequest& request, const HeartbeatResponse& response);
  void QueueCommands(const HeartbeatResponse& response);
  void CommandLoop();

  Options options_;
  const Callbacks callbacks_;
  SchedulerCalls calls_;
  Membership membership_;
  std::thread heartbeats_;
  std::thread commands_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool heartbeats_run_ = false;
  Context heartbeat_context_;
  bool wake_ = false;
  Epoch routing_epoch_ = 0;
  uint64_t worker_set_version_ = 0;
  uint64_t probe_ = 0;
  Phase phase_ = STARTING;
  uint64_t last_command_ = 0;
  std::deque<Command> command_queue_;
  std::map<uint64_t, CommandResult> done_;  // newest kResultsKept
  std::set<uint64_t> unreported_;           // ids in done_
  std::string fatal_error_;
  bool fatal_error_sent_ = false;
};

absl::Status MemberLink::Impl::Join() {
  {
    std::lock_guard lock(mutex_);
    TG_CHECK(!heartbeats_.joinable()) << "Join before Stop";
    calls_.Open();
    routing_epoch_ = worker_set_version_ = probe_ = last_command_ = 0;
    phase_ = STARTING;
    command_queue_.clear();
    done_.clear();
    unreported_.clear();
  }
  JoinRequest request;
  request.set_role(options_.role);
  request.set_address(options_.address);
  request.set_name(options_.name);
  request.set_zone(options_.zone);
  request.set_config_fingerprint(options_.config_fingerprint);
  request.set_nonce(NewNonce());
  const auto start = SteadyClock::now();
  const auto deadline = start + std::chrono::seconds(options_.join_timeout_s);
  auto next_log = start + milliseconds(1000);
  Backoff backoff(calls_.targets());
  for (;;) {
    JoinResponse response;
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - SteadyClock::now());
    const int timeout_ms = static_cast<int>(std::clamp<int64_t>(left.count(), 100, 5000));
    const absl::Status status = calls_.Attempt(&Stub::Join, request, &response, timeout_ms);
    if (status.ok()) {
      membership_ = {response.incarnation(), response.generation(), response.job_config(),
                     response.heartbeat_interval_ms(), response.lease_ms(),
                     {response.train_file_bytes().begin(), response.train_file_bytes().end()},
                     {response.tables().begin(), response.tables().end()},
                     response.learning_rate_scale(), response.grant_ms()};
      return status;
    }
    if (status.code() == absl::StatusCode::kUnimplemented) {
      return absl::FailedPreconditionError(absl::StrCat(
          "--scheduler=", options_.scheduler, " answers, but it is no Tidegate scheduler"));
    }
    if (!SchedulerCalls::IsRetryable(status)) return status;
    const auto now = SteadyClock::now();
    const auto waited = std::chrono::duration_cast<std::chrono::seconds>(now - start).count();
    if (now >= deadline) {
      return absl::DeadlineExceededError(absl::StrCat(
          "no scheduler answered at ", options_.scheduler, " for ", waited,
          " s (--join_timeout=", options_.join_timeout_s, "): ", status.message(),
          "; is it running, and is --scheduler right?"));
    }
    if (now >= next_log) {
      TG_LOG(INFO) << "waiting for the scheduler at " << options_.scheduler << " (" << waited
                   << " of at most " << options_.join_timeout_s << " s): " << status.message();
      next_log = now + kLogEvery;
    }
    const auto delay = std::min<SteadyClock::duration>(backoff.Next(), deadline - now);
    if (calls_.SleepOrStopped(std::chrono::duration_cast<milliseconds>(delay))) {
      return absl::CancelledError("stopped while joining");
    }
  }
}

void MemberLink::Impl::Start() {
  {
    std::lock_guard lock(mutex_);
    heartbeats_run_ = true;
  }
  heartbeats_ = std::thread([this] { HeartbeatLoop(); });
  commands_ = std::thread([this] { CommandLoop(); });
}

void MemberLink::Impl::NotifyStopped() {
  { std::lock_guard lock(mutex_); }  // a waiter has looked, or will look again
  changed_.notify_all();
}

void MemberLink::Impl::Stop() {
  calls_.Stop();
  NotifyStopped();
  if (heartbeats_.joinable()) heartbeats_.join();
  if (commands_.joinable()) commands_.join();
}

void MemberLink::Impl::Cancel() {
  calls_.Cancel();
  NotifyStopped();
}

void MemberLink::Impl::HeartbeatNow() {
  Context context;
  {
    std::lock_guard lock(mutex_);
    wake_ = true;
    context = heartbeat_context_;
  }
  changed_.notify_all();
  if (context != nullptr) context->TryCancel();
}

void MemberLink::Impl::ReportFatalError(const std::string& message, int timeout_ms) {
  bool direct;
  {
    std::lock_guard lock(mutex_);
    fatal_error_ = message;
    fatal_error_sent_ = false;
    direct = !heartbeats_run_ || calls_.stopped();
  }
  if (!direct) {
    HeartbeatNow();
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, milliseconds(timeout_ms),
                      [this] { return fatal_error_sent_ || !heartbeats_run_; });
    if (fatal_error_sent_) return;
  }
  HeartbeatRequest request;
  request.set_incarnation(membership_.incarnation);
  request.set_generation(membership_.generation);
  request.set_no_wait(true);
  request.set_fatal_error(message);
  HeartbeatResponse response;
  calls_.LastAttempt(&Stub::Heartbeat, request, &response, timeout_ms).IgnoreError();
}

HeartbeatRequest MemberLink::Impl::MakeHeartbeat() {
  HeartbeatRequest request;
  {
    std::lock_guard lock(mutex_);
    wake_ = false;
    request.set_incarnation(membership_.incarnation);
    request.set_generation(membership_.generation);
    request.set_seen_term(calls_.term());
    request.set_routing_epoch(routing_epoch_);
    request.set_worker_set_version(worker_set_version_);
    request.set_seen_probe(probe_);
    request.set_last_command(last_command_);
    for (uint64_t id : unreported_) *request.add_results() = done_.at(id);
    request.set_fatal_error(fatal_error_);
    request.set_no_wait(!fatal_error_.empty());
  }
  if (callbacks_.fill_heartbeat) callbacks_.fill_heartbeat(&request);
  return request;
}

int MemberLink::Impl::HeartbeatTimeoutMs() const {
  const int interval_ms = static_cast<int>(membership_.heartbeat_interval_ms);
  int grace_ms = kLongPollGraceMs;
  if (calls_.targets() > 1) {
    // One that hangs must not keep this member from the others until its lease there has run out, however long it may hold a heartbeat.
    const int lease_ms = static_cast<int>(std::min<uint32_t>(membership_.lease_ms, 3 * kLongPollGraceMs));
    grace_ms = std::max(interval_ms / 3, std::max(lease_ms / 3, 100) + std::min(interval_ms, lease_ms / 12) - interval_ms);
  }
  if (options_.scheduler_timeout_s > 0) {
    grace_ms = std::min(grace_ms, 1000 * std::min(options_.scheduler_timeout_s, 1000));
  }
  return interval_ms + grace_ms;
}

absl::Status MemberLink::Impl::SendHeartbeat(const HeartbeatRequest& request,
                                             HeartbeatResponse* response) {
  const Context context = SchedulerCalls::NewContext(HeartbeatTimeoutMs());
  {
    std::lock_guard lock(mutex_);
    if (wake_) return absl::CancelledError("woken");
    heartbeat_context_ = context;
  }
  const absl::Status status = calls_.Send(&Stub::Heartbeat, request, response, context);
  std::lock_guard lock(mutex_);
  heartbeat_context_ = nullptr;
  return status;
}

// What goes by while this process sleeps (a stopped process, a suspended machine) is no silence of the
// scheduler's: of each attempt at most its own length counts.
void MemberLink::Impl::Silence::Add(SteadyClock::time_point now, milliseconds attempt_max) {
  const auto passed = std::chrono::duration_cast<milliseconds>(now - counted_to);
  total += std::min(passed, attempt_max);
  counted_to = now;
}

bool MemberLink::Impl::GiveUp(const Silence& silence, const absl::Status& status) {
  const std::chrono::seconds limit(options_.scheduler_timeout_s);
  if (limit.count() == 0 || silence.total < limit) return false;
  const std::string why = absl::StrCat(
      "no answer from the scheduler at ", options_.scheduler, " for ", limit.count(),
      " s (--scheduler_timeout=", options_.scheduler_timeout_s,
      "): it is gone, with or without the job's end; last error: ", status.message());
  calls_.Abandon(absl::AbortedError(why));
  if (callbacks_.lost) callbacks_.lost(why);
  return true;
}

void MemberLink::Impl::HeartbeatLoop() {
  Backoff backoff(calls_.targets());
  Silence silence;
  auto next_log = SteadyClock::now() + milliseconds(2000);
  bool complained = false;
  for (bool go_on = true; go_on;) {
    const HeartbeatRequest request = MakeHeartbeat();
    HeartbeatResponse response;
    const absl::Status status = SendHeartbeat(request, &response);
    const auto now = SteadyClock::now();
    milliseconds pause = kHeartbeatGap;
    if (status.ok()) {
      if (complained) TG_LOG(INFO) << "scheduler at " << options_.scheduler << " answers again";
      complained = false;
      backoff.Reset();
      silence = {now};
      next_log = now + milliseconds(2000);
      go_on = TakeHeartbeat(request, response);
    } else {
      silence.Add(now, milliseconds(HeartbeatTimeoutMs()) + Backoff::kMax);
      std::unique_lock lock(mutex_);
      if (!wake_) pause = backoff.Next();
      lock.unlock();
      if (!calls_.stopped() && now >= next_log) {
        TG_LOG(WARNING) << "no answer from the scheduler at " << options_.scheduler << " for "
                        << silence.total.count() / 1000
                        << " s, going on without it: " << status.message();
        next_log = now + kLogEvery;
        complained = true;
      }
      go_on = calls_.stopped() || !GiveUp(silence, status);
    }
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, pause, [this] { return calls_.stopped() || wake_; });
    go_on = go_on && !calls_.stopped();
  }
  {
    std::lock_guard lock(mutex_);
    heartbeats_run_ = false;
  }
  changed_.notify_all();
}

bool MemberLink::Impl::TakeHeartbeat(const HeartbeatRequest& request,
                                     const HeartbeatResponse& response) {
  if (response.generation() != 0 && response.generation() != membership_.generation) {
    TG_LOG(WARNING) << "the scheduler at " << options_.scheduler << " runs another job now";
    calls_.ForgetTerm();  // its terms are counted anew
    if (callbacks_.rejoin) callbacks_.rejoin();
    return false;
  }
  if (!calls_.AcceptTerm(response.term())) {
    TG_LOG(WARNING) << "ignored an answer of scheduler term " << response.term();
    return true;
  }
  if (response.rejoin()) {
    TG_LOG(WARNING) << "the scheduler does not count this process as a member (any more)";
    if (callbacks_.rejoin) callbacks_.rejoin();
    return false;
  }
  bool phase_changed, routing_newer, workers_newer;
  {
    std::lock_guard lock(mutex_);
    for (const CommandResult& result : request.results()) unreported_.erase(result.id());
    if (!request.fatal_error().empty()) fatal_error_sent_ = true;
    routing_newer = response.has_routing() && response.routing().epoch() > routing_epoch_;
    if (routing_newer) routing_epoch_ = response.routing().epoch();
    workers_newer = response.has_workers() && response.workers().version() > worker_set_version_;
    if (workers_newer) worker_set_version_ = response.workers().version();
    probe_ = std::max(probe_, response.probe());
    phase_changed = response.phase() != phase_;
    phase_ = response.phase();
  }
  changed_.notify_all();
  if (routing_newer && callbacks_.routing) callbacks_.routing(response.routing());
  if (workers_newer && callbacks_.workers) callbacks_.workers(response.workers());
  QueueCommands(response);
  if (phase_changed && callbacks_.phase) callbacks_.phase(response.phase(), response.message());
  return true;
}

void MemberLink::Impl::QueueCommands(const HeartbeatResponse& response) {
  {
    std::lock_guard lock(mutex_);
    for (const Command& command : response.commands()) {
      if (command.id() > last_command_) {
        last_command_ = command.id();
        command_queue_.push_back(command);
      } else if (done_.contains(command.id())) {
        unreported_.insert(command.id());  // the scheduler lost its result
      }
    }
  }
  changed_.notify_all();
}

void MemberLink::Impl::CommandLoop() {
  for (;;) {
    Command command;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return calls_.stopped() || !command_queue_.empty(); });
      if (calls_.stopped()) return;
      command = std::move(command_queue_.front());
      command_queue_.pop_front();
    }
    CommandResult result;
    result.set_id(command.id());
    absl::StatusOr<std::vector<CheckpointFile>> files =
        callbacks_.run_command ? callbacks_.run_command(command)
                               : absl::UnimplementedError("this member takes no commands");
    if (files.ok()) {
      for (CheckpointFile& file : *files) *result.add_files() = std::move(file);
    } else {
      result.set_code(static_cast<uint32_t>(files.status().code()));
      result.set_error(std::string(files.status().message()));
      TG_LOG(ERROR) << "command " << command.id() << " failed: " << files.status().message();
    }
    {
      std::lock_guard lock(mutex_);
      done_[command.id()] = std::move(result);
      unreported_.insert(command.id());
      while (done_.size() > kResultsKept && !unreported_.contains(done_.begin()->first)) {
        done_.erase(done_.begin());
      }
    }
    HeartbeatNow();
  }
}

absl::StatusOr<AcquireWorkResponse> MemberLink::Impl::AcquireWork(AcquireWorkRequest request) {
  request.set_incarnation(membership_.incarnation);
  request.set_generation(membership_.generation);
  AcquireWorkResponse response;
  const int timeout_ms = static_cast<int>(membership_.heartbeat_interval_ms) + kLongPollGraceMs;
  absl::Status status = calls_.Retry(&Stub::AcquireWork, "AcquireWork", request, &response, timeout_ms);
  if (!status.ok()) return status;
  return response;
}

absl::Status MemberLink::Impl::DeclareTables(const std::vector<TableSpec>& tables) {
  DeclareTablesRequest request;
  request.set_incarnation(membership_.incarnation);
  request.set_generation(membership_.generation);
  for (const TableSpec& table : tables) *request.add_tables() = table;
  DeclareTablesResponse response;
  return calls_.Retry(&Stub::DeclareTables, "DeclareTables", request, &response, 5000);
}

absl::StatusOr<GetRoutingResponse> MemberLink::Impl::GetRouting(Epoch newer_than) {
  GetRoutingRequest request;
  request.set_newer_than(newer_than);
  GetRoutingResponse response;
  absl::Status status = calls_.Attempt(&Stub::GetRouting, request, &response, 1000);
  if (!status.ok()) return status;
  return response;
}

absl::Status MemberLink::Impl::Leave(const std::string& reason) {
  calls_.Stop();  // a heartbeat after this would be told to rejoin
  NotifyStopped();
  LeaveRequest request;
  request.set_incarnation(membership_.incarnation);
  request.set_generation(membership_.generation);
  request.set_reason(reason);
  LeaveResponse response;
  return calls_.LastAttempt(&Stub::Leave, request, &response, 1000);
}

MemberLink::MemberLink(Options options, Callbacks callbacks)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(callbacks))) {}
MemberLink::~MemberLink() { Stop(); }
absl::Status MemberLink::Join() { return impl_->Join(); }
const MemberLink::Membership& MemberLink::membership() const { return impl_->membership(); }
void MemberLink::Start() { impl_->Start(); }
void MemberLink::Stop() { impl_->Stop(); }
void MemberLink::Cancel() { impl_->Cancel(); }
void MemberLink::HeartbeatNow() { impl_->HeartbeatNow(); }
void MemberLink::ReportFatalError(const std::string& message, int timeout_ms) {
  impl_->ReportFatalError(message, timeout_ms);
}
absl::StatusOr<AcquireWorkResponse> MemberLink::AcquireWork(AcquireWorkRequest request) {
  return impl_->AcquireWork(std::move(request));
}
absl::Status MemberLink::DeclareTables(const std::vector<TableSpec>& tables) {
  return impl_->DeclareTables(tables);
}
absl::StatusOr<GetRoutingResponse> MemberLink::GetRouting(Epoch newer_than) {
  return impl_->GetRouting(newer_than);
}
absl::Status MemberLink::Leave(const std::string& reason) { return impl_->Leave(reason); }

}  // namespace tidegate
