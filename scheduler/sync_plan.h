#pragma once
// Work of one epoch at staleness 0: the epoch's steps, handed out as groups [first_step, end_step) in
// which every rank of a world does its slice of every step. The next group is made when all ranks of the
// last have finished. The steps that a rank could not do are leftovers: one worker does them alone, as
// that rank of that world. Where the steps end is learned from the ranks. Not thread-safe.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "common/types.h"
#include "proto/scheduler_state.pb.h"

namespace tidegate {

class SyncPlan {
 public:
  explicit SyncPlan(EpochProgress* progress) : progress_(progress) {}

  bool Running() const { return progress_->leases_size() > 0; }
  bool HasNext() const { return NextIsLeftover() || !progress_->end_known() ||
                                progress_->next_step() < progress_->end_step(); }
  bool NextIsLeftover() const { return progress_->leftovers_size() > 0; }
  bool AllDone() const { return !Running() && !HasNext(); }

  // REQUIRES: HasNext, not Running; one member for a leftover. Ranks follow the order of `members`.
  void Start(std::span<const Incarnation> members, uint32_t epoch, Clock start_clock, uint64_t steps,
             const std::function<uint64_t()>& next_lease);
  // Ends the worker's lease, if any: what it reported stays done, the rest is left over.
  bool GiveBack(Incarnation worker);
  // True when `worker` held this lease.
  bool Complete(Incarnation worker, const WorkDone& done);
  // train.drop_slowest: all but so many ranks have ended the group, by what a rank says that has done all of it. So the clocks
  // of the others' steps are closed: what they have not done is dropped.
  bool OnlySlowestLeft(uint32_t drop_slowest) const;
  // Ends their leases, and leaves nothing over; who they are.
  std::vector<Incarnation> EndSlowest();
  // What ranks that read the same data could not both have found. Empty: nothing.
  std::string Disagreement() const;
  // Steps that all ranks have done.
  uint64_t StepsDone() const;

 private:
  void EndLease(const LeaseRecord& lease, const WorkDone& done, uint64_t next_step);
  void LearnEnd(uint64_t end_step);
  void NoteSteps(const WorkDone& done);

  EpochProgress* const progress_;
};

}  // namespace tidegate
