#include "cli/status_client.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "common/host_port.h"
#include "common/rpc/scheduler_calls.h"

namespace tidegate::cli {

namespace {
constexpr int kAttemptMs = 1000;  // where there are others to ask
}  // namespace

struct StatusClient::Impl {
  explicit Impl(const std::string& scheduler) : address(scheduler), calls(scheduler) {}
  const std::string address;
  SchedulerCalls calls;

  // One attempt; where there are several schedulers, until one has answered.
  template <typename Request, typename Response>
  absl::Status Call(SchedulerCalls::Method<Request, Response> method, const Request& request, Response* response, int timeout_ms) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    Backoff backoff(2);
    for (;;) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
      const int attempt_ms = std::max<int>(1, calls.targets() > 1 ? std::min<int64_t>(left, kAttemptMs) : left);
      const absl::Status status = calls.Send(method, request, response, SchedulerCalls::NewContext(attempt_ms));
      if (status.ok() || !SchedulerCalls::IsRetryable(status) || calls.targets() == 1 || left <= attempt_ms) return Named(status);
      calls.SleepOrStopped(std::min(backoff.Next(), std::chrono::milliseconds(left)));
    }
  }
  absl::Status Named(const absl::Status& status) const {
    if (status.ok()) return status;
    if (absl::IsDeadlineExceeded(status)) {
      return absl::DeadlineExceededError(absl::StrCat("no scheduler answers at ", address));
    }
    if (absl::IsUnimplemented(status)) return absl::FailedPreconditionError(absl::StrCat(address, " answers, but it is no Tidegate scheduler"));
    return absl::Status(status.code(), absl::StrCat("scheduler at ", address, ": ", status.message()));
  }
};

absl::Status CheckAddress(const std::string& scheduler) {
  const absl::Status s = SplitAddresses(scheduler).status();
  return s.ok() ? s : absl::InvalidArgumentError(absl::StrCat("--scheduler=", scheduler, ": ", s.message()));
}

StatusClient::StatusClient(const std::string& scheduler) : impl_(std::make_unique<Impl>(scheduler)) {}
StatusClient::~StatusClient() = default;

absl::StatusOr<GetStatusResponse> StatusClient::Get(int timeout_ms) const {
  GetStatusResponse response;
  const absl::Status s = impl_->Call(&SchedulerService::Stub::GetStatus, GetStatusRequest(), &response, timeout_ms);
  if (!s.ok()) return s;
  return response;
}

absl::StatusOr<GetRoutingResponse> StatusClient::Routing(int timeout_ms) const {
  GetRoutingResponse response;
  const absl::Status s = impl_->Call(&SchedulerService::Stub::GetRouting, GetRoutingRequest(), &response, timeout_ms);
  if (!s.ok()) return s;
  return response;
}

absl::StatusOr<uint64_t> StatusClient::SaveCheckpoint(int timeout_ms) const {
  SaveCheckpointResponse response;
  const absl::Status s = impl_->Call(&SchedulerService::Stub::SaveCheckpoint, SaveCheckpointRequest(), &response, timeout_ms);
  if (!s.ok()) return s;
  return response.number();
}

absl::StatusOr<DrainResponse> StatusClient::Drain(const std::string& server, bool restart, int timeout_ms) const {
  DrainRequest request;
  request.set_server(server);
  request.set_restart(restart);
  DrainResponse response;
  const absl::Status s = impl_->Call(&SchedulerService::Stub::Drain, request, &response, timeout_ms);
  if (!s.ok()) return s;
  return response;
}

absl::StatusOr<RestoreJobResponse> StatusClient::Restore(int timeout_ms) const {
  RestoreJobResponse response;
  const absl::Status s = impl_->Call(&SchedulerService::Stub::RestoreJob, RestoreJobRequest(), &response, timeout_ms);
  if (!s.ok()) return s;
  return response;
}

absl::Status StatusClient::Stop(const std::string& reason, int timeout_ms) const {
  StopJobRequest request;
  request.set_reason(reason);
  StopJobResponse response;
  return impl_->Call(&SchedulerService::Stub::StopJob, request, &response, timeout_ms);
}

}  // namespace tidegate::cli
