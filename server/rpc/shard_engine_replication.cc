// ShardEngine: the strands' side of replication. What comes for a strand waits in its mail and is taken by the next
// task of the strand, whoever runs that; where the strand is idle, by the executor's thread that brought it, or by a
// thread of the strand's own. So the thread that keeps time and reads keep-alives is never caught in a strand's work, and
// grants do not wait for it.

#include <pthread.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/shard_engine.h"
#include "server/rpc/shard_engine_lane.h"
#include "server/shard/message_check.h"

namespace tidegate {

TimeMs ShardEngine::NowMs() const {
  static const RealClock machine;
  return (options_.clock == nullptr ? &machine : options_.clock)->NowMs();
}

void ShardEngine::Prepare(Lane& lane) {
  if (lane.group == nullptr) return;
  lane.group->SetNow(NowMs());
  if (!lane.has_mail.load(std::memory_order_relaxed)) return;
  std::deque<absl::AnyInvocable<void(Lane&)>> mail;
  {
    std::lock_guard lock(lane.mail_mutex);
    mail.swap(lane.mail);
    lane.has_mail = false;
  }
  for (auto& task : mail) task(lane);
}

void ShardEngine::TakeMail(Lane& lane) {
  Prepare(lane);
  Deliver(lane);
}

bool ShardEngine::Post(Lane& lane, absl::AnyInvocable<void(Lane&)> task) {
  std::lock_guard lock(lane.mail_mutex);
  lane.mail.push_back(std::move(task));
  return !lane.has_mail.exchange(true);
}

void ShardEngine::HaveMailTaken(Lane& lane) {
  if (lane.strand.QueueIfBusy([this, &lane] { TakeMail(lane); })) return;
  {
    std::lock_guard lock(lane.mail_mutex);
    lane.mail_wanted = true;
  }
  lane.mail_came.notify_one();
}

void ShardEngine::TakeMailHere(Lane& lane) {
  lane.strand.Run([this, &lane] { TakeMail(lane); });
}

// Behind a task that runs for long one asks: what it leads to takes all that has come until then.
void ShardEngine::Mail(Lane& lane, absl::AnyInvocable<void(Lane&)> task) {
  if (Post(lane, std::move(task))) HaveMailTaken(lane);
}

void ShardEngine::RunMail(ShardEngine* engine, Lane* lane) {
  pthread_setname_np(pthread_self(), absl::StrCat("lane-mail-", lane->index).c_str());
  for (;;) {
    {
      std::unique_lock lock(lane->mail_mutex);
      lane->mail_came.wait(lock, [&] { return lane->mail_ends || lane->mail_wanted; });
      if (lane->mail_ends) return;
      lane->mail_wanted = false;
    }
    engine->TakeMailHere(*lane);
  }
}

void ShardEngine::StopMail() {
  for (const auto& lane : lanes_) {
    {
      std::lock_guard lock(lane->mail_mutex);
      lane->mail_ends = true;
    }
    lane->mail_came.notify_all();
    if (lane->mail_thread.joinable()) lane->mail_thread.join();
  }
}

uint64_t ShardEngine::LanesLeading(const std::function<bool(ShardId)>& shards) const {
  const auto current = view();
  uint64_t lanes = 0;
  if (current == nullptr) return lanes;
  for (ShardId shard : current->led) {
    const uint64_t bit = uint64_t{1} << current->lane_of_shard[shard];
    if ((lanes & bit) == 0 && shards(shard)) lanes |= bit;
  }
  return lanes;
}

void ShardEngine::Acknowledged(Incarnation follower, uint32_t lane_index, uint64_t index, bool here) {
  if (lane_index >= lanes_.size()) return;
  Lane& lane = *lanes_[lane_index];
  const bool first = Post(lane, [follower, index](Lane& l) { l.group->Acknowledged(follower, index, &l.effects); });
  if (here) {
    TakeMailHere(lane);
  } else if (first) {
    HaveMailTaken(lane);
  }
}

void ShardEngine::SetGrant(Incarnation backup, TimeMs until) {
  for (const auto& lane : lanes_) {
    Mail(*lane, [backup, until](Lane& l) { l.group->SetGrant(backup, until); });
  }
}

void ShardEngine::FillStep(uint64_t lanes, size_t bytes, std::function<void(uint32_t, bool)> more) {
  for (const auto& lane : lanes_) {
    if ((lanes & lane->bit()) == 0) continue;
    Mail(*lane, [bytes, more](Lane& l) { more(static_cast<uint32_t>(l.index), l.group->FillStep(bytes, &l.effects)); });
  }
}

void ShardEngine::HandoverStep() {
  for (const auto& lane : lanes_) {
    Mail(*lane, [](Lane& l) { l.group->HandoverStep(&l.effects); });
  }
}

void ShardEngine::AppendDigests() {
  for (const auto& lane : lanes_) {
    Mail(*lane, [](Lane& l) { l.group->AppendDigests(1, &l.effects); });
  }
}

absl::Status ShardEngine::CheckIncoming(const wire::Record& record) const {
  const auto current = view();
  if (current->catalog == nullptr) return absl::UnavailableError("tables are not open yet");
  return CheckRecord(record, *current->catalog);
}

RecordSplit ShardEngine::Split(const wire::Record& record) const {
  if (lanes_.size() == 1) return {1, {}, 0};
  const auto current = view();
  return SplitRecord(record, {lanes_.size(), current->lane_of_shard, current->log2_shards});
}

void ShardEngine::Apply(const std::shared_ptr<IncomingRecord>& record, uint64_t lanes) {
  for (const auto& lane : lanes_) {
    if ((lanes & lane->bit()) != 0) Post(*lane, [this, record](Lane& l) { ApplyOn(l, *record); });
  }
}

void ShardEngine::Proceed(uint64_t lanes) {
  for (const auto& lane : lanes_) {
    if ((lanes & lane->bit()) == 0) continue;
    if ((lanes & -lanes) == lanes) return TakeMailHere(*lane);
    HaveMailTaken(*lane);
    lanes &= ~lane->bit();
  }
}

void ShardEngine::ApplyOn(Lane& lane, const IncomingRecord& record) {
  const wire::ReplicaRequest& request = record.request;
  const StrandLog::Position at = {request.sender, request.lane, request.index, request.log_start};
  const size_t diverged_before = lane.effects.diverged.size();
  absl::Status status;
  switch (lane.log.Look(at)) {
    case StrandLog::Verdict::kDuplicate:
      break;
    case StrandLog::Verdict::kBlocked:
      status = absl::UnavailableError("a record before it was refused");
      break;
    case StrandLog::Verdict::kApply: {
      KeySelection selection;
      selection.all = lanes_.size() == 1;
      for (size_t t = 0; t < record.split.tables && !selection.all; ++t) {
        selection.positions.push_back(record.split.positions[static_cast<size_t>(lane.index) * record.split.tables + t]);
      }
      status = record.checked ? lane.group->ApplyRecord(request.sender, request.epoch, request.body, selection, &lane.effects)
                              : absl::UnavailableError("tables are not open yet");
      lane.log.Done(at, status.ok());
    }
  }
  record.done(lane.index, status, std::span(lane.effects.diverged).subspan(diverged_before));
}

}  // namespace tidegate
