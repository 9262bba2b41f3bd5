#include "scheduler/work_queue.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/logging.h"
#include "common/random.h"

namespace tidegate {

LeaseRecord* FindLeaseOf(EpochProgress* progress, Incarnation worker) {
  for (LeaseRecord& lease : *progress->mutable_leases()) {
    if (lease.worker() == worker) return &lease;
  }
  return nullptr;
}

LeaseRecord* FindLease(EpochProgress* progress, Incarnation worker, uint64_t lease) {
  LeaseRecord* record = FindLeaseOf(progress, worker);
  return record != nullptr && record->work().lease() == lease ? record : nullptr;
}

void EraseLease(EpochProgress* progress, uint64_t lease) {
  auto* leases = progress->mutable_leases();
  for (auto it = leases->begin(); it != leases->end(); ++it) {
    if (it->work().lease() == lease) {
      leases->erase(it);
      return;
    }
  }
}

void CountWork(const WorkDone& done, EpochProgress* progress) {
  progress->set_samples(progress->samples() + done.samples());
  progress->set_loss_sum(progress->loss_sum() + done.loss_sum());
  progress->set_weight_sum(progress->weight_sum() + done.weight_sum());
  progress->set_bad_lines(progress->bad_lines() + done.bad_lines());
}

std::vector<uint64_t> PlannedFileBytes(const std::vector<Split>& train) {
  std::vector<uint64_t> bytes;
  for (const Split& split : train) {
    if (split.file().empty() || split.sequential()) return {};
    if (bytes.size() <= split.source()) bytes.resize(split.source() + 1, 0);
    bytes[split.source()] = std::max<uint64_t>(bytes[split.source()], split.end());
  }
  return bytes;
}

void WorkQueue::Begin(uint32_t epoch, uint64_t order_seed) {
  epoch_ = epoch;
  order_.resize(splits_->size());
  std::iota(order_.begin(), order_.end(), 0u);
  if (order_seed != 0) {
    Random random(order_seed);
    for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[random.Below(i)]);
  }
  taken_.assign(splits_->size(), 0);
  for (uint32_t split : progress_->done()) taken_.at(split) = 1;
  for (const LeaseRecord& lease : progress_->leases()) taken_.at(lease.split()) = 1;
}

const LeaseRecord* WorkQueue::Lease(Incarnation worker, uint64_t lease) {
  TG_CHECK(FindLeaseOf(progress_, worker) == nullptr) << "worker " << worker << " holds a lease";
  const auto free = std::find_if(order_.begin(), order_.end(), [&](uint32_t s) { return !taken_[s]; });
  if (free == order_.end()) return nullptr;
  taken_[*free] = 1;
  LeaseRecord* record = progress_->add_leases();
  record->set_worker(worker);
  record->set_split(*free);
  Work* work = record->mutable_work();
  work->set_lease(lease);
  work->set_epoch(epoch_);
  work->set_kind(kind_);
  *work->mutable_split() = (*splits_)[*free];
  return record;
}

bool WorkQueue::GiveBack(Incarnation worker) {
  const LeaseRecord* record = FindLeaseOf(progress_, worker);
  if (record == nullptr) return false;
  taken_[record->split()] = 0;
  EraseLease(progress_, record->work().lease());
  return true;
}

std::optional<uint32_t> WorkQueue::Complete(Incarnation worker, const WorkDone& done) {
  const LeaseRecord* record = FindLease(progress_, worker, done.lease());
  if (record == nullptr) return std::nullopt;
  const uint32_t split = record->split();
  progress_->add_done(split);
  CountWork(done, progress_);
  EraseLease(progress_, done.lease());
  return split;
}

bool WorkQueue::AnyFree() const {
  return std::find(taken_.begin(), taken_.end(), 0) != taken_.end();
}

double WorkQueue::DoneShare(double samples_per_unit) const {
  const auto units = [this](uint32_t s) { return static_cast<double>((*splits_)[s].end() - (*splits_)[s].begin()); };
  double total = 0, done = 0;
  for (uint32_t s = 0; s < splits_->size(); ++s) total += units(s);
  for (uint32_t s : progress_->done()) done += units(s);
  if (total <= 0) return progress_->done_size() == static_cast<int>(splits_->size()) ? 1 : 0;  // streams: none or all
  if (samples_per_unit <= 0 && done > 0) samples_per_unit = static_cast<double>(progress_->samples()) / done;
  bool unknown = false;
  for (const LeaseRecord& lease : progress_->leases()) {
    const double samples = static_cast<double>(lease.progress().samples());
    if (samples_per_unit > 0) {
      done += std::min(units(lease.split()), samples / samples_per_unit);
    } else {
      unknown |= samples > 0;
    }
  }
  return unknown ? -1 : done / total;
}

}  // namespace tidegate
