#include "scheduler/policy/rebalance.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <numeric>

#include "common/random.h"
#include "scheduler/shard_rates.h"

namespace tidegate {
namespace {

std::vector<ReplicaServer> Servers(int n, int zones = 0) {
  std::vector<ReplicaServer> servers;
  for (int i = 1; i <= n; ++i) {
    servers.push_back({static_cast<Incarnation>(i), zones > 0 ? std::to_string(i % zones) : "", false, false});
  }
  return servers;
}
// The busiest server's load, in means.
double Highest(const std::vector<ReplicaServer>& servers, const ReplicaSets& sets, const std::vector<double>& rates) {
  std::map<Incarnation, double> loads;
  for (ShardId shard = 0; shard < sets.size(); ++shard) loads[sets[shard].primary] += rates[shard];
  double most = 0;
  for (const auto& [server, load] : loads) most = std::max(most, load);
  const auto staying = std::count_if(servers.begin(), servers.end(), [](const ReplicaServer& s) { return !s.draining; });
  return most * static_cast<double>(staying) / std::accumulate(rates.begin(), rates.end(), 0.0);
}
// What becomes of the moves once copies are made and primaries changed, all copies kept in sync.
void Carry(const RebalancePlan& plan, ReplicaSets* sets) {
  for (const LoadMove& move : plan.moves) {
    ShardReplicas& set = (*sets)[move.shard];
    if (move.promote) {
      REQUIRE(set.Follows(move.to));
      std::replace(set.backups.begin(), set.backups.end(), move.to, set.primary);
      set.primary = move.to;
    } else {
      REQUIRE_FALSE(set.Holds(move.to));
      set.backups = {move.to};
    }
  }
}
size_t ZoneConflicts(const std::vector<ReplicaServer>& servers, const ReplicaSets& sets) {
  size_t conflicts = 0;
  for (const ShardReplicas& set : sets) {
    for (const Incarnation backup : set.backups) conflicts += servers[backup - 1].zone == servers[set.primary - 1].zone;
  }
  return conflicts;
}

}  // namespace

TEST_CASE("loads below the bound stay where they are; once begun it goes on to a lower one") {
  const auto servers = Servers(2);
  ReplicaSets sets(8);
  for (ShardId s = 0; s < 8; ++s) sets[s] = s < 4 ? ShardReplicas{1, {2}} : ShardReplicas{2, {1}};
  RebalanceOptions options;
  std::vector<double> rates = {125, 125, 125, 125, 75, 75, 75, 75};
  CHECK(PlanRebalance(servers, sets, rates, options).moves.empty());
  CHECK(PlanRebalance(servers, sets, rates, options).highest == Approx(1.25));
  options.begun = true;
  CHECK(PlanRebalance(servers, sets, rates, options).moves == std::vector<LoadMove>{{0, 2, true}});
  options.begun = false;
  rates[0] = 300;
  CHECK(PlanRebalance(servers, sets, rates, options).moves.size() == 1);
  options.begin = 3;
  CHECK(PlanRebalance(servers, sets, rates, options).moves.empty());
}

TEST_CASE("few moves of much are preferred to many of little") {
  const auto servers = Servers(2);
  ReplicaSets sets(16);
  for (ShardReplicas& set : sets) set = {1, {2}};
  std::vector<double> rates(16, 1);
  rates[5] = 60, rates[9] = 40;
  const RebalancePlan plan = PlanRebalance(servers, sets, rates, {});
  CHECK(plan.moves == std::vector<LoadMove>{{5, 2, true}});
  CHECK(plan.busiest == 1);
}

TEST_CASE("no load, no servers, or rates of another table: nothing moves") {
  ReplicaSets sets(4);
  for (ShardReplicas& set : sets) set = {1, {2}};
  CHECK(PlanRebalance(Servers(2), sets, std::vector<double>(4, 0.0), {}).moves.empty());
  CHECK(PlanRebalance({}, sets, std::vector<double>(4, 1.0), {}).moves.empty());
  CHECK(PlanRebalance(Servers(2), sets, std::vector<double>(3, 1.0), {}).moves.empty());
}

TEST_CASE("one shard that is hotter than the mean is named, and nothing is moved for it in vain") {
  const auto servers = Servers(3);
  ReplicaSets sets(8);
  for (ShardId s = 0; s < 8; ++s) sets[s] = {s % 3 + 1, {(s + 1) % 3 + 1}};
  std::vector<double> rates(8, 1);
  rates[4] = 100;
  ReplicaSets now = sets;
  RebalancePlan plan;
  for (int round = 0; round < 10; ++round) {
    plan = PlanRebalance(servers, now, rates, {});
    Carry(plan, &now);
  }
  CHECK(plan.moves.empty());
  CHECK(plan.too_hot == ShardId{4});
  CHECK(now[4].primary == sets[4].primary);
  rates[4] = 1;
  CHECK_FALSE(PlanRebalance(servers, now, rates, {}).too_hot);
}

TEST_CASE("servers that drain or are not heard take nothing, and shards that rest or are being copied stay") {
  auto servers = Servers(3);
  ReplicaSets sets(8);
  for (ShardReplicas& set : sets) set = {1, {2}};
  const std::vector<double> rates(8, 10);
  RebalanceOptions options;
  servers[1].suspect = true;
  for (const LoadMove& move : PlanRebalance(servers, sets, rates, options).moves) CHECK((move.to == 3 && !move.promote));
  servers[2].draining = true;
  CHECK(PlanRebalance(servers, sets, rates, options).moves.empty());
  servers[1].suspect = false;
  CHECK(PlanRebalance(servers, sets, rates, options).moves.size() > 1);
  for (ShardId s = 0; s < 8; ++s) {
    if (s != 6) options.resting.insert(s);
  }
  CHECK(PlanRebalance(servers, sets, rates, options).moves == std::vector<LoadMove>{{6, 2, true}});
  sets[6].joining = 3;
  CHECK(PlanRebalance(servers, sets, rates, options).moves.empty());
}

TEST_CASE("where no backup helps a copy is made on a server with little load") {
  const auto servers = Servers(3);
  ReplicaSets sets(8);
  for (ShardId s = 0; s < 8; ++s) sets[s] = s % 2 ? ShardReplicas{1, {2}} : ShardReplicas{2, {1}};
  const std::vector<double> rates(8, 10);
  RebalanceOptions options;
  RebalancePlan plan = PlanRebalance(servers, sets, rates, options);
  REQUIRE(plan.moves.size() == 2);
  for (const LoadMove& move : plan.moves) CHECK((move.to == 3 && !move.promote));
  options.banned_links = {{1, 3}};
  plan = PlanRebalance(servers, sets, rates, options);
  CHECK_FALSE(plan.moves.empty());
  for (const LoadMove& move : plan.moves) CHECK(sets[move.shard].primary == 2);
  options.banned_links.insert({2, 3});
  CHECK(PlanRebalance(servers, sets, rates, options).moves.empty());
  options.banned_links.clear();
  for (ShardId s = 0; s < 8; ++s) options.banned_copies.insert({s, 3});
  CHECK(PlanRebalance(servers, sets, rates, options).moves.empty());
}

TEST_CASE("Zipf loads that are all on one server at the start come below the bound in few moves, zones kept") {
  int runs = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const int n = 2 + static_cast<int>(random.Below(7));
    const int zones = random.Below(2) == 0 ? 0 : 2;
    const auto servers = Servers(n, zones);
    const uint32_t shards = 64u << random.Below(4);
    ReplicaSets sets = PlaceReplicas(shards, servers, 2);
    std::vector<double> rates(shards, 1);
    std::vector<ShardId> hot;
    for (ShardId s = 0; s < shards; ++s) {
      if (sets[s].primary == 1) hot.push_back(s);
    }
    // The hottest has at most half of what a server should have.
    for (size_t i = 0; i < hot.size(); ++i) rates[hot[i]] = 200.0 / static_cast<double>(10 + i);
    const double mean = std::accumulate(rates.begin(), rates.end(), 0.0) / n;
    const double hottest = *std::max_element(rates.begin(), rates.end());
    if (hottest > mean / 2) continue;
    RebalanceOptions options;
    const size_t conflicts = ZoneConflicts(servers, sets);
    double before = Highest(servers, sets, rates);
    size_t moves = 0;
    for (int round = 0; round < 200; ++round) {
      const RebalancePlan plan = PlanRebalance(servers, sets, rates, options);
      CHECK(plan.moves.size() <= options.moves_max);
      CHECK(plan.highest == Approx(before));
      if (plan.moves.empty()) break;
      options.begun = true;
      Carry(plan, &sets);
      moves += plan.moves.size();
      const double after = Highest(servers, sets, rates);
      CHECK(after <= before + 1e-9);
      before = after;
      CHECK(ZoneConflicts(servers, sets) <= conflicts);
    }
    CHECK(before < 1.3);
    CHECK(moves <= 4 * hot.size());
    ++runs;
  }
  CHECK(runs > 100);
}

ShardLoads Totals(const std::vector<uint64_t>& rows) {
  ShardLoads loads;
  for (size_t s = 0; s < rows.size(); ++s) {
    loads.add_shard(static_cast<uint32_t>(s));
    loads.add_rows_total(rows[s]);
    loads.add_bytes(0);
  }
  return loads;
}
RoutingTable Table(const std::vector<Incarnation>& primaries) {
  RoutingTable table;
  table.set_epoch(1);
  for (const Incarnation primary : primaries) {
    table.add_primary(primary);
    table.add_shard_epoch(1);
  }
  return table;
}

TEST_CASE("rates follow the totals of each shard's primary, and are known after some windows of all") {
  ShardRates rates;
  RoutingTable table = Table({1, 2});
  CHECK_FALSE(rates.Known(0, table));
  for (uint64_t t = 0; t <= 20; ++t) {
    const TimeMs now = static_cast<TimeMs>(1000 * t);
    rates.Take(now, 1, Totals({500 * t, 9'000 * t}), table);  // it does not lead shard 1
    CHECK_FALSE(rates.Known(now, table));
  }
  CHECK(rates.rates()[0] == Approx(500));
  CHECK(rates.rates()[1] == 0);
  for (uint64_t t = 20; t <= 23; ++t) {
    CHECK_FALSE(rates.Known(static_cast<TimeMs>(1000 * t), table));
    rates.Take(static_cast<TimeMs>(1000 * t), 1, Totals({500 * t}), table);
    rates.Take(static_cast<TimeMs>(1000 * t), 2, Totals({7, 100 * t}), table);
  }
  CHECK(rates.Known(23'000, table));
  CHECK(rates.total() == Approx(600));
  CHECK_FALSE(rates.Known(29'000, table));  // long ago
}

TEST_CASE("a rate survives a change of primaries, and a server that counts anew; a step is followed within seconds") {
  ShardRates rates;
  RoutingTable table = Table({1});
  for (uint64_t t = 0; t <= 10; ++t) rates.Take(static_cast<TimeMs>(1000 * t), 1, Totals({1000 * t}), table);
  table.set_primary(0, 2);
  table.set_shard_epoch(0, 5);
  CHECK_FALSE(rates.Known(10'000, table));
  rates.Take(11'000, 2, Totals({77}), table);
  rates.Take(11'100, 2, Totals({5000}), table);  // too short a window
  CHECK(rates.rates()[0] == Approx(1000));
  rates.Take(12'000, 2, Totals({3}), table);
  CHECK(rates.rates()[0] == Approx(1000));
  for (uint64_t t = 1; t <= 10; ++t) rates.Take(static_cast<TimeMs>(12'000 + 1000 * t), 2, Totals({3 + 4000 * t}), table);
  CHECK(rates.Known(22'000, table));
  CHECK(rates.rates()[0] > 3500);
  CHECK(rates.rates()[0] < 4000);
}

TEST_CASE("reports of shards that the table does not have are passed over") {
  ShardRates rates;
  const RoutingTable table = Table({1, 1});
  ShardLoads loads = Totals({1, 1, 1, 1});
  loads.add_shard(1u << 31);
  rates.Take(0, 1, loads, table);
  CHECK(rates.rates().size() == 2);
}

}  // namespace tidegate
