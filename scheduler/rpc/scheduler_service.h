#pragma once
// SchedulerService over gRPC: a translator around SchedulerLoop; while there is none, every call is refused, with
// the leader's address where it is known. Thread-safe.

#include <memory>
#include <mutex>
#include <string>

#include "proto/scheduler_service.grpc.pb.h"
#include "scheduler/rpc/scheduler_loop.h"

namespace tidegate {

class SchedulerServiceImpl final : public SchedulerService::CallbackService {
 public:
  void Serve(std::shared_ptr<SchedulerLoop> loop);
  // UNAVAILABLE with `reason`; `leader`, HOST:PORT or empty, is named in the metadata too (common/rpc/scheduler_calls.h).
  void Refuse(const std::string& reason, const std::string& leader);

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
  Reactor* Drain(Context*, const DrainRequest*, DrainResponse*) override;
  Reactor* RestoreJob(Context*, const RestoreJobRequest*, RestoreJobResponse*) override;
  Reactor* SaveCheckpoint(Context*, const SaveCheckpointRequest*, SaveCheckpointResponse*) override;

 private:
  template <typename Request, typename Response>
  Reactor* Forward(Context* context, const Request* request, Response* response);

  std::mutex mutex_;
  std::shared_ptr<SchedulerLoop> loop_;
  std::string reason_ = "the scheduler is starting";
  std::string leader_;
};

}  // namespace tidegate
