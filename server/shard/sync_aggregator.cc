#include "server/shard/sync_aggregator.h"

#include <algorithm>
#include <iterator>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tidegate {
namespace {

uint32_t PartsOf(const wire::PushRequest& push) { return std::max<uint32_t>(push.parts, 1); }

}  // namespace

absl::Status SyncAggregator::Check(const wire::PushRequest& push, Clock applied) const {
  if (push.clock > applied + kMaxAhead) {
    return absl::UnavailableError(absl::StrCat("push of clock ", push.clock, " while clock ",
                                               applied, " is the last applied: at most ",
                                               kMaxAhead, " ahead"));
  }
  auto it = contributions_.find({push.clock, push.stamp.incarnation});
  if (it == contributions_.end()) return absl::OkStatus();
  const Contribution& held = it->second;
  if (held.parts != PartsOf(push) || held.weight != push.weight) {
    return absl::InvalidArgumentError(absl::StrCat(
        "push of clock ", push.clock, " by worker ", push.stamp.incarnation, " says ",
        PartsOf(push), " parts of weight ", push.weight, ", another part said ", held.parts,
        " of weight ", held.weight));
  }
  return absl::OkStatus();
}

std::optional<CallToken> SyncAggregator::Add(Held push) {
  const wire::PushRequest& request = push.call.request;
  auto [it, added] =
      contributions_.try_emplace(std::pair(request.clock, request.stamp.incarnation));
  Contribution& contribution = it->second;
  if (added) {
    contribution.parts = PartsOf(request);
    contribution.weight = request.weight;
  }
  const uint32_t part = request.part;
  reserved_bytes_ += push.reserved_bytes;
  auto same = contribution.pushes.find(part);
  if (same == contribution.pushes.end()) {
    contribution.pushes.emplace(part, std::move(push));
    ++held_;
    return std::nullopt;
  }
  std::optional<CallToken> replaced;
  reserved_bytes_ -= same->second.reserved_bytes;
  if (same->second.wanted) replaced = same->second.call.token;
  same->second = std::move(push);
  return replaced;
}

bool SyncAggregator::Ready(Clock clock, const ClockTable& clocks) const {
  bool any = false;
  for (const auto& [id, worker] : clocks.workers()) {
    if (!worker.live) continue;
    any = true;
    auto it = contributions_.find({clock, id});
    const bool ended =
        it != contributions_.end() ? it->second.Complete() : worker.clock >= clock;
    if (!ended) return false;
  }
  return any;
}

std::optional<SyncAggregator::Workers> SyncAggregator::Choose(Clock clock, const ClockTable& clocks,
                                                              uint32_t drop_slowest) const {
  Workers chosen;
  bool any = false, any_data = false;
  uint32_t missing = 0;
  for (const auto& [id, worker] : clocks.workers()) {
    if (!worker.live) continue;
    any = true;
    auto it = contributions_.find({clock, id});
    if (it != contributions_.end() && it->second.Complete()) {
      chosen.push_back(id);
      any_data |= it->second.weight > 0;
    } else if (it != contributions_.end() || worker.clock < clock) {
      ++missing;
    }
  }
  if (!any || missing > drop_slowest || (missing > 0 && !any_data)) return std::nullopt;
  return chosen;
}

bool SyncAggregator::AllHere(Clock clock, const Workers& contributors, const ClockTable& clocks) const {
  return std::all_of(contributors.begin(), contributors.end(), [&](Incarnation id) {
    auto it = contributions_.find({clock, id});
    if (it != contributions_.end()) return it->second.Complete();
    if (clocks.IsRemoved(id)) return true;
    const auto known = clocks.workers().find(id);
    return known != clocks.workers().end() && known->second.counted &&
           (!known->second.live || known->second.clock >= clock);
  });
}

bool SyncAggregator::Holds(Clock clock) const {
  const auto it = contributions_.lower_bound({clock, 0});
  return it != contributions_.end() && it->first.first == clock;
}

SyncAggregator::Contributions SyncAggregator::Take(Clock clock, const Workers& contributors) {
  Contributions out;
  out.clock = clock;
  auto it = contributions_.lower_bound({clock, 0});
  while (it != contributions_.end() && it->first.first == clock) {
    const bool counts = std::binary_search(contributors.begin(), contributors.end(), it->first.second);
    if (counts) out.weight += it->second.weight;
    it = TakeInto(it, counts ? &out.pushes : &out.dropped);
  }
  return out;
}

SyncAggregator::ByClock::iterator SyncAggregator::TakeInto(ByClock::iterator it,
                                                           std::vector<Held>* out) {
  for (auto& [part, held] : it->second.pushes) {
    --held_;
    reserved_bytes_ -= held.reserved_bytes;
    out->push_back(std::move(held));
  }
  return contributions_.erase(it);
}

SyncAggregator::Contributions SyncAggregator::Take(Clock clock) {
  Contributions out;
  out.clock = clock;
  auto it = contributions_.lower_bound({clock, 0});
  while (it != contributions_.end() && it->first.first == clock) {
    out.weight += it->second.weight;
    it = TakeInto(it, &out.pushes);
  }
  return out;
}

std::vector<SyncAggregator::Held> SyncAggregator::Discard(Incarnation worker, Clock last) {
  std::vector<Held> out;
  for (auto it = contributions_.begin(); it != contributions_.end() && it->first.first <= last;) {
    it = it->first.second == worker ? TakeInto(it, &out) : std::next(it);
  }
  return out;
}

std::vector<SyncAggregator::Held> SyncAggregator::DiscardAll() {
  std::vector<Held> out;
  for (auto it = contributions_.begin(); it != contributions_.end();) it = TakeInto(it, &out);
  return out;
}

bool SyncAggregator::Cancel(CallToken token) {
  for (auto& [key, contribution] : contributions_) {
    for (auto& [part, held] : contribution.pushes) {
      if (held.wanted && held.call.token == token) {
        held.wanted = false;
        return true;
      }
    }
  }
  return false;
}

}  // namespace tidegate
