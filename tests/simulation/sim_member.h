#pragma once
// A member's conversation with the scheduler over the simulated network: join, heartbeats, commands, and
// calls that are sent again until they are answered (the behaviour of common/rpc/member_link.h).

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "tests/simulation/sim_scheduler.h"
#include "tests/simulation/world.h"

namespace tidegate::simulation {

class SimMember : public Process {
 public:
  Incarnation incarnation() const { return incarnation_; }
  uint64_t probe() const { return probe_; }

 protected:
  SimMember(World* world, int id, Role role) : Process(world->loop, id), world_(world), role_(role) {
    SetClock(world->SkewOf(id), world->DriftOf(id));
  }

  // Begins a new session: joins as a new incarnation.
  void Join(uint64_t nonce, const std::string& address);
  void StartHeartbeats() { Heartbeat(); }
  void HeartbeatNow();
  void Leave();
  // Ends the session: nothing more is sent, answers are ignored.
  void EndSession() { ++session_; }

  // Sent again until the scheduler answers.
  template <typename Response, typename Request>
  void Call(const Request& request, std::function<void(const absl::Status&, const Response&)> done);
  // `event` in this session, if it is still the one.
  void Later(TimeMs delay_ms, std::function<void()> event) {
    After(delay_ms, [this, session = session_, event = std::move(event)] {
      if (session == session_) event();
    });
  }

  virtual void OnJoined() = 0;
  virtual void OnRouting(const RoutingTable& table) = 0;
  virtual void OnWorkers(const WorkerSet& workers) {}
  virtual void OnPhase(Phase phase, const std::string& message) = 0;
  virtual void OnRejoin() = 0;
  // `done` once the command is carried out.
  virtual void RunCommand(const Command& command, std::function<void(CommandResult)> done) {}
  virtual void FillHeartbeat(HeartbeatRequest* request) {}
  // What is said in every heartbeat, also in those between.
  virtual void FillReports(HeartbeatRequest* request) {}

  const JoinResponse& join() const { return join_; }

  World* const world_;

 private:
  static constexpr TimeMs kTimeoutMs = 450;
  static constexpr TimeMs kBackoffMs = 20;

  HeartbeatRequest MakeHeartbeat();
  void Heartbeat();
  void TakeHeartbeat(const HeartbeatRequest& request, const HeartbeatResponse& response);

  const Role role_;
  SimScheduler* scheduler_ = nullptr;  // that it takes for the leader
  uint64_t session_ = 0;
  JoinResponse join_;
  Incarnation incarnation_ = 0;
  uint64_t term_ = 0;
  uint64_t routing_epoch_ = 0;
  uint64_t worker_set_version_ = 0;
  uint64_t probe_ = 0;
  uint64_t last_command_ = 0;
  Phase phase_ = STARTING;
  std::map<uint64_t, CommandResult> done_;
  std::set<uint64_t> unreported_;
};

template <typename Response, typename Request>
void SimMember::Call(const Request& request,
                     std::function<void(const absl::Status&, const Response&)> done) {
  auto answered = std::make_shared<bool>(false);
  auto bytes = std::make_shared<const std::string>(request.SerializeAsString());
  if (scheduler_ == nullptr) scheduler_ = world_->scheduler;
  SimScheduler* scheduler = scheduler_;
  const auto take = [this, session = session_, answered, done](const absl::Status& status,
                                                               const std::string& reply) {
    if (*answered || session != session_) return;
    Response response;
    if (status.ok()) {
      if (!response.ParseFromString(reply) || response.term() < term_) return;
      term_ = response.term();
    }
    *answered = true;
    done(status, response);
  };
  const Incarnation from = incarnation_;
  world_->network->Send(*this, scheduler, [this, scheduler, bytes, take, from] {
    Request parsed;
    if (!parsed.ParseFromString(*bytes)) return;
    scheduler->Receive(parsed, from, [this, scheduler, take](const absl::Status& status,
                                                             const SchedulerResponse& response) {
      std::string reply;
      if (status.ok()) reply = std::get<Response>(response).SerializeAsString();
      world_->network->Send(*scheduler, this, [take, status, reply] { take(status, reply); });
    });
  });
  Later(kTimeoutMs, [this, answered, request, done] {
    if (*answered) return;
    *answered = true;
    scheduler_ = world_->scheduler;  // perhaps another one leads
    Later(kBackoffMs, [this, request, done] { Call<Response>(request, done); });
  });
}

}  // namespace tidegate::simulation
