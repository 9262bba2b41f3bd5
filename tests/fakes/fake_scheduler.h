#pragma once
// A scheduler that a test scripts: serves SchedulerService on a free port of loopback, answers from a
// state that Update changes, and records what members say. Long polls are held for `interval_ms`.

#include <grpcpp/server.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/rpc/channel.h"
#include "proto/job.pb.h"
#include "proto/scheduler_service.grpc.pb.h"

namespace tidegate {

class FakeScheduler final : public SchedulerService::Service {
 public:
  struct State {
    uint64_t term = 1;
    uint64_t generation = 9;
    uint64_t heartbeat_generation = 0;  // in heartbeats' answers
    uint32_t interval_ms = 50;
    JobConfig config;
    RoutingTable routing;
    WorkerSet workers;
    uint64_t probe = 0;
    std::vector<Command> commands;
    Phase phase = STARTING;
    std::string message;
    bool rejoin = false;
    grpc::Status join_answer;
    bool standby = false;  // refuses every call, and names the leader
    std::string leader;
    bool frozen = false;   // answers nothing
    std::vector<AcquireWorkResponse> work;  // handed out from the front
    // What members said.
    std::vector<JoinRequest> joins;
    std::vector<CommandResult> results;
    std::vector<std::string> leaves;
    std::string fatal_error;
    HeartbeatRequest last_heartbeat;
    uint64_t heartbeats = 0;
    std::vector<DeclareTablesRequest> declared;
  };

  explicit FakeScheduler(const std::string& address = "127.0.0.1:0") { StartAt(address); }
  ~FakeScheduler() override { Stop(); }

  const std::string& address() const { return listening_.address; }
  void Stop() {
    if (listening_.server == nullptr) return;
    Update([this](State&) { stopping_ = true; });
    listening_.server->Shutdown(std::chrono::system_clock::now());
    listening_.server.reset();
  }
  // Again at the same address, as after a crash.
  void Restart() {
    Update([this](State&) { stopping_ = false; });
    StartAt(listening_.address);
  }

  template <typename F>
  void Update(F change) {
    {
      std::lock_guard lock(mutex_);
      change(state_);
    }
    changed_.notify_all();
  }
  // False after ten seconds without it.
  bool WaitUntil(const std::function<bool(const State&)>& reached) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return reached(state_); });
  }

  grpc::Status Join(grpc::ServerContext* context, const JoinRequest* request,
                    JoinResponse* response) override {
    std::unique_lock lock(mutex_);
    if (grpc::Status refused = Refusal(context, &lock); !refused.ok()) return refused;
    if (!state_.join_answer.ok()) return state_.join_answer;
    uint64_t incarnation = 0;
    for (size_t i = 0; i < state_.joins.size(); ++i) {
      if (state_.joins[i].nonce() == request->nonce()) incarnation = i + 1;
    }
    if (incarnation == 0) {
      state_.joins.push_back(*request);
      incarnation = state_.joins.size();
    }
    response->set_term(state_.term);
    response->set_incarnation(incarnation);
    response->set_generation(state_.generation);
    response->set_job_config(state_.config.SerializeAsString());
    response->set_heartbeat_interval_ms(state_.interval_ms);
    response->set_lease_ms(3000);
    changed_.notify_all();
    return grpc::Status::OK;
  }

  grpc::Status Heartbeat(grpc::ServerContext* context, const HeartbeatRequest* request,
                         HeartbeatResponse* response) override {
    std::unique_lock lock(mutex_);
    if (grpc::Status refused = Refusal(context, &lock); !refused.ok()) return refused;
    ++state_.heartbeats;
    state_.last_heartbeat = *request;
    for (const CommandResult& result : request->results()) state_.results.push_back(result);
    if (!request->fatal_error().empty()) state_.fatal_error = request->fatal_error();
    changed_.notify_all();
    const auto news = [&] {
      return stopping_ || state_.rejoin || state_.routing.epoch() > request->routing_epoch() ||
             state_.workers.version() > request->worker_set_version() ||
             (!state_.commands.empty() && state_.commands.back().id() > request->last_command()) ||
             state_.phase != last_phase_sent_;
    };
    if (!request->no_wait()) {
      changed_.wait_for(lock, std::chrono::milliseconds(state_.interval_ms), news);
    }
    response->set_term(state_.term);
    response->set_rejoin(state_.rejoin);
    response->set_generation(state_.heartbeat_generation);
    response->set_probe(state_.probe);
    if (state_.routing.epoch() > request->routing_epoch()) {
      *response->mutable_routing() = state_.routing;
    }
    if (state_.workers.version() > request->worker_set_version()) {
      *response->mutable_workers() = state_.workers;
    }
    for (const Command& command : state_.commands) {
      if (command.id() > request->last_command()) *response->add_commands() = command;
    }
    response->set_phase(state_.phase);
    response->set_message(state_.message);
    last_phase_sent_ = state_.phase;
    return stopping_ ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "stopping") : grpc::Status::OK;
  }

  grpc::Status AcquireWork(grpc::ServerContext* context, const AcquireWorkRequest*,
                           AcquireWorkResponse* response) override {
    std::unique_lock lock(mutex_);
    if (grpc::Status refused = Refusal(context, &lock); !refused.ok()) return refused;
    changed_.wait_for(lock, std::chrono::milliseconds(state_.interval_ms),
                      [&] { return stopping_ || !state_.work.empty(); });
    if (stopping_) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "stopping");
    if (state_.work.empty()) {
      response->mutable_wait();
    } else {
      *response = state_.work.front();
      state_.work.erase(state_.work.begin());
    }
    response->set_term(state_.term);
    return grpc::Status::OK;
  }

  grpc::Status DeclareTables(grpc::ServerContext* context, const DeclareTablesRequest* request,
                             DeclareTablesResponse* response) override {
    std::unique_lock lock(mutex_);
    if (grpc::Status refused = Refusal(context, &lock); !refused.ok()) return refused;
    state_.declared.push_back(*request);
    response->set_term(state_.term);
    return grpc::Status::OK;
  }

  grpc::Status GetRouting(grpc::ServerContext* context, const GetRoutingRequest*,
                          GetRoutingResponse* response) override {
    std::unique_lock lock(mutex_);
    if (grpc::Status refused = Refusal(context, &lock); !refused.ok()) return refused;
    response->set_term(state_.term);
    *response->mutable_routing() = state_.routing;
    return grpc::Status::OK;
  }

  grpc::Status Leave(grpc::ServerContext* context, const LeaveRequest* request,
                     LeaveResponse* response) override {
    std::unique_lock lock(mutex_);
    if (grpc::Status refused = Refusal(context, &lock); !refused.ok()) return refused;
    state_.leaves.push_back(request->reason());
    response->set_term(state_.term);
    changed_.notify_all();
    return grpc::Status::OK;
  }

 private:
  grpc::Status Refusal(grpc::ServerContext* context, std::unique_lock<std::mutex>* lock) {
    changed_.wait(*lock, [this] { return !state_.frozen || stopping_; });
    if (!state_.standby) return grpc::Status::OK;
    if (!state_.leader.empty()) context->AddTrailingMetadata("tidegate-leader", state_.leader);
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "stands by; the leader is at " + state_.leader);
  }
  void StartAt(const std::string& address) {
    ListenOptions options;
    options.address = address;
    auto listening = Listen(options, [this](grpc::ServerBuilder& b) { b.RegisterService(this); });
    if (!listening.ok()) throw std::runtime_error(std::string(listening.status().message()));
    listening_ = *std::move(listening);
  }

  Listening listening_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  Phase last_phase_sent_ = STARTING;
  State state_;
};

}  // namespace tidegate
