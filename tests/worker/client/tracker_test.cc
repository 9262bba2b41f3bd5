#include "worker/client/tracker.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/worker/client/tracker_harness.h"

namespace tidegate {
namespace {

std::vector<Key> SomeKeys(size_t n) {
  std::vector<Key> keys(n);
  for (size_t i = 0; i < n; ++i) keys[i] = 3 * i + 1;
  return keys;
}

}  // namespace

TEST_CASE("calls made before the routing is known go out when it comes") {
  TrackerHarness h({}, {});
  std::vector<Key> keys = SomeKeys(10);
  std::vector<float> rows(10), gradients(10, 2.f);
  const TablePull pull{0, keys, rows};
  const TablePush push{0, keys, gradients, {}};
  h.tracker.Pull(h.now, 0, -1, {&pull, 1});
  h.tracker.Push(h.now, 0, 1, {&push, 1});
  std::fill(gradients.begin(), gradients.end(), -9.f);  // ours again once Push has returned
  h.Collect();
  CHECK(h.sends.empty());
  CHECK(h.want_routing);
  h.Route(1, {1, 2});
  size_t pulled = 0, pushed = 0;
  for (const auto& s : h.TakeSends()) {
    if (std::holds_alternative<wire::PullRequest>(s.body)) {
      pulled += AsPull(s).tables[0].keys.size();
    } else {
      pushed += AsPush(s).tables[0].keys.size();
      CHECK(PackedSpan<float>(AsPush(s).tables[0].values)[0] == 2.f);
    }
  }
  CHECK(pulled == 10);
  CHECK(pushed == 10);
}

TEST_CASE("a push keeps its sequence and content in every attempt, and says what is acknowledged") {
  TrackerHarness h;
  const std::vector<Key> keys = {h.KeyIn(0)};
  std::vector<float> gradients = {1.5f, -2};
  const std::vector<uint32_t> counts = {4};
  const TablePush push{0, keys, gradients, counts};
  h.tracker.Push(h.now, 3, 16, {&push, 1});
  gradients = {9, 9};
  h.Collect();
  auto sends = h.TakeSends();
  REQUIRE(sends.size() == 1);
  h.Reply(sends[0], absl::UnavailableError("busy"));
  CHECK(h.sends.empty());  // backoff first
  h.AdvanceToNext();
  REQUIRE(h.sends.size() == 1);
  CHECK(h.sends[0].number != sends[0].number);
  for (const auto& s : {sends[0], h.sends[0]}) {
    const auto& m = AsPush(s);
    CHECK(m.sequence == 1);
    CHECK(m.oldest_unacked == 1);
    CHECK(m.clock == 3);
    CHECK(m.weight == 16);
    CHECK(PackedSpan<float>(m.tables[0].values)[0] == 1.5f);
    CHECK(PackedSpan<float>(m.tables[0].values)[1] == -2);
    CHECK(m.tables[0].counts[0] == 4);
  }
  h.Reply(h.TakeSends()[0], PushOk());
  CHECK(h.TakeCompleted().size() == 1);
  h.tracker.Push(h.now, 4, 16, {&push, 1});
  h.Collect();
  CHECK(AsPush(h.sends[0]).sequence == 2);
  CHECK(AsPush(h.sends[0]).oldest_unacked == 2);
}

TEST_CASE("refusals do not make the client wait longer for a lost message") {
  TrackerHarness h({.attempt_timeout_ms = 100}, {1});
  const Key key = h.KeyIn(0);
  const float gradient = 1;
  h.tracker.Push(h.now, 0, 1, std::vector<TablePush>{{0, {&key, 1}, {&gradient, 1}, {}}});
  h.Collect();
  for (int refusal = 0; refusal < 10; ++refusal) {
    const auto sends = h.TakeSends();
    REQUIRE(sends.size() == 1);
    h.Reply(sends[0], absl::UnavailableError("too far ahead"));
    h.AdvanceToNext();
  }
  REQUIRE(h.TakeSends().size() == 1);
  REQUIRE(h.tracker.NextTime() == h.now + 100);
}

TEST_CASE("an answer to any attempt counts, once") {
  TrackerHarness h({.attempt_timeout_ms = 100});
  const std::vector<Key> keys = {h.KeyIn(0)};
  const std::vector<float> gradients = {1};
  const TablePush push{0, keys, gradients, {}};
  h.tracker.Push(h.now, 0, 1, {&push, 1});
  h.Collect();
  const auto first = h.TakeSends();
  h.AdvanceToNext();  // times out
  h.AdvanceToNext();  // sent again
  const auto second = h.TakeSends();
  REQUIRE(second.size() == 1);
  h.Reply(first[0], absl::InternalError("of an attempt that was given up"));
  CHECK(h.completed.empty());
  h.Reply(first[0], PushOk());
  CHECK(h.TakeCompleted().size() == 1);
  h.Reply(second[0], PushOk());
  CHECK(h.completed.empty());
  CHECK(h.tracker.stats().rows_pushed == 1);
}

TEST_CASE("backoff grows, stays within its limits and depends on the seed alone") {
  std::vector<TimeMs> delays[2];
  for (auto& d : delays) {
    TrackerHarness h({.retry = {.backoff_min_ms = 10, .backoff_max_ms = 500, .seed = 3}});
    const std::vector<Key> keys = {1};
    const std::vector<float> gradients = {1};
    const TablePush push{0, keys, gradients, {}};
    h.tracker.Push(h.now, 0, 1, {&push, 1});
    h.Collect();
    for (int i = 0; i < 12; ++i) {
      REQUIRE(h.TakeSends().size() == 1);
      h.tracker.OnDisconnected(h.now, 1);
      h.Collect();
      const TimeMs before = h.now;
      h.AdvanceToNext();
      d.push_back(h.now - before);
    }
  }
  CHECK(delays[0] == delays[1]);
  CHECK(delays[0].front() <= 10);
  CHECK(delays[0].back() >= 250);
  CHECK(*std::max_element(delays[0].begin(), delays[0].end()) <= 500);
}

TEST_CASE("a broken connection resends what was under way there, and nothing else") {
  TrackerHarness h;
  const std::vector<Key> keys = {h.KeyIn(0), h.KeyIn(1)};
  std::vector<float> rows(2);
  const TablePull pull{0, keys, rows};
  h.tracker.Pull(h.now, 0, -1, {&pull, 1});
  h.Collect();
  CHECK(h.TakeSends().size() == 2);
  h.tracker.OnDisconnected(h.now, 2);
  h.AdvanceToNext();
  REQUIRE(h.sends.size() == 1);
  CHECK(h.sends[0].server == 2);
}

TEST_CASE("no more sequences are under way than a session remembers") {
  TrackerHarness h({.push_window = 4}, {1});
  const std::vector<Key> keys = {1};
  const std::vector<float> gradients = {1};
  const TablePush push{0, keys, gradients, {}};
  for (Clock c = 0; c < 7; ++c) h.tracker.Push(h.now, c, 1, {&push, 1});
  h.Collect();
  auto sends = h.TakeSends();
  REQUIRE(sends.size() == 4);
  h.Reply(sends[2], PushOk());  // not the oldest: the window stays
  CHECK(h.sends.empty());
  h.Reply(sends[0], PushOk());
  REQUIRE(h.sends.size() == 1);
  CHECK(AsPush(h.sends[0]).sequence == 5);
  h.Reply(sends[1], PushOk());
  CHECK(h.sends.size() == 3);
  CHECK(AsPush(h.sends.back()).oldest_unacked == 4);
}

TEST_CASE("a push above the message limit is cut, each part with its own sequence") {
  TrackerHarness h({.message_limit_bytes = 128 << 10}, {1});
  const std::vector<Key> keys = SomeKeys(2000);
  std::vector<float> gradients(2000 * 16, 1);
  const TablePush push{0, keys, gradients, {}};
  h.tracker.Push(h.now, 0, 1, {&push, 1});
  h.Collect();
  CHECK(h.sends.size() > 1);
  size_t pushed = 0;
  for (size_t i = 0; i < h.sends.size(); ++i) {
    CHECK(AsPush(h.sends[i]).sequence == i + 1);
    CHECK(wire::TotalBytes(wire::EncodeStreamRequest(1, h.sends[i].body)) <= 128 << 10);
    pushed += AsPush(h.sends[i]).tables[0].keys.size();
  }
  CHECK(pushed == keys.size());
  for (const auto& s : h.TakeSends()) {
    CHECK(h.completed.empty());
    h.Reply(s, PushOk());
  }
  CHECK(h.completed.size() == 1);
}

TEST_CASE("parts of one pull go to a server one after another") {
  TrackerHarness h({.message_limit_bytes = 128 << 10}, {1});
  const std::vector<Key> keys = SomeKeys(2000);
  std::vector<float> rows(2000 * 16);
  const TablePull pull{0, keys, rows};
  h.tracker.Pull(h.now, 0, -1, {&pull, 1});
  h.Collect();
  int parts = 0;
  while (h.completed.empty()) {
    auto sends = h.TakeSends();
    REQUIRE(sends.size() == 1);
    h.Reply(sends[0], RowsByKey(AsPull(sends[0]), 16).response);
    ++parts;
  }
  CHECK(parts > 1);
  CHECK(RowsAreByKey(keys, rows, 16));
}

TEST_CASE("pulls of a server are bounded by the bytes that they ask for, and go in order") {
  TrackerHarness h({.pull_bytes_in_flight_max = 1000}, {1});
  const std::vector<Key> keys = SomeKeys(10);
  std::vector<std::vector<float>> rows(4, std::vector<float>(100));
  for (int i = 0; i < 4; ++i) {  // 480 bytes each
    const TablePull pull{0, keys, rows[static_cast<size_t>(i)]};
    h.tracker.Pull(h.now, i, -1, {&pull, 1});
  }
  h.Collect();
  auto sends = h.TakeSends();
  REQUIRE(sends.size() == 2);
  h.Reply(sends[1], RowsByKey(AsPull(sends[1]), 10).response);
  REQUIRE(h.sends.size() == 1);
  CHECK(AsPull(h.sends[0]).clock == 2);
}

TEST_CASE("staleness 0: every server gets the end of a clock, in numbered parts where it is cut") {
  TrackerHarness h({.synchronous = true, .message_limit_bytes = 128 << 10, .push_window = 2});
  std::vector<Key> keys;
  for (Key k = 0; keys.size() < 2000; ++k) {
    if (ShardOfHash(PlacementHash(0, k), h.routing->log2_shards()) == 0) keys.push_back(k);
  }
  std::vector<float> gradients(keys.size() * 16, 1);
  const TablePush push{0, keys, gradients, {}};
  h.tracker.Push(h.now, 6, 32, {&push, 1});
  h.Collect();
  uint32_t parts_of_one = 0, messages_of_two = 0;
  for (const auto& s : h.sends) {
    const auto& m = AsPush(s);
    CHECK(m.clock == 6);
    CHECK(m.weight == 32);
    if (s.server == 1) {
      CHECK(m.part == parts_of_one++);
    } else {
      ++messages_of_two;
      CHECK(m.part == 0);
      CHECK(m.parts == 1);
      CHECK(m.tables.empty());
    }
  }
  CHECK(messages_of_two == 1);
  CHECK(parts_of_one >= 3);  // more than the window: none may wait for another
  for (const auto& s : h.sends) {
    if (s.server == 1) CHECK(AsPush(s).parts == parts_of_one);
  }
}

TEST_CASE("staleness 0: a clock without data is pushed to all servers, and ticks are not sent") {
  TrackerHarness h({.synchronous = true});
  h.tracker.Push(h.now, 0, 0, {});
  h.tracker.EndClock(h.now, 0);
  h.Collect();
  auto sends = h.TakeSends();
  CHECK(sends.size() == 2);
  for (const auto& s : sends) h.Reply(s, PushOk());
  CHECK(h.completed.size() == 1);
  CHECK(h.sends.empty());
}

TEST_CASE("errors that no retry can help end their call with the server's words") {
  TrackerHarness h({}, {1});
  const std::vector<Key> keys = {1};
  std::vector<float> rows(1);
  const std::vector<float> gradients = {1};
  const TablePull pull{0, keys, rows};
  const TablePush push{0, keys, gradients, {}};
  h.tracker.Push(h.now, 0, 1, {&push, 1});
  h.tracker.Pull(h.now, 0, -1, {&pull, 1});
  h.Collect();
  auto sends = h.TakeSends();
  h.Reply(sends[0], absl::ResourceExhaustedError("--memory_limit_bytes reached"));
  h.Reply(sends[1], absl::NotFoundError("no table 0"));
  REQUIRE(h.completed.size() == 2);
  CHECK(h.completed[0].status.code() == absl::StatusCode::kResourceExhausted);
  CHECK(h.completed[0].status.message() == "server 1: --memory_limit_bytes reached");
  CHECK(h.completed[1].status.code() == absl::StatusCode::kNotFound);
  CHECK(h.tracker.health().ok());
  CHECK(h.tracker.calls() == 0);
}

TEST_CASE("a fenced client ends every call and every later one") {
  TrackerHarness h;
  const std::vector<Key> keys = SomeKeys(10);
  std::vector<float> rows(10);
  const TablePull pull{0, keys, rows};
  h.tracker.Pull(h.now, 0, -1, {&pull, 1});
  h.tracker.PullForEvaluation(h.now, {&pull, 1});
  h.Collect();
  const auto sends = h.TakeSends();
  h.Reply(sends[0], absl::FailedPreconditionError("rejoin"));
  CHECK(h.completed.size() == 2);
  h.tracker.Pull(h.now, 1, -1, {&pull, 1});
  h.Collect();
  REQUIRE(h.completed.size() == 3);
  for (const auto& c : h.completed) {
    CHECK(c.status.code() == absl::StatusCode::kFailedPrecondition);
  }
  h.Reply(sends[1], RowsByKey(AsPull(sends[1]), 1).response);
  h.Advance(1'000'000);
  CHECK(h.completed.size() == 3);
  CHECK(h.sends.empty());
}

TEST_CASE("an evaluation pull names no clock and never parks") {
  TrackerHarness h({}, {1});
  const std::vector<Key> keys = {1};
  std::vector<float> rows(1);
  const TablePull pull{0, keys, rows};
  h.tracker.PullForEvaluation(h.now, {&pull, 1});
  h.Collect();
  CHECK(AsPull(h.sends[0]).eval);
  CHECK(AsPull(h.sends[0]).bound == kNoBound);
}

TEST_CASE("calls without keys are answered at once") {
  TrackerHarness h;
  h.tracker.Pull(h.now, 3, 2, {});
  h.tracker.Push(h.now, 3, 1, {});
  h.Collect();
  CHECK(h.sends.empty());
  CHECK(h.completed.size() == 2);
}

TEST_CASE("a pull that a server cannot answer yet is sent again soon, and asks for no routing") {
  TrackerHarness h({.retry = {.backoff_max_ms = 5000}}, {1});
  const std::vector<Key> keys = {1};
  std::vector<float> rows(1);
  const TablePull pull{0, keys, rows};
  h.tracker.Pull(h.now, 0, -1, {&pull, 1});
  h.Collect();
  for (int i = 0; i < 12; ++i) {
    REQUIRE(h.sends.size() == 1);
    h.Reply(h.TakeSends()[0], absl::UnavailableError("takes over"));
    CHECK(h.tracker.NextTime() <= h.now + 50);
    h.AdvanceToNext();
  }
  CHECK_FALSE(h.want_routing);
}

}  // namespace tidegate
