#pragma once
// A tracker with a routing of n servers, and what it wants sent and completed, at hand. No servers: tests
// answer.

#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/stable_hash.h"
#include "worker/client/tracker.h"

namespace tidegate {

// `others`: servers that are primary of nothing.
inline std::shared_ptr<const Routing> MakeRouting(Epoch epoch, std::vector<Incarnation> primaries,
                                                  Epoch primary_epoch = 0, std::vector<Incarnation> others = {}) {
  RoutingTable table;
  table.set_epoch(epoch);
  table.set_primary_epoch(primary_epoch);
  table.set_shards(static_cast<uint32_t>(primaries.size()));
  std::map<Incarnation, bool> seen;
  for (Incarnation p : primaries) {
    table.add_primary(p);
    if (std::exchange(seen[p], true)) continue;
    Member* m = table.add_servers();
    m->set_incarnation(p);
    m->set_address("host:" + std::to_string(p));
  }
  for (Incarnation other : others) table.add_servers()->set_incarnation(other);
  return std::make_shared<const Routing>(Routing::FromProto(table).value());
}

class TrackerHarness {
 public:
  explicit TrackerHarness(TrackerOptions options = {}, std::vector<Incarnation> primaries = {1, 2, 1, 2})
      : tracker(Complete(options)) {
    if (!primaries.empty()) Route(1, std::move(primaries));
  }

  static TrackerOptions Complete(TrackerOptions o) {
    o.generation = 5;
    o.incarnation = 77;
    return o;
  }

  void Route(Epoch epoch, std::vector<Incarnation> primaries, Epoch primary_epoch = 0,
             std::vector<Incarnation> others = {}) {
    routing = MakeRouting(epoch, std::move(primaries), primary_epoch, std::move(others));
    tracker.SetRouting(now, routing);
    Collect();
  }
  void Collect() {
    Tracker::Effects e = tracker.TakeEffects();
    for (auto& s : e.sends) sends.push_back(std::move(s));
    for (auto& c : e.completed) completed.push_back(std::move(c));
    want_routing |= e.want_routing;
  }
  void Reply(const Tracker::Send& to, wire::Response reply) {
    tracker.OnReply(now, to.number, reply);
    Collect();
  }
  void Advance(TimeMs ms) {
    now += ms;
    tracker.OnTime(now);
    Collect();
  }
  // Runs time on to the next thing that waits for it, and past it.
  void AdvanceToNext() {
    REQUIRE(tracker.NextTime() < now + 1'000'000);
    Advance(std::max<TimeMs>(tracker.NextTime() - now, 0));
  }
  std::vector<Tracker::Send> TakeSends() { return std::exchange(sends, {}); }
  std::vector<Tracker::Completed> TakeCompleted() { return std::exchange(completed, {}); }

  // A key of table 0 in the given shard; different n, different keys.
  Key KeyIn(ShardId shard, int n = 0) const {
    for (Key k = 0;; ++k) {
      if (ShardOfHash(PlacementHash(0, k), routing->log2_shards()) == shard && n-- == 0) return k;
    }
  }

  TimeMs now = 1'000;
  std::shared_ptr<const Routing> routing;
  Tracker tracker;
  std::vector<Tracker::Send> sends;
  std::vector<Tracker::Completed> completed;
  bool want_routing = false;
};

inline const wire::PullRequest& AsPull(const Tracker::Send& s) {
  return std::get<wire::PullRequest>(s.body);
}
inline const wire::PushRequest& AsPush(const Tracker::Send& s) {
  return std::get<wire::PushRequest>(s.body);
}
inline const wire::ClockRequest& AsClock(const Tracker::Send& s) {
  return std::get<wire::ClockRequest>(s.body);
}

// An answer whose row of key k is k, k + 0.5, ... in each table.
struct PullAnswer {
  wire::PullResponse response;
  std::vector<std::vector<float>> values;
};
inline PullAnswer RowsByKey(const wire::PullRequest& request, uint32_t width, Clock min_clock = 0) {
  PullAnswer out;
  out.response.epoch = request.stamp.epoch;
  out.response.min_clock = min_clock;
  for (const wire::TableKeys& t : request.tables) {
    std::vector<float>& v = out.values.emplace_back();
    for (size_t i = 0; i < t.keys.size(); ++i) {
      for (uint32_t j = 0; j < width; ++j) {
        v.push_back(static_cast<float>(t.keys[i]) + 0.5f * static_cast<float>(j));
      }
    }
  }
  for (size_t i = 0; i < request.tables.size(); ++i) {
    out.response.tables.push_back(
        {request.tables[i].table, std::as_bytes(std::span<const float>(out.values[i]))});
  }
  return out;
}
inline bool RowsAreByKey(const std::vector<Key>& keys, const std::vector<float>& rows,
                         uint32_t width) {
  for (size_t i = 0; i < keys.size(); ++i) {
    for (uint32_t j = 0; j < width; ++j) {
      if (rows[i * width + j] != static_cast<float>(keys[i]) + 0.5f * static_cast<float>(j)) {
        return false;
      }
    }
  }
  return true;
}
inline wire::PushResponse PushOk() { return {.epoch = 1, .refused_shards = {}, .duplicate_rows = 0, .contributors = {}}; }

}  // namespace tidegate
