// Loads of shards through the scheduler's core: what moves because of them, and when.
#include <catch2/catch.hpp>

#include <algorithm>
#include <map>

#include "tests/scheduler/cluster_harness.h"

namespace tidegate {
namespace {

constexpr uint32_t kShards = 16;

struct Loaded {
  explicit Loaded(uint32_t servers, double bound = 1.3) : rates(kShards, 100) {
    options.servers = servers;
    options.replicas = 2;
    options.splits = 20'000;
    options.epochs = 1;
    options.checkpoints = false;
    options.shard_rate = [this](uint32_t shard) { return rates[shard]; };
    options.adjust = [bound](SchedulerOptions* o) {
      o->rebalance_load = bound;
      o->level_after_ms = 0;
    };
  }
  void Begin() {
    cluster = std::make_unique<ClusterHarness>(options);
    cluster->before_call = [this](uint64_t) {
      if (!cluster->up()) return;
      const RoutingTable& table = cluster->stored().routing();
      for (int s = 0; s < table.primary_size(); ++s) {
        const Incarnation before = primaries[s];
        if (before == table.primary(s)) continue;
        primaries[s] = table.primary(s);
        if (before != 0) changes[s].push_back(cluster->now());
      }
    };
    REQUIRE(cluster->RunUntil([&] { return cluster->stored().phase() == TRAINING && cluster->core().Status(cluster->now()).settled(); }));
  }
  // Hot: the shards that the first server leads now, the first one most.
  void HeatFirstServer(double most) {
    const RoutingTable& table = cluster->stored().routing();
    int rank = 0;
    for (uint32_t s = 0; s < kShards; ++s) {
      if (table.primary(static_cast<int>(s)) == cluster->member(0).incarnation) rates[s] = most * 3 / (3 + rank++);
    }
  }
  // The busiest server's load, in means.
  double Highest() const {
    std::map<Incarnation, double> loads;
    double total = 0;
    for (uint32_t s = 0; s < kShards; ++s) {
      loads[cluster->stored().routing().primary(static_cast<int>(s))] += rates[s];
      total += rates[s];
    }
    double most = 0;
    for (const auto& [server, load] : loads) most = std::max(most, load);
    return most * options.servers / total;
  }
  size_t Changes() const {
    size_t count = 0;
    for (const auto& [shard, times] : changes) count += times.size();
    return count;
  }

  std::vector<double> rates;
  HarnessOptions options;
  std::unique_ptr<ClusterHarness> cluster;
  std::map<int, Incarnation> primaries;
  std::map<int, std::vector<TimeMs>> changes;
};

size_t CountEvents(const ClusterHarness& cluster, const std::string& text) {
  const auto& events = cluster.stored().events();
  return static_cast<size_t>(std::count_if(events.begin(), events.end(), [&](const std::string& e) { return e.find(text) != std::string::npos; }));
}

TEST_CASE("hot shards that one server leads spread until none has 1.3 times the mean, in few moves, and the job completes") {
  for (const uint32_t servers : {2u, 3u, 4u}) {
    CAPTURE(servers);
    Loaded run(servers);
    run.Begin();
    run.HeatFirstServer(2000);
    CHECK(run.Highest() > 1.5);
    run.cluster->RunFor(120'000);
    CHECK(run.Highest() < 1.3);
    CHECK(run.Changes() > 0);
    CHECK(run.Changes() <= kShards / 2);
    CHECK(run.cluster->HasEvent("times the mean of"));
    CHECK(run.cluster->core().Status(run.cluster->now()).degraded_shards() == 0);
    const size_t changes = run.Changes();
    run.cluster->RunFor(120'000);
    CHECK(run.Changes() == changes);
    REQUIRE(run.cluster->RunToEnd(3'000'000));
    CHECK(run.cluster->stored().phase() == FINISHED);
  }
}

TEST_CASE("even loads, loads of nearly nothing, and a bound of 0 move nothing") {
  for (const int which : {0, 1, 2}) {
    Loaded run(3, which == 2 ? 0 : 1.3);
    run.Begin();
    if (which > 0) run.HeatFirstServer(which == 1 ? 10 : 2000);
    if (which == 1) std::transform(run.rates.begin(), run.rates.end(), run.rates.begin(), [](double r) { return r / 100; });
    run.cluster->RunFor(60'000);
    CHECK(run.Changes() == 0);
    CHECK_FALSE(run.cluster->HasEvent("load: "));
  }
}

TEST_CASE("a load that comes and goes moves no shard twice within a minute") {
  Loaded run(3);
  run.Begin();
  for (int round = 0; round < 30; ++round) {
    std::fill(run.rates.begin(), run.rates.end(), 100);
    run.HeatFirstServer(round % 2 == 0 ? 3000 : 1);
    run.cluster->RunFor(10'000);
  }
  CHECK(run.Changes() > 0);
  for (const auto& [shard, times] : run.changes) {
    for (size_t i = 1; i < times.size(); ++i) CHECK(times[i] - times[i - 1] >= 59'500);  // the minute runs from when a move begins
  }
}

TEST_CASE("one shard that is hotter than a server's mean is told once") {
  Loaded run(3);
  run.Begin();
  run.rates[9] = 50'000;
  const Incarnation before = run.cluster->stored().routing().primary(9);
  run.cluster->RunFor(120'000);
  CHECK(run.cluster->stored().routing().primary(9) == before);
  CHECK(CountEvents(*run.cluster, "load: shard 9 alone has") == 1);
}

TEST_CASE("loads wait while a server is drained, and move again after it") {
  Loaded run(4);
  run.options.fill_ms = 3000;
  run.Begin();
  run.HeatFirstServer(2000);
  DrainRequest request;
  request.set_server("host:3");
  run.cluster->core().Handle(run.cluster->now(), 1'000'000'000, request);
  REQUIRE(run.cluster->RunUntil([&] {
    CHECK_FALSE(run.cluster->HasEvent("load: "));
    return run.cluster->member(3).ended;
  }));
  run.options.servers = 3;
  run.cluster->RunFor(120'000);
  CHECK(run.Highest() < 1.3);
}

TEST_CASE("after a restart the scheduler learns the loads again before it moves anything") {
  Loaded run(3);
  run.Begin();
  run.HeatFirstServer(2000);
  run.cluster->CrashScheduler();
  run.cluster->StartScheduler();
  run.cluster->RunFor(3000);
  CHECK_FALSE(run.cluster->HasEvent("load: "));
  run.cluster->RunFor(120'000);
  CHECK(run.Highest() < 1.3);
}

}  // namespace
}  // namespace tidegate
