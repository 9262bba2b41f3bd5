#include "common/rpc/health_service.h"

#include <chrono>
#include <thread>

namespace tidegate {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

constexpr std::chrono::milliseconds kLookEvery{100};

}  // namespace

grpc::Status HealthService::Check(grpc::ServerContext*, const HealthCheckRequest* request, HealthCheckResponse* response) {
  if (!request->service().empty()) return grpc::Status(grpc::StatusCode::NOT_FOUND, "service name unknown");
  response->set_status(HealthCheckResponse::SERVING);
  return grpc::Status::OK;
}

// What it says never changes: a process that serves no more is gone.
grpc::Status HealthService::Watch(grpc::ServerContext* context, const HealthCheckRequest* request,
                                  grpc::ServerWriter<HealthCheckResponse>* writer) {
  grpc::Status status = grpc::Status::CANCELLED;
  if (watchers_.fetch_add(1) < kWatchersMax) {
    HealthCheckResponse response;
    response.set_status(request->service().empty() ? HealthCheckResponse::SERVING : HealthCheckResponse::SERVICE_UNKNOWN);
    writer->Write(response);
    while (!context->IsCancelled()) std::this_thread::sleep_for(kLookEvery);
  } else {
    status = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "too many watch the health of this process");
  }
  --watchers_;
  return status;
}

}  // namespace tidegate
