#pragma once
// Who is live and how far: the clocks of the workers as one strand knows them, and the minimum that
// releases pulls. Soft state. A core without I/O; not thread-safe.
//
//   unknown --a set names it--> member --Hello--> live --Park--> parked --Hello--> live ...
//   any --a set leaves it out--> removed (for good)

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "common/types.h"
#include "common/wire/shard_wire.h"
#include "proto/cluster.pb.h"

namespace tidegate {

class ClockTable {
 public:
  struct Worker {
    bool live = false;
    Clock clock = -1;         // ticked: all its pushes up to it are acknowledged
    uint64_t order = 0;       // of its newest announcement
    Clock hello_answer = -1;  // m of its newest Hello
  };

  // The lowest clock of the live workers; without one, and never below, the highest it ever was.
  Clock Minimum() const { return minimum_; }

  // The scheduler's view; returns the workers that it removes from this table, ascending. An older
  // version changes nothing.
  std::vector<Incarnation> SetWorkers(const WorkerSet& workers);
  // True if the scheduler has said that the worker is gone.
  bool IsRemoved(Incarnation worker) const;
  // True if no set of workers has told of it: it may join in the next one, or be no member at all.
  bool IsUnknown(Incarnation worker) const;
  bool IsLive(Incarnation worker) const;
  bool AnyLive() const;
  // Of a job that resumes after `clock`. REQUIRES: no worker is known.
  void StartAt(Clock clock) { minimum_ = clock; }

  // An announcement of a worker that is not removed; `released` is the clock that pulls are released
  // by now, where a Hello counts its sender. False: repeated or older than the newest seen, nothing
  // changed.
  bool Announce(Incarnation worker, const wire::ClockRequest& request, Clock released);
  // What to answer: a Hello is answered as it was the first time, others (and outdated ones) with
  // what is released now.
  Clock AnswerTo(Incarnation worker, const wire::ClockRequest& request, Clock released) const;
  // Counts a live worker at `clock` at least, if its newest announcement is the Hello of this order.
  void JoinAt(Incarnation worker, uint64_t order, Clock clock);

  // Live and parked workers, by incarnation.
  const std::map<Incarnation, Worker>& workers() const { return workers_; }
  size_t size() const { return workers_.size(); }

 private:
  void RaiseMinimum();

  std::map<Incarnation, Worker> workers_;
  Clock minimum_ = -1;
  uint64_t set_version_ = 0;
  Incarnation last_incarnation_ = 0;
  std::vector<Incarnation> set_live_;  // ascending
};

}  // namespace tidegate
