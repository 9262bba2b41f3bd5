#pragma once
// Splits of one pass over the data, leased first come, one to a worker at a time. Over an EpochProgress
// (durable for training, soft for an evaluation). Not thread-safe.

#include <cstdint>
#include <optional>
#include <vector>

#include "common/types.h"
#include "proto/scheduler_state.pb.h"

namespace tidegate {

// nullptr if there is none.
LeaseRecord* FindLeaseOf(EpochProgress* progress, Incarnation worker);
// The lease with this id if `worker` holds it.
LeaseRecord* FindLease(EpochProgress* progress, Incarnation worker, uint64_t lease);
void EraseLease(EpochProgress* progress, uint64_t lease);
// Adds what finished work did to the sums of the pass.
void CountWork(const WorkDone& done, EpochProgress* progress);
// Of each file of data.train, by its index; empty for generated data and streams.
std::vector<uint64_t> PlannedFileBytes(const std::vector<Split>& train);

class WorkQueue {
 public:
  // `progress` and `splits` outlive the queue.
  WorkQueue(EpochProgress* progress, const std::vector<Split>* splits, Work::Kind kind)
      : progress_(progress), splits_(splits), kind_(kind) {}

  // Takes up the pass where `progress` is. order_seed 0: splits in their order, else shuffled by it.
  void Begin(uint32_t epoch, uint64_t order_seed);

  // A free split for `worker`, which must not hold a lease. nullptr when none is free.
  const LeaseRecord* Lease(Incarnation worker, uint64_t lease);
  // The worker's lease, if any, is ended and its split free again. False: it had none.
  bool GiveBack(Incarnation worker);
  // Its split, when `worker` held this lease; the split is done.
  std::optional<uint32_t> Complete(Incarnation worker, const WorkDone& done);

  bool AnyFree() const;
  bool AllDone() const { return static_cast<size_t>(progress_->done_size()) == splits_->size(); }
  // Share of the bytes (rows) that is done, with what is reported of leased splits. samples_per_unit: of a
  // byte or row; 0: by the splits that are finished. Negative: work is under way, but not known how far.
  double DoneShare(double samples_per_unit = 0) const;
  size_t size() const { return splits_->size(); }

 private:
  EpochProgress* const progress_;
  const std::vector<Split>* const splits_;
  const Work::Kind kind_;
  uint32_t epoch_ = 0;
  std::vector<uint32_t> order_;
  std::vector<char> taken_;  // per split: done or leased
};

}  // namespace tidegate
