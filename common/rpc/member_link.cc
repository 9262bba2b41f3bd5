#include "common/rpc/member_link.h"

#include <grpcpp/client_context.h>
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
#include "common/rpc/channel.h"
#include "common/rpc/status.h"
#include "common/strings.h"
#include "proto/scheduler_service.grpc.pb.h"

namespace tidegate {
namespace {

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;
constexpr milliseconds kBackoffMin{20};
constexpr milliseconds kBackoffMax{1000};
constexpr milliseconds kLogEvery{5000};
constexpr milliseconds kHeartbeatGap{5};  // between two heartbeats that nothing woke
constexpr int kLongPollGraceMs = 10000;
constexpr size_t kResultsKept = 32;

// What another attempt may cure. The rest is the scheduler's answer.
bool IsRetryable(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kInternal:
      return true;
    default:
      return false;
  }
}

std::string DefaultName() {
  char host[256] = "unknown";
  gethostname(host, sizeof(host) - 1);
  return absl::StrCat(host, ":", getpid());
}

uint64_t NewNonce() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) ^ device() ^ 1;
}

class Backoff {
 public:
  milliseconds Next() { return std::exchange(delay_, std::min(delay_ * 2, kBackoffMax)); }
  void Reset() { delay_ = kBackoffMin; }

 private:
  milliseconds delay_ = kBackoffMin;
};

}  // namespace

class MemberLink::Impl {
 public:
  Impl(Options options, Callbacks callbacks)
      : options_(std::move(options)),
        callbacks_(std::move(callbacks)),
        stub_(SchedulerService::NewStub(MakeControlChannel(options_.scheduler))) {
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
  using Context = std::shared_ptr<grpc::ClientContext>;
  using Stub = SchedulerService::Stub;
  template <typename Request, typename Response>
  using Method = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*);

  static Context NewContext(int timeout_ms) {
    auto context = std::make_shared<grpc::ClientContext>();
    context->set_deadline(std::chrono::system_clock::now() + milliseconds(timeout_ms));
    return context;
  }
  // One attempt that Stop and Cancel end. Replies of an older term are UNAVAILABLE.
  template <typename Request, typename Response>
  absl::Status Attempt(Method<Request, Response> method, const Request& request,
                       Response* response, int timeout_ms);
  template <typename Request, typename Response>
  absl::Status Retry(Method<Request, Response> method, const char* what, const Request& request,
                     Response* response, int timeout_ms);
  bool AcceptTerm(uint64_t term);
  bool stopped() const { return stopping_ || cancelled_; }  // REQUIRES: mutex_
  bool SleepOrStopped(milliseconds delay);                  // true: stopped
  void CancelActive();

  void HeartbeatLoop();
  HeartbeatRequest MakeHeartbeat();
  absl::Status SendHeartbeat(const HeartbeatRequest& request, HeartbeatResponse* response);
  bool TakeHeartbeat(const HeartbeatRequest& request, const HeartbeatResponse& response);
  void QueueCommands(const HeartbeatResponse& response);
  void CommandLoop();

  Options options_;
  const Callbacks callbacks_;
  const std::unique_ptr<Stub> stub_;
  Membership membership_;
  std::thread heartbeats_;
  std::thread commands_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool cancelled_ = false;
  bool heartbeats_run_ = false;
  std::set<Context> active_;
  Context heartbeat_context_;
  bool wake_ = false;
  uint64_t term_ = 0;
  Epoch routing_epoch_ = 0;
  uint64_t worker_set_version_ = 0;
  Phase phase_ = STARTING;
  uint64_t last_command_ = 0;
  std::deque<Command> command_queue_;
  std::map<uint64_t, CommandResult> done_;  // newest kResultsKept
  std::set<uint64_t> unreported_;           // ids in done_
  std::string fatal_error_;
  bool fatal_error_sent_ = false;
};

bool MemberLink::Impl::AcceptTerm(uint64_t term) {
  std::lock_guard lock(mutex_);
  if (term < term_) return false;
  term_ = term;
  return true;
}

template <typename Request, typename Response>
absl::Status MemberLink::Impl::Attempt(Method<Request, Response> method, const Request& request,
                                       Response* response, int timeout_ms) {
  const Context context = NewContext(timeout_ms);
  // A call that waits is what drives the channel's connecting; one that fails at once leaves it lying.
  context->set_wait_for_ready(true);
  {
    std::lock_guard lock(mutex_);
    if (stopped()) return absl::CancelledError("stopped");
    active_.insert(context);
  }
  const absl::Status status = FromGrpc((stub_.get()->*method)(context.get(), request, response));
  {
    std::lock_guard lock(mutex_);
    active_.erase(context);
  }
  if (!status.ok()) return status;
  if (!AcceptTerm(response->term())) {
    return absl::UnavailableError("answered by a scheduler of an older term");
  }
  return status;
}

bool MemberLink::Impl::SleepOrStopped(milliseconds delay) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, delay, [this] { return stopped(); });
}

template <typename Request, typename Response>
absl::Status MemberLink::Impl::Retry(Method<Request, Response> method, const char* what,
                                     const Request& request, Response* response, int timeout_ms) {
  Backoff backoff;
  auto next_log = SteadyClock::now() + kLogEvery;
  for (;;) {
    const absl::Status status = Attempt(method, request, response, timeout_ms);
    if (status.ok() || !IsRetryable(status)) return status;
    if (SteadyClock::now() >= next_log) {
      TG_LOG(WARNING) << "scheduler at " << options_.scheduler << " does not answer " << what
                      << ", trying on: " << status.message();
      next_log = SteadyClock::now() + kLogEvery;
    }
    if (SleepOrStopped(backoff.Next())) return absl::CancelledError("stopped");
  }
}

absl::Status MemberLink::Impl::Join() {
  {
    std::lock_guard lock(mutex_);
    TG_CHECK(!heartbeats_.joinable()) << "Join before Stop";
    stopping_ = false;
    routing_epoch_ = worker_set_version_ = last_command_ = 0;
    phase_ = STARTING;
    command_queue_.clear();
    done_.clear();
    unreported_.clear();
  }
  JoinRequest request;
  request.set_role(options_.role);
  request.set_address(options_.address);
  request.set_name(options_.name);
  request.set_config_fingerprint(options_.config_fingerprint);
  request.set_nonce(NewNonce());
  const auto start = SteadyClock::now();
  const auto deadline = start + std::chrono::seconds(options_.join_timeout_s);
  auto next_log = start + milliseconds(1000);
  Backoff backoff;
  for (;;) {
    JoinResponse response;
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - SteadyClock::now());
    const int timeout_ms = static_cast<int>(std::clamp<int64_t>(left.count(), 100, 5000));
    const absl::Status status = Attempt(&Stub::Join, request, &response, timeout_ms);
    if (status.ok()) {
      membership_ = {response.incarnation(), response.generation(), response.job_config(),
                     response.heartbeat_interval_ms(), response.lease_ms()};
      return status;
    }
    if (status.code() == absl::StatusCode::kUnimplemented) {
      return absl::FailedPreconditionError(absl::StrCat(
          "--scheduler=", options_.scheduler, " answers, but it is no Tidegate scheduler"));
    }
    if (!IsRetryable(status)) return status;
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
    if (SleepOrStopped(std::chrono::duration_cast<milliseconds>(delay))) {
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

void MemberLink::Impl::CancelActive() {
  std::set<Context> active;
  {
    std::lock_guard lock(mutex_);
    active = active_;
    if (heartbeat_context_ != nullptr) active.insert(heartbeat_context_);
  }
  changed_.notify_all();
  for (const Context& context : active) context->TryCancel();
}

void MemberLink::Impl::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  CancelActive();
  if (heartbeats_.joinable()) heartbeats_.join();
  if (commands_.joinable()) commands_.join();
}

void MemberLink::Impl::Cancel() {
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
  }
  CancelActive();
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
    direct = !heartbeats_run_ || stopped();
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
  stub_->Heartbeat(NewContext(timeout_ms).get(), request, &response);
}

HeartbeatRequest MemberLink::Impl::MakeHeartbeat() {
  HeartbeatRequest request;
  {
    std::lock_guard lock(mutex_);
    wake_ = false;
    request.set_incarnation(membership_.incarnation);
    request.set_generation(membership_.generation);
    request.set_seen_term(term_);
    request.set_routing_epoch(routing_epoch_);
    request.set_worker_set_version(worker_set_version_);
    request.set_last_command(last_command_);
    for (uint64_t id : unreported_) *request.add_results() = done_.at(id);
    request.set_fatal_error(fatal_error_);
    request.set_no_wait(!fatal_error_.empty());
  }
  if (callbacks_.fill_heartbeat) callbacks_.fill_heartbeat(&request);
  return request;
}

absl::Status MemberLink::Impl::SendHeartbeat(const HeartbeatRequest& request,
                                             HeartbeatResponse* response) {
  const Context context =
      NewContext(static_cast<int>(membership_.heartbeat_interval_ms) + kLongPollGraceMs);
  context->set_wait_for_ready(true);
  {
    std::lock_guard lock(mutex_);
    if (stopped() || wake_) return absl::CancelledError("woken");
    heartbeat_context_ = context;
  }
  const absl::Status status = FromGrpc(stub_->Heartbeat(context.get(), request, response));
  std::lock_guard lock(mutex_);
  heartbeat_context_ = nullptr;
  return status;
}

void MemberLink::Impl::HeartbeatLoop() {
  Backoff backoff;
  auto silent_since = SteadyClock::now();
  auto next_log = silent_since + milliseconds(2000);
  bool complained = false;
  for (bool go_on = true; go_on;) {
    const HeartbeatRequest request = MakeHeartbeat();
    HeartbeatResponse response;
    const absl::Status status = SendHeartbeat(request, &response);
    milliseconds pause = kHeartbeatGap;
    if (status.ok()) {
      if (complained) TG_LOG(INFO) << "scheduler at " << options_.scheduler << " answers again";
      complained = false;
      backoff.Reset();
      silent_since = SteadyClock::now();
      next_log = silent_since + milliseconds(2000);
      go_on = TakeHeartbeat(request, response);
    } else {
      const auto now = SteadyClock::now();
      std::unique_lock lock(mutex_);
      if (!wake_) pause = backoff.Next();
      const bool log = !stopped() && now >= next_log;
      lock.unlock();
      if (log) {
        TG_LOG(WARNING) << "no answer from the scheduler at " << options_.scheduler << " for "
                        << std::chrono::duration_cast<std::chrono::seconds>(now - silent_since).count()
                        << " s, going on without it: " << status.message();
        next_log = now + kLogEvery;
        complained = true;
      }
    }
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, pause, [this] { return stopped() || wake_; });
    go_on = go_on && !stopped();
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
    {
      std::lock_guard lock(mutex_);
      term_ = 0;  // its terms are counted anew
    }
    if (callbacks_.rejoin) callbacks_.rejoin();
    return false;
  }
  if (!AcceptTerm(response.term())) {
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
      changed_.wait(lock, [this] { return stopped() || !command_queue_.empty(); });
      if (stopped()) return;
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
  absl::Status status = Retry(&Stub::AcquireWork, "AcquireWork", request, &response, timeout_ms);
  if (!status.ok()) return status;
  return response;
}

absl::Status MemberLink::Impl::DeclareTables(const std::vector<TableSpec>& tables) {
  DeclareTablesRequest request;
  request.set_incarnation(membership_.incarnation);
  request.set_generation(membership_.generation);
  for (const TableSpec& table : tables) *request.add_tables() = table;
  DeclareTablesResponse response;
  return Retry(&Stub::DeclareTables, "DeclareTables", request, &response, 5000);
}

absl::StatusOr<GetRoutingResponse> MemberLink::Impl::GetRouting(Epoch newer_than) {
  GetRoutingRequest request;
  request.set_newer_than(newer_than);
  GetRoutingResponse response;
  absl::Status status = Attempt(&Stub::GetRouting, request, &response, 1000);
  if (!status.ok()) return status;
  return response;
}

absl::Status MemberLink::Impl::Leave(const std::string& reason) {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;  // a heartbeat after this would be told to rejoin
  }
  CancelActive();
  LeaveRequest request;
  request.set_incarnation(membership_.incarnation);
  request.set_generation(membership_.generation);
  request.set_reason(reason);
  LeaveResponse response;
  return FromGrpc(stub_->Leave(NewContext(1000).get(), request, &response));
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
