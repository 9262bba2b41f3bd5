#include "scheduler/rpc/scheduler_service.h"

#include <utility>

#include "common/rpc/status.h"

namespace tidegate {

template <typename Request, typename Response>
grpc::ServerUnaryReactor* SchedulerServiceImpl::Forward(Context* context, const Request* request,
                                                        Response* response) {
  Reactor* reactor = context->DefaultReactor();
  loop_->Submit(*request, [reactor, response](const absl::Status& status, SchedulerResponse answer) {
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

}  // namespace tidegate
