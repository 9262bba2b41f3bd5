// Tracker: routing, and shards that are not where they were.

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/client/tracker.h"

namespace tidegate {
namespace {

bool PrimariesDiffer(const Routing& a, const Routing& b) {
  if (a.primary_epoch() != b.primary_epoch() || a.shards() != b.shards()) return true;
  for (ShardId shard = 0; shard < a.shards(); ++shard) {
    if (a.PrimaryOf(shard) != b.PrimaryOf(shard)) return true;
  }
  return false;
}

}  // namespace

void Tracker::SetRouting(TimeMs now, std::shared_ptr<const Routing> routing) {
  if (routing == nullptr || (routing_ != nullptr && routing->epoch() <= routing_->epoch())) return;
  const bool primaries_moved = routing_ != nullptr && PrimariesDiffer(*routing_, *routing);
  routing_ = std::move(routing);
  if (!health_.ok()) return;
  SetMembers();
  RouteLegs(now, primaries_moved);
  for (Deferred& d : std::exchange(deferred_, {})) {
    if (calls_.at(d.call).kind == Kind::kPull) {
      RoutePull(now, d.call, d.pull, 0);
    } else {
      RoutePush(now, d.call, KeySplitter::SourcesOf(d.push), options_.wire_type);
    }
  }
  PumpClock(now);
}

void Tracker::SetMembers() {
  std::map<Incarnation, ServerState> servers;
  for (const Routing::Server& s : routing_->servers()) {
    servers[s.incarnation] = std::move(servers_[s.incarnation]);
  }
  servers_ = std::move(servers);
  std::vector<Incarnation> members;
  for (const Routing::Server& s : routing_->members()) members.push_back(s.incarnation);
  const auto outcome = announcer_.SetServers(members, routing_->primary_epoch());
  if (outcome) Complete(outcome->call, absl::OkStatus(), outcome->clock);
}

// What waits to be sent again does so by the new routing, and soon: the reason to wait may be gone.
void Tracker::RouteLegs(TimeMs now, bool primaries_moved) {
  std::vector<LegId> stranded;
  std::vector<CallId> synchronous_pushes;  // ascending, distinct
  for (auto& [id, leg] : legs_) {
    if (leg.kind == Kind::kPush && primaries_moved) CountEverywhere(&leg);
    if (options_.synchronous && leg.kind == Kind::kPush && primaries_moved) {
      synchronous_pushes.push_back(leg.call);
    } else if (leg.state == LegState::kHomeless) {
      leg.at = now;
      leg.attempts = 0;
    } else if (!servers_.contains(leg.server)) {
      stranded.push_back(id);
    } else if (leg.state == LegState::kBackoff) {
      leg.attempts = 0;
      leg.at = std::min(leg.at, now + retry_.Delay(1));
    }
  }
  for (LegId id : stranded) {
    Leg& leg = legs_.at(id);
    LeaveServer(id, leg);
    leg.attempts = 0;
    Strand(id, now);
  }
  std::sort(synchronous_pushes.begin(), synchronous_pushes.end());
  synchronous_pushes.erase(std::unique(synchronous_pushes.begin(), synchronous_pushes.end()),
                           synchronous_pushes.end());
  for (CallId id : synchronous_pushes) SplitAgain(now, id);
}

// Staleness 0. Answers to what was sent before are ignored: the servers have dropped it, or have applied its clock
// and say so again.
void Tracker::SplitAgain(TimeMs now, CallId id) {
  std::vector<KeyMessage> messages;  // keep the memory of their keys alive
  std::vector<KeySource> sources;
  std::vector<LegId> old;
  for (auto& [leg_id, leg] : legs_) {
    if (leg.call != id) continue;
    old.push_back(leg_id);
    for (const KeySource& source : KeySplitter::SourcesOf(leg.message)) sources.push_back(source);
    messages.push_back(leg.message);
  }
  ++calls_.at(id).legs;  // it goes on
  for (LegId leg_id : old) EraseLeg(leg_id);
  --calls_.at(id).legs;
  stats_.retries += old.size();
  RoutePush(now, id, sources, options_.wire_type);
}

void Tracker::Reroute(TimeMs now, LegId id, std::span<const uint32_t> refused_shards,
                      Epoch server_epoch) {
  Leg& leg = legs_.at(id);
  stats_.refused_shards += refused_shards.size();
  if (server_epoch >= routing_->epoch()) effects_.want_routing = true;
  if (leg.kind == Kind::kPush && options_.synchronous) {
    // Servers refuse a whole push that was cut by older primaries; this one took the rest of it.
    return FailCall(now, leg.call, absl::InternalError(absl::StrCat(
        "server ", leg.server, " applied a synchronous step without shards that routing of epoch ",
        routing_->epoch(), " gives it")));
  }
  KeyMessage rest = splitter_.Select(KeySplitter::SourcesOf(leg.message), *routing_, refused_shards,
                                     options_.wire_type);
  if (rest.keys == 0) {
    FinishLeg(now, id);
    return;
  }
  CountRows(leg.kind, leg.message.keys - rest.keys);
  LeaveServer(id, leg);
  AdmitPulls(now, leg.server);
  leg.message = std::move(rest);
  Strand(id, now + retry_.Delay(leg.attempts));
}

// The message has no server any more; at `at` its keys look for theirs.
void Tracker::Strand(LegId id, TimeMs at) {
  Leg& leg = legs_.at(id);
  for (uint64_t number : leg.numbers) leg_of_number_.erase(number);
  leg.numbers.clear();
  if (leg.kind == Kind::kPush) {
    CountEverywhere(&leg);
    DropUnsent(id, leg.sequence);
  }
  leg.state = LegState::kHomeless;
  leg.at = at;
}

void Tracker::Rehome(TimeMs now, LegId id) {
  // Taken out first: what replaces it belongs to the same call and sequence.
  Leg leg = std::move(legs_.at(id));
  legs_.erase(id);
  const auto sources = KeySplitter::SourcesOf(leg.message);
  if (leg.kind == Kind::kPull) {
    --calls_.at(leg.call).legs;
    RoutePull(now, leg.call, sources, leg.attempts);
    return;
  }
  // No longer than it was: one message for each server, so the sequence stays unique there.
  auto split = splitter_.Split(sources, *routing_, {options_.wire_type, options_.wire_type},
                               std::numeric_limits<size_t>::max());
  for (size_t s = 0; s < split.size(); ++s) {
    if (split[s].empty()) continue;
    const LegId next = AddPushLeg(leg.call, routing_->servers()[s].incarnation,
                                  std::move(split[s][0]), leg.sequence);
    legs_.at(next).attempts = leg.attempts;
  }
  window_.Remove(leg.counted_at, leg.sequence);
  --calls_.at(leg.call).legs;
  AdmitPushes(now);
}

}  // namespace tidegate
