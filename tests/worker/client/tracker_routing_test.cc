#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/worker/client/tracker_harness.h"

namespace tidegate {
namespace {

// One key to one shard.
void PushOne(TrackerHarness& h, ShardId shard) {
  const std::vector<Key> keys = {h.KeyIn(shard)};
  const std::vector<float> gradients = {1};
  const TablePush push{0, keys, gradients, {}};
  h.tracker.Push(h.now, 0, 1, {&push, 1});
  h.Collect();
}

std::vector<Tracker::Send> TakePushes(TrackerHarness& h) {
  std::vector<Tracker::Send> sends = h.TakeSends();
  std::erase_if(sends, [](const Tracker::Send& send) { return !std::holds_alternative<wire::PushRequest>(send.body); });
  return sends;
}

}  // namespace

TEST_CASE("refused shards are asked for at their new server, with the same sequence") {
  TrackerHarness h;
  const std::vector<Key> keys = {h.KeyIn(0), h.KeyIn(2), h.KeyIn(1)};
  const std::vector<float> gradients = {1, 2, 3};
  const TablePush push{0, keys, gradients, {}};
  h.tracker.Push(h.now, 0, 1, {&push, 1});
  h.Collect();
  auto sends = h.TakeSends();
  REQUIRE(sends.size() == 2);
  const auto& to_one = sends[0].server == 1 ? sends[0] : sends[1];
  const auto& to_two = sends[0].server == 1 ? sends[1] : sends[0];
  h.Reply(to_two, PushOk());
  h.Reply(to_one, wire::PushResponse{.epoch = 2, .refused_shards = {2}, .duplicate_rows = 0, .contributors = {}});
  CHECK(h.want_routing);
  CHECK(h.completed.empty());
  h.Route(2, {1, 2, 3, 2});
  h.AdvanceToNext();
  REQUIRE(h.sends.size() == 1);
  CHECK(h.sends[0].server == 3);
  const auto& m = AsPush(h.sends[0]);
  CHECK(m.sequence == AsPush(to_one).sequence);
  CHECK(m.stamp.epoch == 2);
  REQUIRE(m.tables[0].keys.size() == 1);
  CHECK(m.tables[0].keys[0] == keys[1]);
  CHECK(PackedSpan<float>(m.tables[0].values)[0] == 2.f);
  h.Reply(h.TakeSends()[0], PushOk());
  CHECK(h.completed.size() == 1);
}

TEST_CASE("what was on its way to a server that is gone goes to those that follow it") {
  TrackerHarness h;
  const std::vector<Key> keys = {h.KeyIn(0), h.KeyIn(1)};
  std::vector<float> rows(2);
  const std::vector<float> gradients = {1, 2};
  const TablePull pull{0, keys, rows};
  const TablePush push{0, keys, gradients, {}};
  h.tracker.Pull(h.now, 0, -1, {&pull, 1});
  h.tracker.Push(h.now, 0, 1, {&push, 1});
  h.Collect();
  h.TakeSends();
  h.Route(2, {3, 2, 3, 2});
  h.Advance(0);
  REQUIRE(h.sends.size() == 2);
  for (const auto& s : h.sends) CHECK(s.server == 3);
}

TEST_CASE("staleness 0: where primaries have changed, what is missing of a clock goes to all of them anew") {
  TrackerHarness h({.synchronous = true}, {1, 2, 3, 2});
  const std::vector<Key> keys = {h.KeyIn(0), h.KeyIn(1), h.KeyIn(2), h.KeyIn(3), h.KeyIn(1, 1)};
  const std::vector<float> gradients = {1, 2, 3, 4, 5};
  const std::vector<uint32_t> counts = {6, 7, 8, 9, 10};
  const TablePush push{0, keys, gradients, counts};
  h.tracker.Push(h.now, 8, 2, {&push, 1});
  h.Collect();
  const auto before = h.TakeSends();
  REQUIRE(before.size() == 3);
  for (const auto& s : before) {
    if (s.server == 3) h.Reply(s, PushOk());  // has applied the clock
  }
  h.Route(2, {1, 1, 3, 4}, 2);  // server 2 is dead
  auto sends = h.TakeSends();
  std::map<Key, std::pair<Incarnation, float>> got;
  std::map<Incarnation, uint32_t> parts;
  for (const auto& s : sends) {
    if (std::holds_alternative<wire::ClockRequest>(s.body)) continue;
    const auto& m = AsPush(s);
    CHECK(m.clock == 8);
    CHECK(m.weight == 2);
    CHECK(m.stamp.epoch == 2);
    CHECK(m.part == 0);
    CHECK(m.parts == 1);
    CHECK(m.sequence > AsPush(before[0]).sequence);
    ++parts[s.server];
    for (const auto& t : m.tables) {
      for (size_t i = 0; i < t.keys.size(); ++i) {
        const float g = PackedSpan<float>(t.values)[i];
        CHECK(t.counts[i] == static_cast<uint32_t>(g) + 5);
        CHECK(got.emplace(t.keys[i], std::pair(s.server, g)).second);
      }
    }
  }
  CHECK(parts == std::map<Incarnation, uint32_t>{{1, 1}, {3, 1}, {4, 1}});
  using To = std::pair<Incarnation, float>;
  CHECK(got == std::map<Key, To>{{keys[0], To(1, 1.f)}, {keys[1], To(1, 2.f)}, {keys[3], To(4, 4.f)},
                                 {keys[4], To(1, 5.f)}});
  for (const auto& s : before) h.Reply(s, PushOk());
  CHECK(h.completed.empty());
  for (const auto& s : sends) {
    if (!std::holds_alternative<wire::ClockRequest>(s.body)) h.Reply(s, PushOk());
  }
  CHECK(h.completed.size() == 1);
}

TEST_CASE("staleness 0: pushes of several clocks begin anew, cut by the message limit, and so does one that was refused") {
  TrackerHarness h({.synchronous = true, .message_limit_bytes = 128 << 10});
  std::vector<Key> keys;
  for (Key k = 0; keys.size() < 2000; ++k) keys.push_back(k);
  const std::vector<float> gradients(keys.size() * 16, 1);
  const TablePush push{0, keys, gradients, {}};
  h.tracker.Push(h.now, 0, 1, {&push, 1});
  h.tracker.Push(h.now, 1, 1, {});
  h.Collect();
  for (const auto& s : h.TakeSends()) {
    if (AsPush(s).clock == 1) h.Reply(s, absl::UnavailableError("routing older: cut by primaries of epoch 1"));
  }
  CHECK(h.want_routing);
  h.Route(2, {2, 2, 2, 2}, 2);
  std::map<Clock, uint32_t> parts;
  size_t sent = 0;
  for (const auto& s : h.sends) {
    if (std::holds_alternative<wire::ClockRequest>(s.body)) continue;
    CHECK(s.server == 2);
    CHECK(AsPush(s).part == parts[AsPush(s).clock]++);
    for (const auto& t : AsPush(s).tables) sent += t.keys.size();
  }
  CHECK(sent == keys.size());
  CHECK(parts[0] >= 2);
  CHECK(parts[1] == 1);
  for (const auto& s : h.sends) {
    if (!std::holds_alternative<wire::ClockRequest>(s.body)) CHECK(AsPush(s).parts == parts[AsPush(s).clock]);
  }
}

TEST_CASE("staleness 0: routing that changes no primary leaves pushes alone") {
  TrackerHarness h({.synchronous = true});
  h.tracker.Push(h.now, 0, 1, {});
  h.Collect();
  CHECK(h.TakeSends().size() == 2);
  h.Route(2, {1, 2, 1, 2}, 0, {3});
  CHECK(h.sends.empty());
}

TEST_CASE("new routing and a broken connection: the next attempt is soon, whatever was waited before") {
  TrackerHarness h({.retry = {.backoff_min_ms = 10, .backoff_max_ms = 5000}}, {1, 2});
  const std::vector<Key> keys = {h.KeyIn(0)};
  const std::vector<float> gradients = {1};
  const TablePush push{0, keys, gradients, {}};
  h.tracker.Push(h.now, 0, 1, {&push, 1});
  h.Collect();
  h.want_routing = false;
  for (int i = 0; i < 10; ++i) {
    h.tracker.OnDisconnected(h.now, 1);
    h.Collect();
    h.AdvanceToNext();
  }
  CHECK(h.want_routing);
  h.tracker.OnDisconnected(h.now, 1);
  h.TakeSends();
  CHECK(h.tracker.NextTime() > h.now + 1000);
  SECTION("the server stays") {
    h.Route(2, {1, 2}, 0, {3});
    CHECK(h.tracker.NextTime() <= h.now + 10);
  }
  SECTION("another follows it") {
    h.Route(2, {2, 2}, 2);
    h.TakeSends();  // clocks
    h.Advance(0);
    REQUIRE(h.sends.size() == 1);
    h.Reply(h.TakeSends()[0], absl::UnavailableError("takes over"));
    CHECK(h.tracker.NextTime() <= h.now + 10);
  }
}

TEST_CASE("a server that is silent holds up only what goes to it") {
  TrackerHarness h({.push_window = 4});
  for (int i = 0; i < 5; ++i) PushOne(h, 0);
  CHECK(h.TakeSends().size() == 4);
  for (Sequence sequence = 6; sequence < 20; ++sequence) {
    PushOne(h, 1);
    auto sends = h.TakeSends();
    REQUIRE(sends.size() == 1);
    CHECK(sends[0].server == 2);
    CHECK(AsPush(sends[0]).sequence == sequence);
    CHECK(AsPush(sends[0]).oldest_unacked == sequence);
    h.Reply(sends[0], PushOk());
    CHECK(h.sends.empty());
  }
}

TEST_CASE("what was cut by older primaries counts at every server: its keys may come to any") {
  TrackerHarness h({.push_window = 4});
  PushOne(h, 0);
  const auto first = h.TakeSends();
  for (int i = 0; i < 8; ++i) {
    PushOne(h, 1);
    h.Reply(h.TakeSends().at(0), PushOk());
  }
  h.Route(2, {2, 2, 1, 2}, 1);
  PushOne(h, 0);
  PushOne(h, 1);
  CHECK(TakePushes(h).empty());
  h.Reply(first.at(0), wire::PushResponse{.epoch = 2, .refused_shards = {0}, .duplicate_rows = 0, .contributors = {}});
  h.AdvanceToNext();
  const auto moved = TakePushes(h);
  REQUIRE(moved.size() == 1);
  CHECK(moved[0].server == 2);
  CHECK(AsPush(moved[0]).sequence == 1);
  CHECK(AsPush(moved[0]).oldest_unacked == 1);
  h.Reply(moved[0], PushOk());
  const auto waited = TakePushes(h);
  REQUIRE(waited.size() == 2);
  CHECK(AsPush(waited[0]).sequence == 10);
  CHECK(AsPush(waited[0]).oldest_unacked == 10);
  CHECK(AsPush(waited[1]).sequence == 11);
}

TEST_CASE("a push that was sent waits before it is sent again, where an older one has come to count") {
  TrackerHarness h({.push_window = 4});
  PushOne(h, 0);
  const auto first = h.TakeSends();
  for (int i = 0; i < 8; ++i) {
    PushOne(h, 1);
    h.Reply(h.TakeSends().at(0), PushOk());
  }
  PushOne(h, 1);
  const auto second = h.TakeSends();
  h.Route(2, {1, 2, 1, 1}, 1);
  h.tracker.OnDisconnected(h.now, 2);
  h.Advance(5'000);  // past every backoff
  CHECK(TakePushes(h).empty());
  h.Reply(first.at(0), PushOk());
  const auto again = TakePushes(h);
  REQUIRE(again.size() == 1);
  CHECK(AsPush(again[0]).sequence == 10);
  CHECK(AsPush(again[0]).oldest_unacked == 10);
  h.Reply(second.at(0), PushOk());  // of the first attempt
  CHECK(h.completed.size() == 10);
}

}  // namespace tidegate
