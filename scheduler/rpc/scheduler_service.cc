#include "scheduler/rpc/scheduler_service.h"

#include <algorithm>
#include <utility>

#include "common/executor/trace.h"
#include "common/rpc/scheduler_calls.h"
#include "common/rpc/status.h"

namespace tidegate {
namespace {

// Of the worker that calls, for traces; -1: not worth a span.
Clock ClockOf(const AcquireWorkRequest& request) { return request.clock(); }
Clock ClockOf(const HeartbeatRequest& request) {
  return request.has_worker_load() ? std::max<Clock>(0, request.worker_load().clock()) : -1;
}
Clock ClockOf(const GetStatusRequest&) { return -1; }
template <typename Request>
Clock ClockOf(const Request&) {
  return 0;
}

}  // namespace

void SchedulerServiceImpl::Serve(std::shared_ptr<SchedulerLoop> loop) {
  std::lock_guard lock(mutex_);
  loop_ = std::move(loop);
}

void SchedulerServiceImpl::Refuse(const std::string& reason, const std::string& leader) {
  std::shared_ptr<SchedulerLoop> ended;  // destroyed without the lock
  std::lock_guard lock(mutex_);
  ended.swap(loop_);
  reason_ = reason;
  leader_ = leader;
}

template <typename Request, typename Response>
grpc::ServerUnaryReactor* SchedulerServiceImpl::Forward(Context* context, const Request* request,
                                                        Response* response) {
  const TraceSpan span(Request::descriptor()->name().c_str(), ClockOf(*request));
  Reactor* reactor = context->DefaultReactor();
  std::shared_ptr<SchedulerLoop> loop;
  {
    std::lock_guard lock(mutex_);
    loop = loop_;
    if (loop == nullptr) {
      if (!leader_.empty()) context->AddTrailingMetadata(kLeaderKey, leader_);
      reactor->Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, reason_));
      return reactor;
    }
  }
  loop->Submit(*request, [reactor, response](const absl::Status& status, SchedulerResponse answer) {
    if (status.ok()) *response = std::move(std::get<Response>(answer));
    reactor->Finish(ToGrpc(status));
  });
  return reactor;
}

using Context = SchedulerServiceImpl::Context;
using Reactor = SchedulerServiceImpl::Reactor;

Reactor* SchedulerServiceImpl::Join(Context* c, const JoinRequest* q, JoinResponse* r) {
  return Forward(c, q, r);
}
Reactor* SchedulerServiceImpl::DeclareTables(Context* c, const DeclareTablesRequest* q,
                                             DeclareTablesResponse* r) {
  return Forward(c, q, r);
}
Reactor* SchedulerServiceImpl::Heartbeat(Context* c, const HeartbeatRequest* q,
                                         HeartbeatResponse* r) {
  return Forward(c, q, r);
}
Reactor* SchedulerServiceImpl::AcquireWork(Context* c, const AcquireWorkRequest* q,
                                           AcquireWorkResponse* r) {
  return Forward(c, q, r);
}
Reactor* SchedulerServiceImpl::Leave(Context* c, const LeaveRequest* q, LeaveResponse* r) {
  return Forward(c, q, r);
}
Reactor* SchedulerServiceImpl::GetRouting(Context* c, const GetRoutingRequest* q,
                                          GetRoutingResponse* r) {
  return Forward(c, q, r);
}
Reactor* SchedulerServiceImpl::GetStatus(Context* c, const GetStatusRequest* q,
                                         GetStatusResponse* r) {
  return Forward(c, q, r);
}
Reactor* SchedulerServiceImpl::StopJob(Context* c, const StopJobRequest* q, StopJobResponse* r) {
  return Forward(c, q, r);
}
Reactor* SchedulerServiceImpl::Drain(Context* c, const DrainRequest* q, DrainResponse* r) {
  return Forward(c, q, r);
}
Reactor* SchedulerServiceImpl::RestoreJob(Context* c, const RestoreJobRequest* q, RestoreJobResponse* r) {
  return Forward(c, q, r);
}
Reactor* SchedulerServiceImpl::SaveCheckpoint(Context* c, const SaveCheckpointRequest* q,
                                              SaveCheckpointResponse* r) {
  return Forward(c, q, r);
}

}  // namespace tidegate
