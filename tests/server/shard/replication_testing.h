#pragma once
// Shorthand for tests of replication: three servers, of which A leads at first, and workers 1 and 2.

#include <catch2/catch.hpp>
#include <utility>
#include <vector>

#include "tests/server/shard/replica_harness.h"

namespace tidegate {

using Kind = wire::ClockRequest::Kind;
inline constexpr Incarnation kA = 100, kB = 101, kC = 102;

inline std::vector<TableSpec> OneTable() { return {SparseTable(0, 1, "sgd { lr: 1 }")}; }

inline std::vector<Key> SomeKeys(Key first = 0, size_t count = 32) {
  std::vector<Key> keys;
  for (size_t i = 0; i < count; ++i) keys.push_back(first + i);
  return keys;
}

inline TestPush PushOf(Incarnation worker, Sequence sequence, Clock clock, std::vector<Key> keys, float gradient = 1,
                       Epoch epoch = 1) {
  TestPush push;
  push.worker = worker;
  push.sequence = sequence;
  push.oldest_unacked = 1;
  push.clock = clock;
  push.epoch = epoch;
  push.tables.push_back({0, keys, std::vector<float>(keys.size(), gradient), {}});
  return push;
}
inline TestPull PullOf(Incarnation worker, Clock clock, Clock bound, std::vector<Key> keys, Epoch epoch = 1) {
  TestPull pull;
  pull.worker = worker;
  pull.clock = clock;
  pull.bound = bound;
  pull.epoch = epoch;
  pull.tables.push_back({0, std::move(keys), {}, {}});
  return pull;
}
// Sums what a server has for the keys, as a guest sees it.
inline float Total(ReplicaHarness& harness, Incarnation server, std::vector<Key> keys) {
  TestPull pull = PullOf(0, 0, kNoBound, std::move(keys));
  pull.eval = true;
  const TestAnswer answer = harness.Answer(harness.Pull(server, pull));
  REQUIRE(answer.status.ok());
  float sum = 0;
  for (float value : answer.rows[0]) sum += value;
  return sum;
}
// A with backups, and everyone's workers 1 and 2 live.
inline void Start(ReplicaHarness& harness, std::vector<Incarnation> backups) {
  harness.SetAllReplicas(kA, backups);
  harness.NextEpoch();
  harness.PublishToAll();
  for (Incarnation server : {kA, kB, kC}) {
    for (Incarnation worker : {1, 2}) harness.Announce(server, worker, 0, Kind::kHello);
  }
  for (Incarnation backup : {kB, kC}) harness.SetGrant(kA, backup, 1'000'000);
}
inline ReplicaHarness::Options Async(int strands = 1) {
  ReplicaHarness::Options options;
  options.strands = strands;
  options.known = 2;
  return options;
}
inline ReplicaHarness::Options Synchronous(int strands = 1) {
  ReplicaHarness::Options options = Async(strands);
  options.synchronous = true;
  return options;
}
// B leads what A led; A hears of it only when the test says so.
inline void Promote(ReplicaHarness& harness, TimeMs serves_from = 0) {
  harness.SetAllReplicas(kB, {});
  const Epoch epoch = harness.NextEpoch(true);
  harness.table().set_worker_set_version(1);
  REQUIRE(harness.Publish(kB, serves_from).ok());
  for (Incarnation worker : {1, 2}) harness.Announce(kB, worker, 1, Kind::kTick, -1, epoch);
}

}  // namespace tidegate
