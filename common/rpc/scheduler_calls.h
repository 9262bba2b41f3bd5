#pragma once
// Calls to the scheduler: one attempt or as many as it takes, all of them ended by Stop, Cancel or Abandon;
// answers of an older scheduler term than the newest seen are dropped. Thread-safe.
//
// Of several schedulers one leads. A call goes to the one that answered last; where that does not answer, the
// next call goes to the one that it named as the leader (kLeaderKey), else to the next of the list.

#include <grpcpp/client_context.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/logging.h"
#include "common/rpc/status.h"
#include "proto/scheduler_service.grpc.pb.h"

namespace tidegate {

// In the trailing metadata of a standby's refusal: HOST:PORT.
inline constexpr char kLeaderKey[] = "tidegate-leader";

class Backoff {
 public:
  using Delay = std::chrono::milliseconds;
  // `targets`: so many are tried in turn, all of them within kMax.
  explicit Backoff(int targets = 1) : max_(kMax / targets) {}
  Delay Next() { return std::exchange(delay_, std::min(delay_ * 2, max_)); }
  void Reset() { delay_ = kMin; }

  static constexpr Delay kMin{20};
  static constexpr Delay kMax{1000};

 private:
  Delay max_;
  Delay delay_ = kMin;
};

class SchedulerCalls {
 public:
  using Context = std::shared_ptr<grpc::ClientContext>;
  using Stub = SchedulerService::Stub;
  template <typename Request, typename Response>
  using Method = grpc::Status (Stub::*)(grpc::ClientContext*, const Request&, Response*);

  static constexpr std::chrono::milliseconds kLogEvery{5000};

  // HOST:PORT, or several by commas.
  explicit SchedulerCalls(const std::string& addresses);
  ~SchedulerCalls();

  // Schedulers that calls may go to: those given, and leaders that were heard of.
  int targets() const;
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
    return FromGrpc((CurrentStub()->*method)(NewContext(timeout_ms).get(), request, response));
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
  struct Target;
  absl::Status Ended() const;  // REQUIRES: mutex_. OK: not ended
  void End(bool* flag, absl::Status status);
  Stub* CurrentStub() const;
  // Around a call: where it goes, once there is a connection; what its end says of who leads.
  absl::StatusOr<Target*> Begin(const Context& context);
  static Stub* StubOf(const Target& target);
  void Finish(Target* target, const Context& context, const absl::Status& status);
  // The next call goes to the leader, or to the next of the list. REQUIRES: mutex_.
  void Leave(const Target* target, const std::string& leader);

  const std::string addresses_;
  std::vector<std::unique_ptr<Target>> targets_;  // grows only
  size_t current_ = 0;
  size_t next_ = 0;  // the turn of the list, apart from leaders that were named: one may be named wrongly for long
  const Target* answered_ = nullptr;  // last
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool cancelled_ = false;
  absl::Status abandoned_;
  std::map<Context, const Target*> active_;
  uint64_t term_ = 0;
};

template <typename Request, typename Response>
absl::Status SchedulerCalls::Send(Method<Request, Response> method, const Request& request,
                                  Response* response, const Context& context) {
  absl::StatusOr<Target*> target = Begin(context);
  absl::Status status = target.status();
  if (!status.ok()) return status;
  status = FromGrpc((StubOf(**target)->*method)(context.get(), request, response));
  Finish(*target, context, status);
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
  Backoff backoff(targets());
  auto next_log = std::chrono::steady_clock::now() + kLogEvery;
  for (;;) {
    const absl::Status status = Attempt(method, request, response, timeout_ms);
    if (status.ok() || !IsRetryable(status)) return status;
    if (std::chrono::steady_clock::now() >= next_log) {
      TG_LOG(WARNING) << "scheduler at " << addresses_ << " does not answer " << what
                      << ", trying on: " << status.message();
      next_log = std::chrono::steady_clock::now() + kLogEvery;
    }
    if (!SleepOrStopped(backoff.Next())) continue;
    std::lock_guard lock(mutex_);
    return Ended();
  }
}

}  // namespace tidegate
