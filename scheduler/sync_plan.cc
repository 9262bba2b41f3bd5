#include "scheduler/sync_plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "scheduler/work_queue.h"

namespace tidegate {

void SyncPlan::Start(std::span<const Incarnation> members, uint32_t epoch, Clock start_clock,
                     uint64_t steps, const std::function<uint64_t()>& next_lease) {
  TG_CHECK(HasNext() && !Running() && !members.empty()) << members.size() << " members";
  SyncRange range;
  if (NextIsLeftover()) {
    TG_CHECK_EQ(members.size(), 1u);
    range = progress_->leftovers(0);
    progress_->mutable_leftovers()->erase(progress_->leftovers().begin());
  } else {
    range.set_first_step(progress_->next_step());
    range.set_end_step(progress_->next_step() + steps);
    if (progress_->end_known()) range.set_end_step(std::min(range.end_step(), progress_->end_step()));
    range.set_world(static_cast<uint32_t>(members.size()));
    progress_->set_next_step(range.end_step());
  }
  for (size_t i = 0; i < members.size(); ++i) {
    LeaseRecord* lease = progress_->add_leases();
    lease->set_worker(members[i]);
    Work* work = lease->mutable_work();
    work->set_lease(next_lease());
    work->set_epoch(epoch);
    work->set_kind(Work::TRAIN);
    work->set_start_clock(start_clock);
    *work->mutable_sync() = range;
    if (members.size() > 1) work->mutable_sync()->set_rank(static_cast<uint32_t>(i));
  }
}

void SyncPlan::LearnEnd(uint64_t end_step) {
  if (progress_->end_known()) end_step = std::min(end_step, progress_->end_step());
  progress_->set_end_known(true);
  progress_->set_end_step(end_step);
  auto* leftovers = progress_->mutable_leftovers();
  for (int i = leftovers->size() - 1; i >= 0; --i) {
    SyncRange* range = leftovers->Mutable(i);
    range->set_end_step(std::min(range->end_step(), end_step));
    if (range->first_step() >= range->end_step()) leftovers->erase(leftovers->begin() + i);
  }
}

// Kept apart from the end of the work, which train.limit_steps may bring forward.
void SyncPlan::NoteSteps(const WorkDone& done) {
  uint64_t found = done.next_step();
  if (done.end_of_data()) {
    const uint64_t end = done.end_of_data_step();
    found = std::max(found, end);
    progress_->set_data_end(progress_->data_end() == 0 ? end : std::min(end, progress_->data_end()));
  }
  progress_->set_steps_found(std::max(progress_->steps_found(), found));
}

std::string SyncPlan::Disagreement() const {
  if (progress_->data_end() == 0 || progress_->steps_found() <= progress_->data_end()) return "";
  return absl::StrCat("data.train has ", progress_->data_end(), " steps for one worker, and at least ",
                      progress_->steps_found(),
                      " for another: its files differ between machines, or changed while the job ran");
}

void SyncPlan::EndLease(const LeaseRecord& lease, const WorkDone& done, uint64_t next_step) {
  if (done.end_of_data()) LearnEnd(done.end_of_data_step());
  SyncRange rest = lease.work().sync();
  rest.set_first_step(std::max(rest.first_step(), next_step));
  if (progress_->end_known()) rest.set_end_step(std::min(rest.end_step(), progress_->end_step()));
  NoteSteps(done);
  CountWork(done, progress_);
  EraseLease(progress_, lease.work().lease());
  if (rest.first_step() < rest.end_step()) *progress_->add_leftovers() = rest;
}

bool SyncPlan::GiveBack(Incarnation worker) {
  const LeaseRecord* found = FindLeaseOf(progress_, worker);
  if (found == nullptr) return false;
  const LeaseRecord lease = *found;
  EndLease(lease, lease.progress(), lease.progress().next_step());
  return true;
}

bool SyncPlan::Complete(Incarnation worker, const WorkDone& done) {
  const LeaseRecord* found = FindLease(progress_, worker, done.lease());
  if (found == nullptr) return false;
  const LeaseRecord lease = *found;
  const uint64_t end = lease.work().sync().end_step();
  EndLease(lease, done, done.next_step() == 0 || done.end_of_data() ? end : done.next_step());
  return true;
}

bool SyncPlan::OnlySlowestLeft(uint32_t drop_slowest) const {
  const auto left = static_cast<uint32_t>(progress_->leases_size());
  return left > 0 && left <= drop_slowest && progress_->leases(0).work().sync().world() > left;
}

std::vector<Incarnation> SyncPlan::EndSlowest() {
  std::vector<Incarnation> workers;
  for (const LeaseRecord& lease : progress_->leases()) {
    workers.push_back(lease.worker());
    CountWork(lease.progress(), progress_);
  }
  progress_->clear_leases();
  return workers;
}

uint64_t SyncPlan::StepsDone() const {
  uint64_t done = progress_->next_step();
  if (progress_->end_known()) done = std::min(done, progress_->end_step());
  for (const LeaseRecord& lease : progress_->leases()) {
    done = std::min(done, std::max(lease.work().sync().first_step(), lease.progress().next_step()));
  }
  for (const SyncRange& rest : progress_->leftovers()) done = std::min(done, rest.first_step());
  return done;
}

}  // namespace tidegate
