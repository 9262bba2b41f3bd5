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
#include <utility>
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
    Epoch epoch = 0;          // the newest table that it announced itself by
    bool counted = false;     // by an announcement, not only heard
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
  // This server leads shards from a table of `epoch` on that it did not lead: the minimum stays as it is until each
  // worker of the set with version `set_version` has announced itself by a table of that epoch, or is removed.
  // `restart`: what was known before is no minimum (the server led nothing; joiners may not have told it).
  // `highest` is it then, where nobody is live.
  void AwaitAll(Epoch epoch, uint64_t set_version, bool restart, Clock highest);
  bool Awaits() const { return awaits_; }
  // The worker has spoken by a table of this epoch, whatever it said.
  void Hear(Incarnation worker, Epoch epoch);
  uint64_t set_version() const { return set_version_; }
  // Of a job that resumes after `clock`. REQUIRES: no worker is known.
  void StartAt(Clock clock) { minimum_ = start_ = clock; }

  // An announcement of a worker that is not removed; `released` is the clock that a Hello counts its
  // sender at. False: repeated or older than the newest seen, nothing changed.
  bool Announce(Incarnation worker, const wire::ClockRequest& request, Clock released);
  // A Hello that is newer than all that a live worker said: it uses no clock before every server has answered, and
  // holds nobody up meanwhile. Otherwise one whose first Hello did not reach a server that is gone would keep the
  // minimum below what that server had released. False: it is no such Hello.
  bool LeaveForHello(Incarnation worker, const wire::ClockRequest& request);
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
  bool AllAnnounced() const;

  std::map<Incarnation, Worker> workers_;
  Clock minimum_ = -1;
  uint64_t set_version_ = 0;
  Incarnation last_incarnation_ = 0;
  std::vector<Incarnation> set_live_;  // ascending
  // How far the newest sets reached: version, last incarnation.
  std::vector<std::pair<uint64_t, Incarnation>> reach_;
  Clock start_ = -1;
  bool awaits_ = false;
  Epoch awaited_epoch_ = 0;
  uint64_t awaited_version_ = 0;
  Clock awaited_highest_ = -1;
};

}  // namespace tidegate
