#pragma once
// Runs the scheduler's core: one lock around it, its state stored before an answer leaves, a thread that
// ticks. Knows nothing of gRPC.
//
// A write does not hold the lock: what is decided meanwhile is stored together by the next one
// (scheduler/store/group_commit.h). The first is done by the thread of the call that needs it, the next ones by the
// loop's own.
//
// While the state cannot be stored nothing leaves: storing is tried again, and what was to leave waits for
// it; so does the core's clock, so that no member is declared dead for being unheard. A write that takes long stops
// the clock as well.
//
// Thread-safe. Answers are called without the lock, from the thread of any call or the loop's own, once
// per Submit, in the order in which the core gave them to that thread.

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "scheduler/cluster_state.h"
#include "scheduler/store/group_commit.h"
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
  // Since the loop began.
  struct Statistics {
    uint64_t writes = 0;       // of the state, that were done
    size_t state_bytes = 0;    // of the newest
    // That the core took for the call that made the newest routing table, by the clock and of a processor.
    double table_ms = 0;
    double table_cpu_ms = 0;
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
      std::unique_lock<std::mutex> lock(mutex_);
      if (!running_) {
        ready.push_back({std::move(answer), absl::UnavailableError("the scheduler is stopping"), {}});
      } else {
        const CallToken token = ++last_token_;
        waiting_.emplace(token, std::move(answer));
        Call(&ready, [&] { return core_->Handle(CoreNow(), token, request); });
        Flush(&lock, &ready);
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
  Statistics statistics();

 private:
  struct Ready {
    Answer answer;
    absl::Status status;
    SchedulerResponse response;
  };

  // REQUIRES, of all of these: mutex_ held.
  template <typename CoreCall>
  void Call(std::vector<Ready>* ready, CoreCall call) {
    const Epoch before = core_->Durable().routing().epoch();
    const Times began = Now();
    SchedulerEffects effects = call();
    if (core_->Durable().routing().epoch() != before) {
      const Times ended = Now();
      statistics_.table_ms = ended.clock_ms - began.clock_ms;
      statistics_.table_cpu_ms = ended.cpu_ms - began.cpu_ms;
    }
    Apply(std::move(effects), ready);
  }
  struct Times {
    double clock_ms, cpu_ms;  // cpu: of this thread
  };
  static Times Now();
  void Apply(SchedulerEffects effects, std::vector<Ready>* ready);
  // Replaces the core by one that goes on from a checkpoint; `effects` came with the wish.
  void Restore(SchedulerEffects* effects, std::vector<Ready>* ready);
  // Stores what is to be stored, unless another thread is at it, and releases what may leave. Gives the lock away while
  // it writes.
  void Flush(std::unique_lock<std::mutex>* lock, std::vector<Ready>* ready);
  void Write(std::unique_lock<std::mutex>* lock);
  void NoteWritten(TimeMs began, size_t bytes, const absl::Status& status);
  bool WriteIsDue() const { return commit_.NeedsWrite() && store_error_.ok() && health_.ok(); }
  // Storing fails, or takes long.
  bool Stalled(TimeMs now) const;
  TimeMs CoreNow();
  void Release(SchedulerEffects effects, std::vector<Ready>* ready);
  // `of`: the core that ordered the manifests.
  void CallCore(const ClusterState* of, const std::vector<absl::Status>& manifests_written, std::vector<Ready>* ready);
  static void Deliver(std::vector<Ready> ready);
  void Run();

  ClusterState* core_;
  StateStore* const store_;
  const ClockSource* const clock_;
  const Hooks hooks_;
  const TimeMs store_patience_ms_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable written_;
  bool running_ = false;
  absl::Status health_;
  GroupCommit<SchedulerEffects> commit_;
  TimeMs write_began_ = 0;
  absl::Status store_error_;
  TimeMs failing_since_ = 0;
  TimeMs retry_at_ = 0;
  TimeMs tick_ms_ = 0;
  TimeMs next_tick_ = 0;
  TimeMs core_now_ = 0;  // told to the core last
  Statistics statistics_;
  CallToken last_token_ = 0;
  std::unordered_map<CallToken, Answer> waiting_;
  std::vector<ManifestOrder> manifests_;      // for the loop's thread
  std::vector<std::string> removals_;
  std::thread thread_;
};

}  // namespace tidegate
