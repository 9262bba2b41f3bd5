#pragma once
// Runs the scheduler's core: one lock around it, its state stored before an answer leaves, a thread that
// ticks. Knows nothing of gRPC.
//
// While the state cannot be stored nothing leaves: storing is tried again, and what was to leave waits for
// it; so does the core's clock, so that no member is declared dead for being unheard.
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
#include "absl/status/statusor.h"
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
    // Asked before anything leaves, after it has been stored; an error is the loop's end. Empty: always OK.
    std::function<absl::Status()> leads;
    // A core that takes the place of one that WantsRestore, and outlives the loop; `lost` may go once it is replaced.
    std::function<absl::StatusOr<ClusterState*>(const ClusterState& lost)> restore;
  };

  // core, store and clock outlive the loop. `store_patience_ms`: how long storing is tried again.
  SchedulerLoop(ClusterState* core, StateStore* store, const ClockSource* clock, Hooks hooks,
                TimeMs store_patience_ms = 30'000);
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
  // Not OK once storing was given up or another scheduler leads (ABORTED): nothing leaves any more.
  absl::Status Health();

 private:
  struct Ready {
    Answer answer;
    absl::Status status;
    SchedulerResponse response;
  };

  // REQUIRES: mutex_ held.
  void Apply(SchedulerEffects effects, std::vector<Ready>* ready);
  // Replaces the core by one that goes on from a checkpoint; `effects` came with the wish.
  void Restore(SchedulerEffects* effects, std::vector<Ready>* ready);
  void Store();
  void Release(SchedulerEffects effects, std::vector<Ready>* ready);
  // `of`: the core that ordered the manifests.
  void CallCore(const ClusterState* of, const std::vector<absl::Status>& manifests_written, std::vector<Ready>* ready);
  static void Deliver(std::vector<Ready> ready);
  void Run(TimeMs tick_ms);

  ClusterState* core_;
  StateStore* const store_;
  const ClockSource* const clock_;
  const Hooks hooks_;
  const TimeMs store_patience_ms_;

  std::mutex mutex_;
  std::condition_variable wake_;
  bool running_ = false;
  absl::Status health_;
  bool unstored_ = false;  // the core is ahead of the store
  absl::Status store_error_;
  TimeMs failing_since_ = 0;
  TimeMs retry_at_ = 0;
  std::vector<SchedulerEffects> held_;  // until it is stored what they follow from
  CallToken last_token_ = 0;
  std::unordered_map<CallToken, Answer> waiting_;
  std::vector<ManifestOrder> manifests_;      // for the loop's thread
  std::vector<std::string> removals_;
  std::thread thread_;
};

}  // namespace tidegate
