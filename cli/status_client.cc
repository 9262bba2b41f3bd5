#include "cli/status_client.h"

#include <chrono>

#include "absl/strings/str_cat.h"
#include "common/host_port.h"
#include "common/rpc/channel.h"
#include "common/rpc/status.h"
#include "proto/scheduler_service.grpc.pb.h"

namespace tidegate::cli {

struct StatusClient::Impl {
  std::string address;
  std::unique_ptr<SchedulerService::Stub> stub;

  absl::Status Named(const grpc::Status& status) const {
    if (status.ok()) return absl::OkStatus();
    if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      return absl::DeadlineExceededError(absl::StrCat("no scheduler answers at ", address));
    }
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                        absl::StrCat("scheduler at ", address, ": ", status.error_message()));
  }
};

namespace {
void SetDeadline(grpc::ClientContext* context, int timeout_ms) {
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(timeout_ms));
  context->set_wait_for_ready(true);
}
}  // namespace

absl::Status CheckAddress(const std::string& scheduler) {
  auto at = SplitHostPort(scheduler);
  if (at.ok() && at->port != 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--scheduler=", scheduler, ": ", at.ok() ? "port 0 cannot be reached" : std::string(at.status().message())));
}

StatusClient::StatusClient(const std::string& scheduler) : impl_(std::make_unique<Impl>()) {
  impl_->address = scheduler;
  impl_->stub = SchedulerService::NewStub(MakeControlChannel(scheduler));
}
StatusClient::~StatusClient() = default;

absl::StatusOr<GetStatusResponse> StatusClient::Get(int timeout_ms) const {
  grpc::ClientContext context;
  SetDeadline(&context, timeout_ms);
  GetStatusResponse response;
  if (absl::Status s = impl_->Named(impl_->stub->GetStatus(&context, GetStatusRequest(), &response)); !s.ok()) return s;
  return response;
}

absl::StatusOr<uint64_t> StatusClient::SaveCheckpoint(int timeout_ms) const {
  grpc::ClientContext context;
  SetDeadline(&context, timeout_ms);
  SaveCheckpointResponse response;
  absl::Status s = impl_->Named(impl_->stub->SaveCheckpoint(&context, SaveCheckpointRequest(), &response));
  if (!s.ok()) return s;
  return response.number();
}

absl::Status StatusClient::Stop(const std::string& reason, int timeout_ms) const {
  grpc::ClientContext context;
  SetDeadline(&context, timeout_ms);
  StopJobRequest request;
  request.set_reason(reason);
  StopJobResponse response;
  return impl_->Named(impl_->stub->StopJob(&context, request, &response));
}

}  // namespace tidegate::cli
