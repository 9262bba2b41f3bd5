#pragma once
// SchedulerService over gRPC: a translator around SchedulerLoop. Thread-safe.

#include "proto/scheduler_service.grpc.pb.h"
#include "scheduler/rpc/scheduler_loop.h"

namespace tidegate {

class SchedulerServiceImpl final : public SchedulerService::CallbackService {
 public:
  explicit SchedulerServiceImpl(SchedulerLoop* loop) : loop_(loop) {}

  using Context = grpc::CallbackServerContext;
  using Reactor = grpc::ServerUnaryReactor;
  Reactor* Join(Context*, const JoinRequest*, JoinResponse*) override;
  Reactor* DeclareTables(Context*, const DeclareTablesRequest*, DeclareTablesResponse*) override;
  Reactor* Heartbeat(Context*, const HeartbeatRequest*, HeartbeatResponse*) override;
  Reactor* AcquireWork(Context*, const AcquireWorkRequest*, AcquireWorkResponse*) override;
  Reactor* Leave(Context*, const LeaveRequest*, LeaveResponse*) override;
  Reactor* GetRouting(Context*, const GetRoutingRequest*, GetRoutingResponse*) override;
  Reactor* GetStatus(Context*, const GetStatusRequest*, GetStatusResponse*) override;
  Reactor* StopJob(Context*, const StopJobRequest*, StopJobResponse*) override;
  Reactor* SaveCheckpoint(Context*, const SaveCheckpointRequest*, SaveCheckpointResponse*) override;

 private:
  template <typename Request, typename Response>
  Reactor* Forward(Context* context, const Request* request, Response* response);

  SchedulerLoop* const loop_;
};

}  // namespace tidegate
