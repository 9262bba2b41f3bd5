#pragma once
// Calls to the scheduler: one attempt or as many as it takes, all of them ended by Stop, Cancel or Abandon;
// answers of an older scheduler term than the newest seen are dropped. Thread-safe.

#include <grpcpp/client_context.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "common/logging.h"
#include "common/rpc/status.h"
#include "proto/scheduler_service.grpc.pb.h"

namespace tidegate {

class Backoff {
 public:
  using Delay = std::chrono::milliseconds;
  Delay Next() { return std::exchange(delay_, std::min(delay_ * 2, kMax)); }
  void Reset() { delay_ = kMin; }

  static constexpr Delay kMin{20};
  static constexpr Delay kMax{1000};

 private:
  Delay delay_ = kMin;
};

class SchedulerCalls {
 public:
  using Context = std::shared_ptr<grpc::ClientContext>;
  using Stub = SchedulerService::Stub;
  template <typename Request, typename Response>
  using Method = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*);

  static constexpr std::chrono::milliseconds kLogEvery{5000};

  explicit SchedulerCalls(const std::string& address);

  static Context NewContext(int timeout_ms);
  // One attempt, with a context of the caller's, who may cancel it as well. Any term's answer.
  template <typename Request, typename Response>
  absl::Status Send(Method<Request, Response> method, const Request& request, Response* response,
                    const Context& context);
  // One attempt. UNAVAILABLE: the answer is of an older term.
  template <typename Request, typename Response>
  absl::Status Attempt(Method<Request, Response> method, const Request& request,
                       Response* response, int timeout_ms);
  // Until the scheduler answers; `what` names the call in the log.
  template <typename Request, typename Response>
  absl::Status Retry(Method<Request, Response> method, const char* what, const Request& request,
                     Response* response, int timeout_ms);
  // One attempt that goes out after Stop as well; terms are not looked at.
  template <typename Request, typename Response>
  absl::Status LastAttempt(Method<Request, Response> method, const Request& request,
                           Response* response, int timeout_ms) {
    return FromGrpc((stub_.get()->*method)(NewContext(timeout_ms).get(), request, response));
  }

  // Calls under way and later ones return CANCELLED, until Open; after Cancel for good; after Abandon
  // for good, and with that status.
  void Open();
  void Stop();
  void Cancel();
  void Abandon(absl::Status status);
  bool stopped() const;
  // True: stopped meanwhile.
  bool SleepOrStopped(std::chrono::milliseconds delay);

  bool AcceptTerm(uint64_t term);
  uint64_t term() const;
  void ForgetTerm();

  // Whether another attempt may cure it; the rest is the scheduler's answer.
  static bool IsRetryable(const absl::Status& status);

 private:
  absl::Status Ended() const;  // REQUIRES: mutex_. OK: not ended
  void End(bool* flag, absl::Status status);

  const std::string address_;
  const std::unique_ptr<Stub> stub_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool cancelled_ = false;
  absl::Status abandoned_;
  std::set<Context> active_;
  uint64_t term_ = 0;
};

template <typename Request, typename Response>
absl::Status SchedulerCalls::Send(Method<Request, Response> method, const Request& request,
                                  Response* response, const Context& context) {
  // A call that waits is what drives the channel's connecting; one that fails at once leaves it lying.
  context->set_wait_for_ready(true);
  {
    std::lock_guard lock(mutex_);
    if (absl::Status ended = Ended(); !ended.ok()) return ended;
    active_.insert(context);
  }
  const absl::Status status = FromGrpc((stub_.get()->*method)(context.get(), request, response));
  {
    std::lock_guard lock(mutex_);
    active_.erase(context);
  }
  return status;
}

template <typename Request, typename Response>
absl::Status SchedulerCalls::Attempt(Method<Request, Response> method, const Request& request,
                                     Response* response, int timeout_ms) {
  const absl::Status status = Send(method, request, response, NewContext(timeout_ms));
  if (!status.ok()) return status;
  if (!AcceptTerm(response->term())) {
    return absl::UnavailableError("answered by a scheduler of an older term");
  }
  return status;
}

template <typename Request, typename Response>
absl::Status SchedulerCalls::Retry(Method<Request, Response> method, const char* what,
                                   const Request& request, Response* response, int timeout_ms) {
  Backoff backoff;
  auto next_log = std::chrono::steady_clock::now() + kLogEvery;
  for (;;) {
    const absl::Status status = Attempt(method, request, response, timeout_ms);
    if (status.ok() || !IsRetryable(status)) return status;
    if (std::chrono::steady_clock::now() >= next_log) {
      TG_LOG(WARNING) << "scheduler at " << address_ << " does not answer " << what
                      << ", trying on: " << status.message();
      next_log = std::chrono::steady_clock::now() + kLogEvery;
    }
    if (!SleepOrStopped(backoff.Next())) continue;
    std::lock_guard lock(mutex_);
    return Ended();
  }
}

}  // namespace tidegate
