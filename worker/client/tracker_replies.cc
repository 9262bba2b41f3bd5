// Tracker: answers, errors and time.

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "worker/client/bfloat16.h"
#include "worker/client/tracker.h"

namespace tidegate {
namespace {

constexpr uint32_t kPushAttemptsCounted = 5;  // of refusals: so many doublings of the delay, less one
constexpr size_t kNumbersKeptMax = 8;  // of a message's attempts: an answer to any of them counts

// What the same request may be answered with later.
bool IsRetryable(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kDeadlineExceeded ||
         status.code() == absl::StatusCode::kAborted;
}

// The server has routing in which it does not serve what was asked for.
bool IsAboutOldRouting(const absl::Status& status) {
  return absl::StartsWith(status.message(), "routing older") || absl::StartsWith(status.message(), "moved");
}

absl::Status AtServer(Incarnation server, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat("server ", server, ": ", status.message()));
}

// Whether the answer has the rows that the message asked for.
absl::Status CheckRows(const KeyMessage& message, const wire::PullResponse& reply,
                       wire::ValueType type) {
  if (reply.tables.size() != message.blocks.size()) {
    return absl::InternalError(absl::StrCat("answered ", reply.tables.size(), " tables for ",
                                            message.blocks.size()));
  }
  for (size_t i = 0; i < message.blocks.size(); ++i) {
    const KeyBlock& block = message.blocks[i];
    const size_t expected = block.keys.size() * block.width * wire::SizeOf(type);
    if (reply.tables[i].table != block.table || reply.tables[i].values.size() != expected) {
      return absl::InternalError(absl::StrCat(
          "answered ", reply.tables[i].values.size(), " bytes of table ", reply.tables[i].table,
          " where ", expected, " of table ", block.table,
          " were asked for: do worker and server have the same tables?"));
    }
  }
  return absl::OkStatus();
}

void CopyRows(const KeyBlock& block, const wire::Fragments& values, wire::ValueType type,
              std::span<float> rows) {
  float* const first = rows.data() + size_t{block.first} * block.width;
  if (block.positions.empty() && type == wire::ValueType::kFloat32) {
    std::byte* to = reinterpret_cast<std::byte*>(first);
    for (const wire::Bytes piece : values.pieces()) {
      std::memcpy(to, piece.data(), piece.size());
      to += piece.size();
    }
    return;
  }
  const size_t row_bytes = block.width * wire::SizeOf(type);
  wire::FragmentReader in(values.pieces());
  for (size_t i = 0; i < block.keys.size(); ++i) {
    const std::byte* from = in.Take(row_bytes);
    float* to = block.positions.empty() ? first + i * block.width
                                        : rows.data() + size_t{block.positions[i]} * block.width;
    if (type == wire::ValueType::kFloat32) {
      std::memcpy(to, from, row_bytes);
    } else {
      WidenFromBfloat16(from, block.width, to);
    }
  }
}

}  // namespace

void Tracker::OnReply(TimeMs now, uint64_t number, const wire::Response& reply) {
  if (!health_.ok()) return;
  if (announcer_.Owns(number)) {
    OnClockReply(now, number, reply);
    return;
  }
  auto found = leg_of_number_.find(number);
  if (found == leg_of_number_.end()) return;
  const LegId id = found->second;
  Leg& leg = legs_.at(id);
  if (const auto* status = std::get_if<absl::Status>(&reply)) {
    // An older attempt's error says nothing about the newest.
    if (leg.state != LegState::kSent || leg.numbers.back() != number) return;
    OnRefused(now, id, *status);
  } else if (const auto* pull = std::get_if<wire::PullResponse>(&reply);
             pull != nullptr && leg.kind == Kind::kPull) {
    OnPullReply(now, id, *pull);
  } else if (const auto* push = std::get_if<wire::PushResponse>(&reply);
             push != nullptr && leg.kind == Kind::kPush) {
    OnPushReply(now, id, *push);
  } else {
    FailCall(now, leg.call,
             AtServer(leg.server, absl::InternalError("answered another kind of call")));
  }
}

void Tracker::OnClockReply(TimeMs now, uint64_t number, const wire::Response& reply) {
  if (const auto* answer = std::get_if<wire::ClockResponse>(&reply)) {
    if (answer->epoch > routing_->epoch()) effects_.want_routing = true;
    const auto outcome = announcer_.OnAcknowledged(number, answer->min_clock);
    if (outcome) Complete(outcome->call, absl::OkStatus(), outcome->clock);
    PumpClock(now);
    return;
  }
  const auto* status = std::get_if<absl::Status>(&reply);
  if (status != nullptr && IsRetryable(*status)) {
    ++stats_.retries;
    effects_.want_routing |= IsAboutOldRouting(*status);
    announcer_.OnRefused(now, number, &retry_);
  } else {
    // Without its clock this worker holds up all others: better to end with a reason.
    Stop(status != nullptr ? *status : absl::InternalError("a clock was answered by another call"));
  }
}

void Tracker::OnPullReply(TimeMs now, LegId id, const wire::PullResponse& reply) {
  Leg& leg = legs_.at(id);
  Call& call = calls_.at(leg.call);
  if (reply.refused_shards.empty() || !reply.tables.empty()) {
    if (absl::Status s = CheckRows(leg.message, reply, options_.wire_type); !s.ok()) {
      FailCall(now, leg.call, AtServer(leg.server, s));
      return;
    }
    for (size_t i = 0; i < leg.message.blocks.size(); ++i) {
      const KeyBlock& block = leg.message.blocks[i];
      CopyRows(block, reply.tables[i].values, options_.wire_type, call.rows[block.source]);
    }
  }
  call.min_clock = std::min(call.min_clock, reply.min_clock);
  if (reply.refused_shards.empty()) {
    FinishLeg(now, id);
  } else {
    Reroute(now, id, reply.refused_shards, reply.epoch);
  }
}

void Tracker::OnPushReply(TimeMs now, LegId id, const wire::PushResponse& reply) {
  if (legs_.at(id).asks) {
    OnContributors(now, id, reply);
  } else if (reply.refused_shards.empty()) {
    FinishLeg(now, id);
  } else {
    Reroute(now, id, reply.refused_shards, reply.epoch);
  }
}

void Tracker::OnContributors(TimeMs now, LegId id, const wire::PushResponse& reply) {
  const CallId call_id = legs_.at(id).call;
  Call& call = calls_.at(call_id);
  const Clock clock = call.clock;
  decided_ = std::max(decided_, reply.closed);
  // Older ones every server has applied, and shard 0 does not know all of their contributors any more.
  if (reply.closed - clock < static_cast<Clock>(wire::kClosedClocksMax)) announcer_.Close(clock, reply.contributors);
  call.counts = std::binary_search(reply.contributors.begin(), reply.contributors.end(), options_.incarnation);
  if (call.counts) {
    FinishLeg(now, id);
  } else {
    EraseLegsOf(call_id);
    announcer_.PushDropped(clock);
    Complete(call_id, absl::OkStatus(), decided_, /*dropped=*/true);
    AdmitPushes(now);
  }
  PumpClock(now);
}

void Tracker::OnRefused(TimeMs now, LegId id, const absl::Status& status) {
  Leg& leg = legs_.at(id);
  if (IsRetryable(status)) {
    effects_.want_routing |= IsAboutOldRouting(status);
    // A push is heavier than a pull.
    const TimeMs delay = leg.kind == Kind::kPull ? retry_.SoonAfter(leg.attempts)
                                                 : retry_.Delay(std::min(leg.attempts, kPushAttemptsCounted));
    RetryAt(now + delay, &leg);
  } else if (status.code() == absl::StatusCode::kFailedPrecondition) {
    Stop(AtServer(leg.server, status));
  } else {
    FailCall(now, leg.call, AtServer(leg.server, status));
  }
}

void Tracker::RetryAt(TimeMs at, Leg* leg) {
  ++stats_.retries;
  leg->state = LegState::kBackoff;
  leg->at = at;
  while (leg->numbers.size() > kNumbersKeptMax) {
    leg_of_number_.erase(leg->numbers.front());
    leg->numbers.erase(leg->numbers.begin());
  }
}

void Tracker::OnDisconnected(TimeMs now, Incarnation server) {
  if (!health_.ok()) return;
  for (auto& [id, leg] : legs_) {
    if (leg.server == server && leg.state == LegState::kSent) RetryAt(now + retry_.Delay(leg.attempts), &leg);
  }
  effects_.want_routing |= routing_ != nullptr;
  announcer_.OnDisconnected(now, server, &retry_);
}

void Tracker::OnTime(TimeMs now) {
  if (!health_.ok()) return;
  std::vector<LegId> due;
  for (const auto& [id, leg] : legs_) {
    if (leg.state != LegState::kQueued && leg.at <= now) due.push_back(id);
  }
  for (LegId id : due) {
    auto found = legs_.find(id);
    if (found == legs_.end()) continue;
    switch (found->second.state) {
      case LegState::kQueued:
        break;
      case LegState::kSent:
        ++found->second.timeouts;
        RetryAt(now + retry_.Delay(found->second.attempts), &found->second);
        break;
      case LegState::kBackoff:
        SendAgain(now, id);
        break;
      case LegState::kHomeless:
        Rehome(now, id);
        break;
    }
  }
  stats_.retries += announcer_.OnTime(now, &retry_);
  if (routing_ != nullptr) PumpClock(now);
}

TimeMs Tracker::NextTime() const {
  if (!health_.ok()) return std::numeric_limits<TimeMs>::max();
  TimeMs next = announcer_.NextTime();
  for (const auto& [id, leg] : legs_) {
    if (leg.state != LegState::kQueued) next = std::min(next, leg.at);
  }
  return next;
}

// ---- ends ----

// A pull gives back its place in its server's queue and its call's chain.
void Tracker::LeaveServer(LegId id, const Leg& leg) {
  if (leg.kind != Kind::kPull || leg.state == LegState::kHomeless) return;
  std::deque<LegId>& chain = calls_.at(leg.call).chains[leg.server];
  const bool was_front = !chain.empty() && chain.front() == id;
  chain.erase(std::remove(chain.begin(), chain.end(), id), chain.end());
  auto found = servers_.find(leg.server);
  if (found == servers_.end()) return;
  ServerState& state = found->second;
  if (leg.state == LegState::kQueued) {
    auto& waiting = state.waiting;
    waiting.erase(std::remove(waiting.begin(), waiting.end(), id), waiting.end());
  } else {
    --state.pulls;
    state.pull_bytes -= leg.message.bytes;
  }
  if (was_front && !chain.empty()) state.waiting.push_front(chain.front());
}

void Tracker::FinishLeg(TimeMs now, LegId id) {
  const Kind kind = legs_.at(id).kind;
  const CallId call_id = legs_.at(id).call;
  const Incarnation server = legs_.at(id).server;
  CountRows(kind, legs_.at(id).message.keys);
  EraseLeg(id);
  Call& call = calls_.at(call_id);
  if (kind == Kind::kPull) {
    if (call.legs == 0) Complete(call_id, absl::OkStatus(), call.min_clock);
    AdmitPulls(now, server);
    return;
  }
  AdmitPushes(now);
  if (call.legs > 0) return;
  announcer_.PushAcknowledged(call.clock);
  Complete(call_id, absl::OkStatus(), decided_);
  PumpClock(now);
}

void Tracker::CountRows(Kind kind, size_t keys) {
  (kind == Kind::kPull ? stats_.rows_pulled : stats_.rows_pushed) += keys;
}

void Tracker::EraseLeg(LegId id) {
  auto found = legs_.find(id);
  Leg& leg = found->second;
  LeaveServer(id, leg);
  for (uint64_t number : leg.numbers) leg_of_number_.erase(number);
  --calls_.at(leg.call).legs;
  if (leg.kind == Kind::kPush) {
    window_.Remove(leg.counted_at, leg.sequence);
    DropUnsent(id, leg.sequence);
  }
  legs_.erase(found);
}

void Tracker::EraseLegsOf(CallId id) {
  std::vector<LegId> mine;
  for (const auto& [leg_id, leg] : legs_) {
    if (leg.call == id) mine.push_back(leg_id);
  }
  for (LegId leg_id : mine) EraseLeg(leg_id);
}

// A push that failed stays unacknowledged for the clock: no tick may pass it.
void Tracker::FailCall(TimeMs now, CallId id, const absl::Status& status) {
  EraseLegsOf(id);
  Complete(id, status, 0);
  for (const auto& [server, state] : servers_) AdmitPulls(now, server);
  AdmitPushes(now);
}

void Tracker::Complete(CallId id, absl::Status status, Clock clock, bool dropped) {
  calls_.erase(id);
  effects_.completed.push_back({id, std::move(status), clock, dropped});
}

}  // namespace tidegate
