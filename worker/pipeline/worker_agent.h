#pragma once
// What a worker does next: the conversation with the scheduler as a core (docs/architecture.md). It
// owns no thread, socket or clock; the wiring (worker_loop.h) and the simulation carry out its actions.
// Not thread-safe.
//
//            +---------------- Wait ----------------+
//            v                                      |
//   kAcquire -> Announce -> kAnnounce -> (live) -> kAcquire -> Work -> kRun -> kAcquire ...
//            -> ParkOrder -> kPark    -> (parked) -> kAcquire
//            -> Finish -> kFinish      -> rejoin -> kRejoin
//
// A result of finished work is reported with the next kAcquire and kept until that call succeeded.

#include <string>
#include <vector>

#include "common/types.h"
#include "proto/scheduler_messages.pb.h"

namespace tidegate {

class WorkerAgent {
 public:
  enum class Do {
    kAcquire,   // send `request` to the scheduler, then OnAnswer or OnAcquireFailed
    kAnnounce,  // say Hello to every server, then OnAnnounced
    kPark,      // say Park to every server, then OnParked
    kRun,       // do `work`, then OnWorkDone
    kFinish,    // the job ended: `finish` says how
    kRejoin,    // not a member any more: join again as a new incarnation
  };
  struct Action {
    Do what = Do::kAcquire;
    AcquireWorkRequest request;
    Work work;
    Finish finish;
  };

  explicit WorkerAgent(Incarnation incarnation) : incarnation_(incarnation) {}

  // The action to carry out now. Stays the same until its On... was called.
  const Action& Next() const { return action_; }

  void OnAnswer(const AcquireWorkResponse& answer);
  // The call failed and may be sent again as it was.
  void OnAcquireFailed() {}
  // `clock`: the first clock that this worker may use.
  void OnAnnounced(Clock clock);
  void OnParked();
  // `next_clock`: the first clock after those that the work used.
  void OnWorkDone(const WorkDone& done, Clock next_clock);
  // A server or the scheduler said that this incarnation was removed.
  void OnFenced();

  bool live() const { return live_; }
  Clock clock() const { return clock_; }

  // Starts the conversation: call once.
  void Begin() { Acquire(); }

 private:
  void Acquire();

  const Incarnation incarnation_;
  bool live_ = false;
  Clock clock_ = 0;
  uint64_t order_ = 0;  // of the newest AcquireWork
  std::vector<WorkDone> unreported_;
  Action action_;
};

}  // namespace tidegate
