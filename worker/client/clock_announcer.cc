#include "worker/client/clock_announcer.h"

#include <algorithm>
#include <limits>

#include "common/logging.h"

namespace tidegate {
namespace {

constexpr size_t kClosedMax = 16;  // told again: more than a worker has pushes under way

}  // namespace

std::optional<ClockAnnouncer::Outcome> ClockAnnouncer::SetServers(std::span<const Incarnation> servers,
                                                                  Epoch primary_epoch) {
  std::map<Incarnation, Lane> lanes;
  bool added = false;
  for (Incarnation server : servers) {
    auto known = lanes_.find(server);
    added |= known == lanes_.end();
    lanes[server] = known == lanes_.end() ? Lane{} : known->second;
  }
  lanes_ = std::move(lanes);
  // A Hello that has its answers says nothing to a server that comes later: there it is a tick.
  const bool hello_is_over = live_ && kind_ == Kind::kHello;
  if (primary_epoch > primary_epoch_ || (added && hello_is_over)) AnnounceAgain();
  primary_epoch_ = std::max(primary_epoch_, primary_epoch);
  return CheckAll();
}

void ClockAnnouncer::AnnounceAgain() {
  Supersede();
  Begin(!began_ ? Kind::kPark : live_ ? Kind::kTick : kind_);
}

// What is under way need not be waited for any more.
void ClockAnnouncer::Supersede() {
  for (auto& [server, lane] : lanes_) {
    lane.number = 0;
    lane.attempts = 0;
    lane.at = 0;
  }
}

void ClockAnnouncer::Forget(Clock clock) {
  auto it = unacknowledged_.find(clock);
  TG_CHECK(it != unacknowledged_.end()) << "push of clock " << clock << " was not under way";
  if (--it->second == 0) unacknowledged_.erase(it);
}

void ClockAnnouncer::PushAcknowledged(Clock clock) {
  Forget(clock);
  // Every server has applied it, at staleness 0 all clocks up to it.
  closed_.erase(closed_.begin(), closed_.upper_bound(clock));
}

void ClockAnnouncer::PushDropped(Clock clock) {
  Forget(clock);
  EndClock(clock);
}

void ClockAnnouncer::Close(Clock clock, std::vector<Incarnation> contributors) {
  closed_[clock] = std::move(contributors);
  if (closed_.size() > kClosedMax) closed_.erase(closed_.begin());
  if (live_) Begin(Kind::kTick);
}

void ClockAnnouncer::EndClock(Clock clock) { ended_ = std::max(ended_, clock); }

// The newest clock that a tick may name now.
Clock ClockAnnouncer::TickReady() const {
  if (MayTick(ended_)) return ended_;
  return unacknowledged_.begin()->first - 1;
}

void ClockAnnouncer::Begin(Kind kind) {
  if (began_) ++order_;
  began_ = true;
  kind_ = kind;
}

uint64_t ClockAnnouncer::Begin(Kind kind, uint64_t call) {
  const uint64_t cut_short = call_;
  call_ = call;
  live_ = false;
  Supersede();
  Begin(kind);
  return cut_short;
}

std::vector<ClockAnnouncer::Announcement> ClockAnnouncer::Pump(TimeMs now, uint64_t* next_number) {
  if (live_ && TickReady() > clock_) {
    clock_ = TickReady();
    Begin(Kind::kTick);
  }
  std::vector<Announcement> out;
  if (!began_) return out;
  for (auto& [server, lane] : lanes_) {
    // One at a time: ticks that come meanwhile are covered by the newest of them.
    if (Current(lane) || lane.number != 0 || lane.at > now) continue;
    lane.number = (*next_number)++;
    lane.sent_order = order_;
    lane.at = now + options_.timeout_ms;
    ++lane.attempts;
    Announcement& next = out.emplace_back();
    next = {server, lane.number, order_, kind_, clock_, {}};
    if (kind_ != Kind::kTick) continue;
    for (const auto& [clock, contributors] : closed_) next.closed.push_back({clock, contributors});
  }
  return out;
}

bool ClockAnnouncer::Owns(uint64_t number) const {
  return std::any_of(lanes_.begin(), lanes_.end(),
                     [number](const auto& lane) { return lane.second.number == number; });
}

std::optional<ClockAnnouncer::Outcome> ClockAnnouncer::OnAcknowledged(uint64_t number,
                                                                      Clock min_clock) {
  for (auto& [server, lane] : lanes_) {
    if (lane.number != number) continue;
    lane.number = 0;
    lane.attempts = 0;
    lane.at = 0;
    lane.done = lane.sent_order + 1;
    if (Current(lane)) lane.answer = min_clock;
  }
  return CheckAll();
}

std::optional<ClockAnnouncer::Outcome> ClockAnnouncer::CheckAll() {
  if (call_ == 0 || lanes_.empty()) return std::nullopt;
  Clock lowest = std::numeric_limits<Clock>::max();
  Clock highest = std::numeric_limits<Clock>::min();
  for (const auto& [server, lane] : lanes_) {
    if (!Current(lane)) return std::nullopt;
    lowest = std::min(lowest, lane.answer);
    highest = std::max(highest, lane.answer);
  }
  Outcome out{call_, 0};
  call_ = 0;
  if (kind_ == Kind::kHello) {
    out.clock = highest + 1;
    live_ = true;
    // Servers count this worker at their own minima; where these differ a tick lifts it to the highest.
    ended_ = highest;
    clock_ = lowest;
  }
  return out;
}

void ClockAnnouncer::Fail(Lane* lane, TimeMs again_at) {
  lane->number = 0;
  lane->at = again_at;
}

void ClockAnnouncer::OnRefused(TimeMs now, uint64_t number, RetryPolicy* retry) {
  for (auto& [server, lane] : lanes_) {
    if (lane.number == number) Fail(&lane, now + retry->SoonAfter(lane.attempts));
  }
}

void ClockAnnouncer::OnDisconnected(TimeMs now, Incarnation server, RetryPolicy* retry) {
  auto it = lanes_.find(server);
  if (it != lanes_.end() && it->second.number != 0) Fail(&it->second, now + retry->Delay(it->second.attempts));
}

size_t ClockAnnouncer::OnTime(TimeMs now, RetryPolicy* retry) {
  size_t expired = 0;
  for (auto& [server, lane] : lanes_) {
    if (lane.number == 0 || lane.at > now) continue;
    Fail(&lane, now + retry->Delay(lane.attempts));
    ++expired;
  }
  return expired;
}

TimeMs ClockAnnouncer::NextTime() const {
  TimeMs next = std::numeric_limits<TimeMs>::max();
  for (const auto& [server, lane] : lanes_) {
    if (began_ && (lane.number != 0 || !Current(lane))) next = std::min(next, lane.at);
  }
  return next;
}

}  // namespace tidegate
