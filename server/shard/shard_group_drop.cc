// ShardGroup: train.drop_slowest (docs/decisions/0013-drop-slowest.md). The strand that leads shard 0 decides whose pushes
// of a clock count; workers ask it, and tell all strands with their ticks.

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/shard/shard_group.h"

namespace tidegate {
namespace {

constexpr Clock kToldAheadMax = 64;  // of clocks that workers were told of and that are not here yet

// Of a clock, in the sessions of shard 0.
Sequence SequenceOf(Clock clock) { return static_cast<Sequence>(clock) + 1; }

}  // namespace

bool ShardGroup::IsDropped(const wire::PushRequest& request) const {
  if (!drops()) return false;
  const auto worker = clocks_.workers().find(request.stamp.incarnation);
  return worker != clocks_.workers().end() && worker->second.clock >= request.clock;
}

// ---- asking ----------------------------------------------------------------

absl::Status ShardGroup::CheckAsk(const wire::PushRequest& request) const {
  if (!drops() || request.stamp.incarnation == 0) {
    return absl::InvalidArgumentError("a push that asks is a worker's, of a job with train.drop_slowest");
  }
  if (request.stamp.epoch < primary_epoch_) {
    return absl::UnavailableError(absl::StrCat("routing older: asked by the table of epoch ", request.stamp.epoch,
                                               ", shards have new primaries since ", primary_epoch_));
  }
  if (now_ < serves_from_) {
    if (absl::Status s = CheckServing(led_); !s.ok()) return s;
  }
  if (!shard_map_.Leads(0)) return absl::UnavailableError("moved: shard 0, which decides, is not led here");
  if (!clocks_.IsLive(request.stamp.incarnation)) {
    return absl::UnavailableError(absl::StrCat("worker ", request.stamp.incarnation,
                                               " has not said Hello to this server"));
  }
  if (request.clock > applied_clock_ + SyncAggregator::kMaxAhead) {
    return absl::UnavailableError(absl::StrCat("asked for clock ", request.clock, " while clock ", applied_clock_,
                                               " is the last applied"));
  }
  return absl::OkStatus();
}

void ShardGroup::Ask(PushCall call, ShardEffects* effects) {
  if (absl::Status status = CheckAsk(call.request); !status.ok()) {
    RefusePush(call.token, std::move(status), effects);
    return;
  }
  const Clock clock = call.request.clock;
  if (clock <= DecidedClock()) {
    AnswerAsk(call.token, clock, effects);
    return;
  }
  CallToken& waits = asks_[{clock, call.request.stamp.incarnation}];
  const CallToken replaced = std::exchange(waits, call.token);
  if (replaced != 0) RefusePush(replaced, absl::AbortedError("replaced by a retry of the push"), effects);
}

void ShardGroup::AnswerAsk(CallToken token, Clock clock, ShardEffects* effects) {
  PushDone done;
  done.token = token;
  done.contributors = ContributorsOf(clock);
  done.closed = DecidedClock();
  FinishPush(std::move(done), led_, effects);
}

// A clock that no live worker has anything for passes without a decision.
Clock ShardGroup::DecidedClock() const {
  const Replica& replica = replicas_[shard_map_.LocalOf(0)];
  return std::max(replica.decided, replica.applied);
}

void ShardGroup::AnswerAsks(ShardEffects* effects) {
  while (!asks_.empty() && shard_map_.Leads(0)) {
    const auto first = asks_.begin();
    const Clock clock = first->first.first;
    if (clock > DecidedClock()) return;
    const CallToken token = first->second;
    asks_.erase(first);
    AnswerAsk(token, clock, effects);
  }
}

void ShardGroup::RefuseAsks(std::optional<Incarnation> worker, const absl::Status& status, ShardEffects* effects) {
  for (auto ask = asks_.begin(); ask != asks_.end();) {
    const bool refused = !worker.has_value() || ask->first.second == *worker;
    if (refused) RefusePush(ask->second, status, effects);
    ask = refused ? asks_.erase(ask) : std::next(ask);
  }
}

// ---- what workers were told ------------------------------------------------

// A strand that leads nothing has no clock of its own. Workers announce themselves anew to one that begins to.
bool ShardGroup::LeadsAny() const {
  return options_.self == 0 || std::find(led_.begin(), led_.end(), 1) != led_.end();
}

absl::Status ShardGroup::CheckClosed(const wire::ClockRequest& request) const {
  for (const wire::ClosedClock& closed : request.closed) {
    const std::vector<Incarnation>& who = closed.contributors;
    if (!drops() || std::adjacent_find(who.begin(), who.end(), std::greater_equal<>()) != who.end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "announcement of closed clock ", closed.clock,
          drops() ? ": its contributors are not ascending" : ", of a job without train.drop_slowest"));
    }
    if (LeadsAny() && closed.clock > applied_clock_ + kToldAheadMax) {
      return absl::UnavailableError(absl::StrCat("announcement of closed clock ", closed.clock, " while clock ",
                                                 applied_clock_, " is the last applied"));
    }
  }
  return absl::OkStatus();
}

void ShardGroup::TakeTick(const wire::ClockRequest& request, ShardEffects* effects) {
  for (const wire::ClosedClock& closed : request.closed) {
    if (LeadsAny() && closed.clock > applied_clock_) told_.emplace(closed.clock, closed.contributors);
  }
  for (SyncAggregator::Held& held : aggregator_.Discard(request.stamp.incarnation, request.clock)) {
    if (!held.wanted) continue;
    FinishPush({held.call.token, absl::OkStatus(), std::move(held.refused_shards), 0}, led_, effects);
  }
}

// ---- deciding --------------------------------------------------------------

std::optional<SyncAggregator::Contributions> ShardGroup::TakeNextClock(ShardEffects* effects) {
  const Clock clock = applied_clock_ + 1;
  if (drops()) {
    Decide(clock, effects);
    return TakeNextClockOfSome();
  }
  if (!aggregator_.Ready(clock, clocks_)) return std::nullopt;
  return aggregator_.Take(clock);
}

// Whoever is told may rely on it: the answer waits for the followers that may be promoted. This server relies on it no sooner,
// lest a shard apply what its next primary decides otherwise; so with followers it hears it from a worker too.
void ShardGroup::Decide(Clock clock, ShardEffects* effects) {
  if (!shard_map_.Leads(0)) return;
  if (clock <= DecidedClock()) return;
  const uint32_t local = shard_map_.LocalOf(0);
  const Replica& replica = replicas_[local];
  std::optional<SyncAggregator::Workers> chosen = aggregator_.Choose(clock, clocks_, options_.drop_slowest);
  if (!chosen.has_value() || chosen->empty()) return;
  MarkContributors(clock, *chosen, local);
  for (ReplicaLog::Follower& follower : log_.followers()) {
    if (!follower.active || follower.follows[local] == Follows::kNot) continue;
    if (follower.follows[local] == Follows::kFilling && !replica.fill->begun()) continue;
    wire::Record body;
    auto& record = body.emplace<wire::PushRecord>();
    record.clock = record.push.clock = clock;
    record.push.stamp.generation = options_.generation;
    record.contributors = *chosen;
    log_.Append(&follower, std::move(body), nullptr, chosen->size() * sizeof(Incarnation), effects);
  }
  if (!log_.any()) told_.insert_or_assign(clock, *std::move(chosen));
  AnswerAsks(effects);
}

absl::Status ShardGroup::FollowDecision(Incarnation sender, Epoch epoch, const wire::PushRecord& record) {
  const Standing standing = StandingOf(0, sender, epoch);
  if (standing == Standing::kDeposed) {
    return absl::FailedPreconditionError(absl::StrCat("server ", sender, " leads shard 0 no more"));
  }
  if (standing == Standing::kFollowed) MarkContributors(record.clock, record.contributors, shard_map_.LocalOf(0));
  return absl::OkStatus();
}

std::optional<SyncAggregator::Contributions> ShardGroup::TakeNextClockOfSome() {
  const Clock clock = applied_clock_ + 1;
  told_.erase(told_.begin(), told_.lower_bound(clock));
  const auto told = told_.find(clock);
  if (told != told_.end()) {
    if (!aggregator_.AllHere(clock, told->second, clocks_)) return std::nullopt;
    return aggregator_.Take(clock, told->second);
  }
  // Where nothing is held, all live ones have passed the clock: nobody is left whose pushes count.
  if (aggregator_.Holds(clock) || !aggregator_.Ready(clock, clocks_)) return std::nullopt;
  return aggregator_.Take(clock);
}

void ShardGroup::MarkContributors(Clock clock, const SyncAggregator::Workers& contributors, uint32_t local) {
  const Sequence sequence = SequenceOf(clock);
  replicas_[local].decided = std::max(replicas_[local].decided, clock);
  for (const Incarnation worker : contributors) {
    ShardSession& session = sessions_.Of(worker)[local];
    session.RaiseFloor(sequence - std::min(sequence, kSessionWindow) + 1);
    if (!session.IsDuplicate(sequence)) session.MarkApplied(sequence);
  }
}

std::vector<Incarnation> ShardGroup::ContributorsOf(Clock clock) const {
  const uint32_t local = shard_map_.LocalOf(0);
  std::vector<Incarnation> contributors;
  if (clock < 0) return contributors;
  for (const Incarnation worker : sessions_.Workers()) {
    if (sessions_.IsMarked(worker, local, SequenceOf(clock))) contributors.push_back(worker);
  }
  return contributors;
}

}  // namespace tidegate
