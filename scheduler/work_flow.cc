// Who gets what work, and when.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/clock_limit.h"
#include "scheduler/cluster_state.h"
#include "scheduler/request_check.h"

namespace tidegate {
namespace {

template <typename Response>
AcquireWorkResponse Answer(Response* (AcquireWorkResponse::*mutable_answer)()) {
  AcquireWorkResponse response;
  (response.*mutable_answer)();
  return response;
}
AcquireWorkResponse AnswerWork(const LeaseRecord& lease) {
  AcquireWorkResponse response;
  *response.mutable_work() = lease.work();
  return response;
}
AcquireWorkResponse AnswerRejoin() {
  AcquireWorkResponse response;
  response.set_rejoin(true);
  return response;
}
const auto kAnnounce = &AcquireWorkResponse::mutable_announce;
const auto kPark = &AcquireWorkResponse::mutable_park;
const auto kWait = &AcquireWorkResponse::mutable_wait;

}  // namespace

// At staleness 0 all workers of a group start at the highest clock among them, and the others tick up to
// it: it must be one that this job can have come to. Every group began at a clock that was stored.
Clock ClusterState::FirstClockMax() const {
  if (!options_.synchronous || state_.max_clock() == 0) return kClockLimit;
  const uint64_t steps = std::max(options_.sync_group_steps, options_.sync_group_steps_max);
  return std::min(kClockLimit, state_.max_clock() + static_cast<Clock>(steps) + 1);
}

SchedulerEffects ClusterState::Handle(TimeMs now, CallToken token, const AcquireWorkRequest& request) {
  SchedulerEffects effects;
  CountTime(now);
  const Incarnation worker = request.incarnation();
  MemberRecord* record = Sender(request);
  if (record == nullptr || record->member().role() != WORKER) {
    AcquireWorkResponse response = AnswerRejoin();
    if (Ended()) {
      response.mutable_finish()->set_failed(state_.phase() == FAILED);
      response.mutable_finish()->set_message(state_.message());
      response.set_rejoin(false);
    }
    Reply(token, std::move(response), &effects);
    return Finish(now, std::move(effects));
  }
  absl::Status status = CheckAcquireWork(request, FirstClockMax());
  for (const WorkDone& done : request.done()) {
    if (status.ok()) status = CheckReport(done, worker);
  }
  if (!status.ok()) {
    Refuse(token, std::move(status), &effects);
    return Finish(now, std::move(effects));
  }
  detector_.Heard(worker, now);
  for (const WorkDone& done : request.done()) TakeWorkDone(now, worker, done, &effects);
  Soft& soft = soft_[worker];
  soft.order = std::max(soft.order, record->acquire_order());
  if (request.order() != 0) {
    const bool late = request.order() < soft.order;
    // The same call again, answered before: the same answer, unless its work is no longer this worker's.
    const bool again = request.order() == soft.answered_order &&
                       (!soft.answer.has_work() || soft.answer.work().kind() == Work::EVAL ||
                        FindLease(state_.mutable_current(), worker, soft.answer.work().lease()));
    if (late || again) {
      Reply(token, late ? Answer(kWait) : soft.answer, &effects);
      return Finish(now, std::move(effects));
    }
    soft.order = request.order();
  }
  if (soft.work) Reply(soft.work->token, Answer(kWait), &effects);
  soft.work = WorkPoll{token, now + PollMs(WORKER), request.live(), request.clock()};
  work_polls_.insert(worker);
  soft.live = request.live();
  soft.asked = true;
  soft.slow = false;
  if (!record->ready()) {
    record->set_ready(true);
    effects.persist = true;
  }
  if (request.live() && request.clock() > state_.max_clock()) state_.set_max_clock(request.clock());
  return Finish(now, std::move(effects));
}

// Leases leave in any order, so a worker's stands where it stood or, mostly, a little nearer to the begin.
LeaseRecord* ClusterState::LeaseOf(Incarnation worker, uint64_t lease) {
  auto* leases = state_.mutable_current()->mutable_leases();
  const auto soft = soft_.find(worker);
  int at = std::min(soft == soft_.end() ? 0 : soft->second.lease_index, leases->size() - 1);
  for (int i = 0; i < leases->size(); ++i, at = at == 0 ? leases->size() - 1 : at - 1) {
    LeaseRecord* record = leases->Mutable(at);
    if (record->worker() != worker) continue;
    if (soft != soft_.end()) soft->second.lease_index = at;
    return record->work().lease() == lease ? record : nullptr;
  }
  return nullptr;
}

void ClusterState::TakeWorkDone(TimeMs now, Incarnation worker, const WorkDone& done,
                                SchedulerEffects* effects) {
  if (Ended()) return;
  EpochProgress* current = state_.mutable_current();
  LeaseRecord* lease = LeaseOf(worker, done.lease());
  uint64_t bad_lines = current->bad_lines() + (lease != nullptr ? done.bad_lines() : 0);
  if (done.in_progress()) {
    if (lease != nullptr && done.samples() >= lease->progress().samples() &&
        done.next_step() >= lease->progress().next_step()) {
      *lease->mutable_progress() = done;
    }
  } else if (lease != nullptr) {
    if (options_.synchronous) {
      const SyncRange range = lease->work().sync();
      sync_.Complete(worker, done);
      const bool all = done.end_of_data() || done.next_step() >= range.end_step();
      if (all && sync_.OnlySlowestLeft(options_.job.train().drop_slowest()) && slow_since_ < 0) slow_since_ = now;
    } else {
      train_.Complete(worker, done);
    }
    effects->persist = true;
  } else if (state_.phase() == EVALUATING) {
    const absl::Status status = evaluation_.Take(options_.job, worker, done);
    if (!status.ok()) {
      Fail(now,
           absl::StrCat(DescribeMember(membership_.FindActive(worker)->member()),
                        " sent evaluation scores that are not valid: ", std::string(status.message())),
           effects);
      return;
    }
    bad_lines = evaluation_.bad_lines();
  }
  if (bad_lines > options_.job.data().max_bad_lines()) {
    Fail(now,
         absl::StrCat(bad_lines, " bad lines, more than data.max_bad_lines (",
                      options_.job.data().max_bad_lines(), "); for example ", done.bad_line_example()),
         effects);
  }
}

std::optional<AcquireWorkResponse> ClusterState::AnswerFor(TimeMs now, Incarnation worker,
                                                           const WorkPoll& poll,
                                                           SchedulerEffects* effects) {
  if (Ended()) {
    AcquireWorkResponse response;
    response.mutable_finish()->set_failed(state_.phase() == FAILED);
    response.mutable_finish()->set_message(state_.message());
    return response;
  }
  if (Stands()) return std::nullopt;
  if (state_.phase() == TRAINING) return TrainingAnswer(now, worker, poll, effects);
  if (poll.live) return Answer(kPark);
  if (state_.phase() != EVALUATING) return std::nullopt;
  if (const LeaseRecord* lease = evaluation_.LeaseOf(worker)) return AnswerWork(*lease);
  const LeaseRecord* lease = evaluation_.queue().Lease(worker, NextLease());
  if (lease == nullptr) return std::nullopt;
  return AnswerWork(*lease);
}

std::optional<AcquireWorkResponse> ClusterState::TrainingAnswer(TimeMs now, Incarnation worker,
                                                                const WorkPoll& poll,
                                                                SchedulerEffects* effects) {
  const LeaseRecord* lease = FindLeaseOf(state_.mutable_current(), worker);
  if (options_.synchronous) {
    if (lease != nullptr) {
      if (poll.live && poll.clock <= lease->work().start_clock()) return AnswerWork(*lease);
      sync_.GiveBack(worker);  // it was granted to a view of this worker that is past
      effects->persist = true;
      return poll.live ? std::optional(Answer(kPark)) : std::nullopt;
    }
    if (poll.live) {
      // Held while a group of all forms; otherwise this worker would stand in the way of others.
      return sync_.Running() ? std::optional(Answer(kPark)) : std::nullopt;
    }
    if (sync_.Running() || !sync_.HasNext()) return std::nullopt;
    if (sync_.NextIsLeftover()) {
      const bool chosen = leftover_worker_ != 0 && leftover_worker_ != worker &&
                          membership_.FindActive(leftover_worker_) != nullptr &&
                          now - forming_since_ < StallTimeoutMs();
      if (chosen) return std::nullopt;
      leftover_worker_ = worker;
    }
    return Answer(kAnnounce);
  }
  if (lease != nullptr) return poll.live ? AnswerWork(*lease) : Answer(kAnnounce);
  if (!train_.AnyFree() || LimitReached()) return poll.live ? std::optional(Answer(kPark)) : std::nullopt;
  if (!poll.live) return Answer(kAnnounce);
  effects->persist = true;
  Soft& soft = soft_.at(worker);
  soft.advanced_at = now;
  membership_.FindActive(worker)->set_acquire_order(soft.order);
  return AnswerWork(*train_.Lease(worker, NextLease()));
}

void ClusterState::AnswerWorkPolls(TimeMs now, SchedulerEffects* effects) {
  for (auto it = work_polls_.begin(); it != work_polls_.end();) {
    Soft& soft = soft_.at(*it);
    std::optional<AcquireWorkResponse> answer = AnswerFor(now, *it, *soft.work, effects);
    if (!answer && now < soft.work->until) {
      ++it;
      continue;
    }
    if (!answer) answer = Answer(kWait);
    soft.answered_order = soft.order;
    soft.answer = *answer;
    Reply(soft.work->token, *std::move(answer), effects);
    soft.work.reset();
    it = work_polls_.erase(it);
  }
}

}  // namespace tidegate
