#pragma once
// Runs the scheduler's core: one lock around it, its state stored before an answer leaves, a thread that
// ticks. Knows nothing of gRPC.
//
// Thread-safe. Answers are called without the lock, from the thread of any call or the loop's own, once
// per Submit, in the order in which the core gave them to that thread.

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "common/clock.h"
#include "scheduler/cluster_state.h"
#include "scheduler/store/state_store.h"

namespace tidegate {

class SchedulerLoop {
 public:
  using Answer = std::function<void(const absl::Status&, SchedulerResponse)>;
  struct Hooks {
    std::function<absl::Status(const ManifestOrder&)> write_manifest;
    std::function<void(const std::string& folder)> remove_checkpoint;
    std::function<void(const std::string& event)> log;
    std::function<void(const MetricsRecord& record)> metrics;
  };

  // core, store and clock outlive the loop.
  SchedulerLoop(ClusterState* core, StateStore* store, const ClockSource* clock, Hooks hooks);
  ~SchedulerLoop();  // as Stop

  // Counts the term and begins to tick. The store's error, if it cannot be stored.
  absl::Status Start(TimeMs tick_ms = 50);
  // Ends the thread; calls that still wait are answered UNAVAILABLE, and so is every later one.
  void Stop();

  template <typename Request>
  void Submit(const Request& request, Answer answer) {
    std::vector<Ready> ready;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!running_) {
        ready.push_back({std::move(answer), absl::UnavailableError("the scheduler is stopping"), {}});
      } else {
        const CallToken token = ++last_token_;
        waiting_.emplace(token, std::move(answer));
        Apply(core_->Handle(clock_->NowMs(), token, request), &ready);
      }
    }
    Deliver(std::move(ready));
  }

  GetStatusResponse Status();
  SchedulerState Durable();
  bool Ended();
  bool Drained();
  // Not OK once the state could not be stored: nothing leaves any more, the process should end.
  absl::Status Health();

 private:
  struct Ready {
    Answer answer;
    absl::Status status;
    SchedulerResponse response;
  };

  // REQUIRES: mutex_ held.
  void Apply(SchedulerEffects effects, std::vector<Ready>* ready);
  static void Deliver(std::vector<Ready> ready);
  void Run(TimeMs tick_ms);

  ClusterState* const core_;
  StateStore* const store_;
  const ClockSource* const clock_;
  const Hooks hooks_;

  std::mutex mutex_;
  std::condition_variable wake_;
  bool running_ = false;
  absl::Status health_;
  CallToken last_token_ = 0;
  std::unordered_map<CallToken, Answer> waiting_;
  std::vector<ManifestOrder> manifests_;      // for the loop's thread
  std::vector<std::string> removals_;
  std::thread thread_;
};

}  // namespace tidegate
