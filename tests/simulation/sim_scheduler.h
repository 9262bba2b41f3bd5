#pragma once
// The scheduler's core as a process with a store that keeps what was stored, and nothing else, over a crash. Several
// share a store: it takes the writes of the one that began to lead last, and of no other.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "common/random.h"
#include "scheduler/cluster_state.h"
#include "scheduler/store/group_commit.h"
#include "tests/simulation/world.h"

namespace tidegate::simulation {

struct SimStore {
  std::string state;
  uint64_t leader = 0;  // counts those who began to lead
  uint64_t writer = 0;  // who of them stored `state`
};

class SimScheduler final : public Process {
 public:
  // Called in the scheduler; carries the answer away.
  using Answer = std::function<void(const absl::Status&, const SchedulerResponse&)>;

  SimScheduler(World* world, int id, SimStore* store);

  // Leads, unless another does.
  void Boot();
  void Crash();
  // Leads, whoever else believes that it does.
  void TakeOver();
  bool leads() const { return up() && store_->leader == leader_; }
  // As `tidegate drain` does.
  void Drain(Incarnation server);
  void SlowDisk(TimeMs length_ms) { slow_until_ = world_->now() + length_ms; }
  // As `tidegate checkpoint` does.
  void AskForCheckpoint();
  // The next time that something is to be stored.
  void CrashAtPersist(bool before, TimeMs down_ms) {
    armed_ = true;
    before_ = before;
    down_ms_ = down_ms;
  }

  template <typename Request>
  void Receive(const Request& request, Incarnation from, Answer answer) {
    if (IsActive(from) && leads()) world_->checkers->Tell(&Checker::OnHeard, world_->now(), from);
    if constexpr (std::is_same_v<Request, HeartbeatRequest>) {
      if (leads()) world_->checkers->Tell(&Checker::OnHeartbeat, world_->now(), request);
      if (request.in_sync_size() + request.drained_size() > 0) world_->DrainStep();
    }
    if constexpr (std::is_same_v<Request, JoinRequest>) {
      if (leads()) world_->checkers->Tell(&Checker::OnJoin, world_->now(), request);
    }
    const CallToken token = ++last_token_;
    pending_[token] = {from, std::move(answer)};
    Apply(core_->Handle(now(), token, request));
  }

  SchedulerState stored() const;
  const ClusterState* core() const { return core_.get(); }

 private:
  struct Pending {
    Incarnation from;
    Answer answer;
  };
  struct Decision {
    bool persist;
    TimeMs at;
    SchedulerState state;  // persist: of then
    SchedulerEffects effects;
  };

  bool IsActive(Incarnation member) const;
  void TickLoop();
  void Apply(SchedulerEffects effects);
  void Write();
  // The write is done: what it holds, in the order in which it was decided.
  std::vector<Decision> Land();
  void EndWrite();
  void Note(const Decision& decision);
  void Carry(const SchedulerEffects& effects);
  void Tell(const SchedulerReply& reply, Incarnation to);

  World* const world_;
  SchedulerOptions options_;
  SimStore* const store_;
  uint64_t leader_ = 0;
  TimeMs slow_until_ = 0;
  Random random_;
  std::unique_ptr<ClusterState> core_;
  GroupCommit<Decision> commit_;
  std::string writing_;  // the state
  CallToken last_token_ = 0;
  std::map<CallToken, Pending> pending_;
  bool armed_ = false, before_ = false;
  TimeMs down_ms_ = 0;
};

}  // namespace tidegate::simulation
