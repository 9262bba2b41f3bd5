#pragma once
// gRPC health checks of a process: the empty name is served, others are unknown. In place of gRPC's own, whose queue
// takes its share of a server's connections and polls them beside the threads that work on them
// (docs/performance.md). Thread-safe.

#include <grpcpp/server_context.h>

#include <atomic>

#include "proto/health.grpc.pb.h"

namespace tidegate {

class HealthService final : public grpc::health::v1::Health::Service {
 public:
  static constexpr int kWatchersMax = 64;  // a thread each; more: RESOURCE_EXHAUSTED

  grpc::Status Check(grpc::ServerContext* context, const grpc::health::v1::HealthCheckRequest* request,
                     grpc::health::v1::HealthCheckResponse* response) override;
  grpc::Status Watch(grpc::ServerContext* context, const grpc::health::v1::HealthCheckRequest* request,
                     grpc::ServerWriter<grpc::health::v1::HealthCheckResponse>* writer) override;

 private:
  std::atomic<int> watchers_{0};
};

}  // namespace tidegate
