#pragma once
// The scheduler's core as a process with a disk that keeps what was stored, and nothing else, over a crash.

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "scheduler/cluster_state.h"
#include "tests/simulation/world.h"

namespace tidegate::simulation {

class SimScheduler final : public Process {
 public:
  // Called in the scheduler; carries the answer away.
  using Answer = std::function<void(const absl::Status&, const SchedulerResponse&)>;

  SimScheduler(World* world, int id);

  void Boot();
  void Crash();
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
    if (from != 0) world_->checkers->Tell(&Checker::OnHeard, now(), from);
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
  void TickLoop();
  void Apply(SchedulerEffects effects);

  World* const world_;
  SchedulerOptions options_;
  std::string disk_;
  std::unique_ptr<ClusterState> core_;
  CallToken last_token_ = 0;
  std::map<CallToken, Pending> pending_;
  bool armed_ = false, before_ = false;
  TimeMs down_ms_ = 0;
};

}  // namespace tidegate::simulation
