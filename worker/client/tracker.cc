#include "worker/client/tracker.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/logging.h"

namespace tidegate {
namespace {

// Room in a message for everything but keys, values and counts; of a small one, half.
constexpr size_t kHeaderBytesMax = 64 << 10;
constexpr TimeMs kAttemptTimeoutMsMax = 60'000;

}  // namespace

Tracker::Tracker(TrackerOptions options)
    : options_(options),
      retry_(options.retry),
      window_(options.push_window),
      announcer_({.timeout_ms = options.clock_timeout_ms}) {}

size_t Tracker::KeyBytesMax() const {
  const size_t limit = options_.message_limit_bytes;
  return limit - std::min(kHeaderBytesMax, limit / 2);
}

wire::Stamp Tracker::StampNow() const {
  return {options_.generation, routing_->epoch(), options_.incarnation};
}

Tracker::Effects Tracker::TakeEffects() { return std::exchange(effects_, {}); }

// ---- calls ----

Tracker::CallId Tracker::Pull(TimeMs now, Clock clock, Clock bound,
                              std::span<const TablePull> tables) {
  Call call;
  call.clock = clock;
  call.bound = bound;
  return StartPull(now, std::move(call), tables);
}

Tracker::CallId Tracker::PullForEvaluation(TimeMs now, std::span<const TablePull> tables) {
  Call call;
  call.bound = kNoBound;
  call.eval = true;
  return StartPull(now, std::move(call), tables);
}

Tracker::CallId Tracker::StartPull(TimeMs now, Call call, std::span<const TablePull> tables) {
  const CallId id = next_call_++;
  if (!health_.ok()) {
    Complete(id, health_, 0);
    return id;
  }
  std::vector<KeySource> sources;
  for (const TablePull& t : tables) {
    const uint32_t source = static_cast<uint32_t>(call.rows.size());
    call.rows.push_back(t.rows);
    if (t.keys.empty()) continue;
    TG_CHECK(t.rows.size() % t.keys.size() == 0 && !t.rows.empty())
        << "table " << t.table << ": " << t.rows.size() << " values for " << t.keys.size() << " keys";
    sources.push_back({.table = t.table,
                       .width = static_cast<uint32_t>(t.rows.size() / t.keys.size()),
                       .source = source,
                       .keys = t.keys});
  }
  call.kind = Kind::kPull;
  call.min_clock = std::numeric_limits<Clock>::max();
  calls_.emplace(id, std::move(call));
  if (routing_ == nullptr) {
    deferred_.push_back({id, std::move(sources), {}});
    effects_.want_routing = true;
  } else {
    RoutePull(now, id, sources, 0);
  }
  return id;
}

Tracker::CallId Tracker::Push(TimeMs now, Clock clock, double weight,
                              std::span<const TablePush> tables) {
  const CallId id = next_call_++;
  if (!health_.ok()) {
    Complete(id, health_, 0);
    return id;
  }
  std::vector<KeySource> sources;
  for (const TablePush& t : tables) {
    if (t.keys.empty()) continue;
    TG_CHECK(t.gradients.size() % t.keys.size() == 0 && !t.gradients.empty() &&
             (t.counts.empty() || t.counts.size() == t.keys.size()))
        << "table " << t.table << ": " << t.gradients.size() << " values and " << t.counts.size()
        << " counts for " << t.keys.size() << " keys";
    sources.push_back({.table = t.table,
                       .width = static_cast<uint32_t>(t.gradients.size() / t.keys.size()),
                       .keys = t.keys,
                       .values = reinterpret_cast<const std::byte*>(t.gradients.data()),
                       .counts = t.counts});
  }
  if (options_.drop_slowest && clock <= decided_) {
    announcer_.EndClock(clock);
    Complete(id, absl::OkStatus(), decided_, /*dropped=*/true);
    PumpClock(now);
    return id;
  }
  Call call;
  call.kind = Kind::kPush;
  call.clock = clock;
  call.weight = weight;
  calls_.emplace(id, std::move(call));
  announcer_.PushBegins(clock);
  if (routing_ == nullptr) {
    const KeySplitter::Types types{wire::ValueType::kFloat32, options_.wire_type};
    deferred_.push_back({id, {}, splitter_.Copy(sources, types)});
    effects_.want_routing = true;
  } else {
    RoutePush(now, id, sources, wire::ValueType::kFloat32);
  }
  return id;
}

void Tracker::EndClock(TimeMs now, Clock clock) {
  if (options_.synchronous || !health_.ok()) return;
  announcer_.EndClock(clock);
  PumpClock(now);
}

Tracker::CallId Tracker::Announce(TimeMs now) { return BeginClock(now, ClockAnnouncer::Kind::kHello); }

Tracker::CallId Tracker::Park(TimeMs now) { return BeginClock(now, ClockAnnouncer::Kind::kPark); }

Tracker::CallId Tracker::BeginClock(TimeMs now, ClockAnnouncer::Kind kind) {
  const CallId id = next_call_++;
  if (!health_.ok()) {
    Complete(id, health_, 0);
    return id;
  }
  const CallId cut_short = announcer_.Begin(kind, id);
  if (cut_short != 0) Complete(cut_short, absl::AbortedError("cut short by a newer announcement"), 0);
  PumpClock(now);
  return id;
}

void Tracker::Stop(absl::Status status) {
  if (!health_.ok()) return;
  health_ = std::move(status);
  for (const auto& [id, call] : calls_) effects_.completed.push_back({id, health_, 0});
  if (announcer_.call() != 0) effects_.completed.push_back({announcer_.call(), health_, 0});
  calls_.clear();
  legs_.clear();
  leg_of_number_.clear();
  deferred_.clear();
  unsent_pushes_.clear();
  for (auto& [server, state] : servers_) state = ServerState{};
  announcer_.SetServers({}, 0);
  effects_.sends.clear();
}

// ---- routing ----

void Tracker::RoutePull(TimeMs now, CallId id, std::span<const KeySource> sources,
                        uint32_t attempts) {
  Call& call = calls_.at(id);
  const KeySplitter::Types types{options_.wire_type, options_.wire_type};
  auto split = splitter_.Split(sources, *routing_, types, KeyBytesMax());
  for (size_t s = 0; s < split.size(); ++s) {
    const Incarnation server = routing_->servers()[s].incarnation;
    std::deque<LegId>& chain = call.chains[server];
    for (KeyMessage& message : split[s]) {
      const LegId leg_id = next_leg_++;
      Leg& leg = legs_[leg_id];
      leg.kind = Kind::kPull;
      leg.call = id;
      leg.server = server;
      leg.message = std::move(message);
      leg.attempts = attempts;
      ++call.legs;
      chain.push_back(leg_id);
      if (chain.size() == 1) servers_.at(server).waiting.push_back(leg_id);
    }
    AdmitPulls(now, server);
  }
  if (call.legs == 0) Complete(id, absl::OkStatus(), call.clock - 1);
}

void Tracker::RoutePush(TimeMs now, CallId id, std::span<const KeySource> sources,
                        wire::ValueType from) {
  auto split = splitter_.Split(sources, *routing_, {from, options_.wire_type}, KeyBytesMax());
  if (options_.synchronous) {
    for (auto& messages : split) {
      if (messages.empty()) messages.emplace_back();  // the end of a clock without data
    }
  }
  size_t rounds = 0;
  for (const auto& messages : split) rounds = std::max(rounds, messages.size());
  for (size_t k = 0; k < rounds; ++k) {
    const Sequence sequence = window_.Take();
    for (size_t s = 0; s < split.size(); ++s) {
      if (k >= split[s].size()) continue;
      const LegId leg_id =
          AddPushLeg(id, routing_->servers()[s].incarnation, std::move(split[s][k]), sequence);
      Leg& leg = legs_.at(leg_id);
      if (options_.synchronous) {
        leg.part = static_cast<uint32_t>(k);
        leg.parts = static_cast<uint32_t>(split[s].size());
      }
    }
    if (k > 0 || !options_.drop_slowest || calls_.at(id).counts) continue;
    legs_.at(AddPushLeg(id, routing_->PrimaryOf(0), KeyMessage(), sequence)).asks = true;
  }
  if (rounds == 0) {
    announcer_.PushAcknowledged(calls_.at(id).clock);
    Complete(id, absl::OkStatus(), 0);
  }
  AdmitPushes(now);
}

Tracker::LegId Tracker::AddPushLeg(CallId id, Incarnation server, KeyMessage message,
                                   Sequence sequence) {
  const LegId leg_id = next_leg_++;
  Leg& leg = legs_[leg_id];
  leg.kind = Kind::kPush;
  leg.call = id;
  leg.server = server;
  leg.message = std::move(message);
  leg.sequence = sequence;
  leg.counted_at = options_.synchronous ? PushWindow::kEverywhere : server;
  window_.Add(leg.counted_at, sequence);
  unsent_pushes_[sequence].push_back(leg_id);
  ++calls_.at(id).legs;
  return leg_id;
}

void Tracker::CountEverywhere(Leg* leg) {
  window_.Remove(leg->counted_at, leg->sequence);
  leg->counted_at = PushWindow::kEverywhere;
  window_.Add(leg->counted_at, leg->sequence);
}

void Tracker::DropUnsent(LegId id, Sequence sequence) {
  const auto unsent = unsent_pushes_.find(sequence);
  if (unsent == unsent_pushes_.end()) return;
  std::erase(unsent->second, id);
  if (unsent->second.empty()) unsent_pushes_.erase(unsent);
}

// ---- sending ----

void Tracker::AdmitPulls(TimeMs now, Incarnation server) {
  auto found = servers_.find(server);
  if (found == servers_.end()) return;
  ServerState& state = found->second;
  while (!state.waiting.empty()) {
    const LegId id = state.waiting.front();
    const size_t bytes = legs_.at(id).message.bytes;
    if (state.pulls > 0 && (state.pulls >= options_.pulls_in_flight_max ||
                            state.pull_bytes + bytes > options_.pull_bytes_in_flight_max)) {
      return;
    }
    state.waiting.pop_front();
    ++state.pulls;
    state.pull_bytes += bytes;
    SendLeg(now, id);
  }
}

void Tracker::AdmitPushes(TimeMs now) {
  for (auto it = unsent_pushes_.begin(); it != unsent_pushes_.end();) {
    auto& [sequence, legs] = *it;
    std::erase_if(legs, [&](LegId id) {
      // At staleness 0 a push is acknowledged only when all its parts are there: none may wait.
      const bool goes = options_.synchronous || window_.MaySend(legs_.at(id).counted_at, sequence);
      if (goes) SendLeg(now, id);
      return goes;
    });
    it = legs.empty() ? unsent_pushes_.erase(it) : std::next(it);
  }
}

void Tracker::SendLeg(TimeMs now, LegId id) {
  Leg& leg = legs_.at(id);
  const uint64_t number = next_number_++;
  leg.numbers.push_back(number);
  leg_of_number_[number] = id;
  ++leg.attempts;
  leg.state = LegState::kSent;
  leg.at = now + RetryPolicy::Doubled(options_.attempt_timeout_ms, leg.timeouts + 1,
                                      std::max(options_.attempt_timeout_ms, kAttemptTimeoutMsMax));
  effects_.sends.push_back({leg.server, number, BodyOf(leg), leg.message.owner});
  ++stats_.messages;
}

// What it may not pass any more has been counted since: newer primaries.
void Tracker::SendAgain(TimeMs now, LegId id) {
  Leg& leg = legs_.at(id);
  if (leg.kind == Kind::kPull || options_.synchronous || window_.MaySend(leg.counted_at, leg.sequence)) return SendLeg(now, id);
  leg.state = LegState::kQueued;
  unsent_pushes_[leg.sequence].push_back(id);
}

wire::Request Tracker::BodyOf(const Leg& leg) const {
  const Call& call = calls_.at(leg.call);
  if (leg.kind == Kind::kPull) {
    wire::PullRequest out;
    out.stamp = StampNow();
    out.clock = call.clock;
    out.bound = call.bound;
    out.eval = call.eval;
    out.value_type = options_.wire_type;
    for (const KeyBlock& b : leg.message.blocks) {
      out.tables.push_back({b.table, PackedSpan<Key>(b.keys.data(), b.keys.size())});
    }
    return out;
  }
  wire::PushRequest out;
  out.stamp = StampNow();
  out.sequence = leg.sequence;
  out.oldest_unacked = window_.OldestUnacked(leg.counted_at);
  out.clock = call.clock;
  out.weight = call.weight;
  out.part = leg.part;
  out.parts = leg.parts;
  out.asks = leg.asks;
  out.value_type = options_.wire_type;
  for (const KeyBlock& b : leg.message.blocks) {
    out.tables.push_back({b.table, PackedSpan<Key>(b.keys.data(), b.keys.size()), b.values,
                          PackedSpan<uint32_t>(b.counts.data(), b.counts.size())});
  }
  return out;
}

void Tracker::PumpClock(TimeMs now) {
  if (routing_ == nullptr) {
    effects_.want_routing = true;
    return;
  }
  for (const ClockAnnouncer::Announcement& a : announcer_.Pump(now, &next_number_)) {
    wire::ClockRequest body;
    body.stamp = StampNow();
    body.order = a.order;
    body.kind = a.kind;
    body.clock = a.clock;
    body.closed = a.closed;
    effects_.sends.push_back({a.server, a.number, body, nullptr});
    ++stats_.messages;
  }
}

}  // namespace tidegate
