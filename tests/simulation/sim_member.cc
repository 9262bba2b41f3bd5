#include "tests/simulation/sim_member.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tidegate::simulation {
namespace {

constexpr TimeMs kJoinAgainMs = 100;

}  // namespace

void SimMember::Join(uint64_t nonce, const std::string& address) {
  ++session_;
  incarnation_ = 0;
  routing_epoch_ = worker_set_version_ = probe_ = last_command_ = 0;
  phase_ = STARTING;
  done_.clear();
  unreported_.clear();
  JoinRequest request;
  request.set_role(role_);
  request.set_nonce(nonce);
  request.set_address(address);
  request.set_name(absl::StrCat(role_ == SERVER ? "s" : "w", id()));
  Call<JoinResponse>(request, [this, nonce, address](const absl::Status& status, const JoinResponse& response) {
    if (absl::IsUnavailable(status)) return Later(kJoinAgainMs, [this, nonce, at = address] { Join(nonce, at); });
    if (!status.ok()) {
      OnPhase(FAILED, std::string(status.message()));
      return;
    }
    incarnation_ = response.incarnation();
    join_ = response;
    world_->trace->Line(world_->now(), "joined", {{"process", id()}, {"as", static_cast<int64_t>(incarnation_)}});
    OnJoined();
  });
}

HeartbeatRequest SimMember::MakeHeartbeat() {
  HeartbeatRequest request;
  request.set_incarnation(incarnation_);
  request.set_seen_term(term_);
  request.set_routing_epoch(routing_epoch_);
  request.set_worker_set_version(worker_set_version_);
  request.set_seen_probe(probe_);
  request.set_last_command(last_command_);
  for (uint64_t id : unreported_) *request.add_results() = done_.at(id);
  FillReports(&request);
  return request;
}

void SimMember::Heartbeat() {
  HeartbeatRequest request = MakeHeartbeat();
  FillHeartbeat(&request);
  Call<HeartbeatResponse>(request, [this, request](const absl::Status& status,
                                                   const HeartbeatResponse& response) {
    const uint64_t session = session_;
    if (status.ok()) TakeHeartbeat(request, response);
    if (session == session_ && up()) Later(5, [this] { Heartbeat(); });
  });
}

// Beside the long poll that is under way: the scheduler answers both.
void SimMember::HeartbeatNow() {
  HeartbeatRequest request = MakeHeartbeat();
  request.set_no_wait(true);
  Call<HeartbeatResponse>(request, [this, request](const absl::Status& status,
                                                   const HeartbeatResponse& response) {
    if (status.ok()) TakeHeartbeat(request, response);
  });
}

void SimMember::TakeHeartbeat(const HeartbeatRequest& request, const HeartbeatResponse& response) {
  if (response.rejoin()) return OnRejoin();
  for (const CommandResult& result : request.results()) unreported_.erase(result.id());
  if (response.has_routing() && response.routing().epoch() > routing_epoch_) {
    routing_epoch_ = response.routing().epoch();
    OnRouting(response.routing());
  }
  if (response.has_workers() && response.workers().version() > worker_set_version_) {
    worker_set_version_ = response.workers().version();
    OnWorkers(response.workers());
  }
  probe_ = std::max(probe_, response.probe());
  for (const Command& command : response.commands()) {
    if (done_.contains(command.id())) unreported_.insert(command.id());
    if (command.id() <= last_command_) continue;
    last_command_ = command.id();
    RunCommand(command, [this, session = session_](const CommandResult& result) {
      if (session != session_) return;
      done_[result.id()] = result;
      unreported_.insert(result.id());
      HeartbeatNow();
    });
  }
  if (response.phase() != phase_) {
    phase_ = response.phase();
    OnPhase(phase_, response.message());
  }
}

void SimMember::Leave() {
  LeaveRequest request;
  request.set_incarnation(incarnation_);
  auto bytes = std::make_shared<const std::string>(request.SerializeAsString());
  SimScheduler* scheduler = world_->scheduler;
  world_->network->Send(*this, scheduler, [scheduler, bytes, from = incarnation_] {
    LeaveRequest parsed;
    if (!parsed.ParseFromString(*bytes)) return;
    scheduler->Receive(parsed, from, [](const absl::Status&, const SchedulerResponse&) {});
  });
}

}  // namespace tidegate::simulation
