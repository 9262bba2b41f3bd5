// Where copies go: random histories of deaths, joins, drains, fills and repairs, and what must hold in each.
#include "scheduler/policy/replication.h"

#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <map>

#include "common/random.h"
#include "common/routing_table.h"

namespace tidegate {
namespace {

struct Cluster {
  explicit Cluster(uint64_t seed, uint32_t n, uint32_t shards, uint32_t copies, int zone_count = 0)
      : random(seed), zones(zone_count) {
    options.replicas = copies;
    for (uint32_t i = 0; i < n; ++i) Join();
    sets = PlaceReplicas(shards, servers, copies);
    Publish();
  }
  void Join() {
    ReplicaServer server;
    server.incarnation = ++last;
    if (zones > 0) server.zone = std::to_string(last % zones);
    servers.push_back(server);
  }
  bool Plan() { return PlanReplicas(servers, options, &sets, nullptr); }
  RemovalResult Kill(std::set<Incarnation> dead) {
    std::erase_if(servers, [&](const ReplicaServer& s) { return dead.contains(s.incarnation); });
    return RemoveServers(dead, servers, 0, &sets);
  }
  void Fill(double share = 1) {
    for (ShardId s = 0; s < sets.size(); ++s) {
      if (sets[s].joining != 0 && random.Unit() < share) TakeInSync(s, sets[s].joining, &sets);
    }
  }
  void Drain(double share = 1) {
    for (ShardId s = 0; s < sets.size(); ++s) {
      if (sets[s].successor != 0 && random.Unit() < share) TakeDrained(s, options.replicas, &sets);
    }
  }
  // Until nothing is left to do; the number of rounds.
  int Settle() {
    int rounds = 0;
    for (; rounds < 10'000; ++rounds) {
      const bool planned = Plan();
      Publish();
      for (const ShardReplicas& set : sets) least_in_sync = std::min(least_in_sync, set.InSync());
      const bool moving = std::any_of(sets.begin(), sets.end(), [](const auto& set) { return set.joining != 0 || set.successor != 0; });
      if (!planned && !moving) break;
      Fill(random.Unit());
      Drain(random.Unit());
    }
    return rounds;
  }
  void Publish() {
    std::vector<Member> members;
    for (const ReplicaServer& s : servers) members.emplace_back().set_incarnation(s.incarnation);
    if (table.epoch() != 0 && ReplicaSetsOf(table) == sets) return;
    const RoutingTable next = NextTable(table, sets, members, options.replicas - 1, 9);
    bool right = true;
    for (int s = 0; s < next.shard_epoch_size(); ++s) {
      const bool same = table.epoch() != 0 && table.primary(s) == next.primary(s);
      right = right && (next.shard_epoch(s) == (!same ? next.epoch() : table.shard_epoch_size() > 0 ? table.shard_epoch(s) : 1));
      const Epoch drained = next.drained_epoch_size() > 0 ? next.drained_epoch(s) : 0;
      right = right && drained == (sets[s].handed_over ? next.shard_epoch(s) : 0);
      right = right && (next.successor_size() > 0 ? next.successor(s) : 0) == sets[s].successor;
    }
    right = right && ReplicaSetsOf(next) == sets;
    REQUIRE(right);
    if (next.shard_epoch_size() > 0) {
      const auto newest = *std::max_element(next.shard_epoch().begin(), next.shard_epoch().end());
      REQUIRE(next.primary_epoch() == newest);
    }
    const auto routing = Routing::FromProto(next);  // also: no server twice
    INFO(routing.status().message());
    REQUIRE(routing.ok());
    table = next;
  }
  std::vector<std::set<Incarnation>> Promotable() const {
    std::vector<std::set<Incarnation>> out;
    for (const ShardReplicas& set : sets) {
      out.emplace_back(set.backups.begin(), set.backups.end()).insert(set.primary);
    }
    return out;
  }
  std::map<Incarnation, std::pair<int, int>> Counts() const {  // primaries, copies
    std::map<Incarnation, std::pair<int, int>> counts;
    for (const ReplicaServer& s : servers) counts[s.incarnation];
    for (const ShardReplicas& set : sets) {
      ++counts[set.primary].first;
      ++counts[set.primary].second;
      for (Incarnation b : set.backups) ++counts[b].second;
    }
    return counts;
  }
  size_t Staying() const {
    return static_cast<size_t>(std::count_if(servers.begin(), servers.end(), [](const auto& s) { return !s.draining; }));
  }

  Random random;
  int zones;
  Incarnation last = 0;
  size_t least_in_sync = 100;  // of any shard while Settle went on
  std::vector<ReplicaServer> servers;
  ReplicationOptions options;
  ReplicaSets sets;
  RoutingTable table;
};

bool Includes(const std::set<Incarnation>& all, const std::set<Incarnation>& some) {
  return std::includes(all.begin(), all.end(), some.begin(), some.end());
}

TEST_CASE("copies are placed level, on few partners, and none beside its primary") {
  for (uint32_t n : {1u, 2u, 3u, 4u, 7u, 20u}) {
    for (uint32_t copies : {1u, 2u, 3u}) {
      const uint32_t shards = std::bit_ceil(64 * n);
      Cluster c(1, n, shards, copies);
      std::map<Incarnation, std::set<Incarnation>> partners;
      for (const ShardReplicas& set : c.sets) {
        REQUIRE(set.InSync() == std::min(copies, n));
        partners[set.primary].insert(set.backups.begin(), set.backups.end());
      }
      for (const auto& [server, counts] : c.Counts()) {
        INFO("servers " << n << ", copies " << copies << ", server " << server);
        const int mean = static_cast<int>(shards / n);
        CHECK(std::abs(counts.first - mean) <= 1);
        CHECK(std::abs(counts.second - mean * static_cast<int>(std::min(copies, n))) <= mean / 2 + 4);
        CHECK(partners[server].size() <= 2 * (copies - 1));
      }
      CHECK_FALSE(c.Plan());
    }
  }
}

TEST_CASE("copies are in different zones where there are any") {
  Cluster c(1, 6, 256, 2, 3);
  const auto apart = [&] {
    return std::all_of(c.sets.begin(), c.sets.end(), [](const ShardReplicas& set) {
      return set.backups.size() == 1 && set.primary % 3 != set.backups[0] % 3;
    });
  };
  CHECK(apart());
  c.Kill({4});
  REQUIRE(c.Settle() < 10'000);
  CHECK(apart());
}

TEST_CASE("a dead primary's shards go to backups with few primaries; the others are filled anew, one at a time") {
  Cluster c(1, 4, 64, 3);
  c.options.fills_max = 64;
  const ReplicaSets before = c.sets;
  const RemovalResult result = c.Kill({1});
  CHECK(result.lost.empty());
  CHECK(result.promoted == 16);
  for (ShardId s = 0; s < 64; ++s) {
    if (before[s].primary != 1) {
      CHECK(c.sets[s].primary == before[s].primary);
      CHECK_FALSE(c.sets[s].Follows(1));
      continue;
    }
    CHECK(before[s].Follows(c.sets[s].primary));
    CHECK(c.sets[s].backups.empty());
  }
  CHECK(c.Plan());
  for (const ShardReplicas& set : c.sets) {
    if (set.InSync() < 3) CHECK(set.joining != 0);
  }
  for (const auto& [server, counts] : c.Counts()) CHECK(counts.first <= 22);
}

TEST_CASE("a server that is suspect, or leaves, is promoted only where nobody else can be") {
  Cluster c(1, 3, 8, 3);
  c.servers[1].suspect = true;
  CHECK(c.Kill({1}).lost.empty());
  for (const ShardReplicas& set : c.sets) CHECK((set.primary == 3 || set.Follows(3)));
  for (const ShardReplicas& set : c.sets) CHECK((set.primary != 2 || set.Follows(3)));
  c.sets[0] = {3, {2}, 0};
  CHECK(c.Kill({3}).promoted >= 1);
  CHECK(c.sets[0].primary == 2);
}

TEST_CASE("servers that die at once are no heirs of each other") {
  Cluster c(1, 3, 8, 3);
  const RemovalResult result = c.Kill({1, 2});
  CHECK(result.lost.empty());
  for (const ShardReplicas& set : c.sets) CHECK(set == ShardReplicas{3, {}, 0});
}

TEST_CASE("without another copy in sync a shard is lost, also where one is being filled") {
  Cluster c(1, 2, 4, 1);
  c.sets[1].joining = 2;
  const RemovalResult result = c.Kill({1});
  CHECK(result.lost == std::vector<ShardId>{0, 1});
  CHECK(result.promoted == 0);
}

TEST_CASE("a copy that diverged is not promoted any more") {
  Cluster c(1, 3, 8, 2);
  const Incarnation backup = c.sets[0].backups[0];
  CHECK(TakeOut(0, backup, &c.sets));
  CHECK_FALSE(TakeOut(0, backup, &c.sets));
  CHECK_FALSE(TakeOut(0, c.sets[0].primary, &c.sets));
  c.options.banned_copies = {{0, backup}};
  CHECK(c.Plan());
  CHECK(c.sets[0].joining != backup);
  CHECK(c.sets[0].joining != 0);
  CHECK(TakeOut(0, c.sets[0].joining, &c.sets));
  CHECK_FALSE(TakeInSync(0, 0, &c.sets));
}

TEST_CASE("servers that do not reach each other do not follow each other") {
  Cluster c(1, 3, 16, 2);
  c.options.banned_links = {{1, 2}};
  for (ShardId s = 0; s < 16; ++s) {
    if (c.sets[s].primary == 1) TakeOut(s, 2, &c.sets);
  }
  REQUIRE(c.Settle() < 10'000);
  for (const ShardReplicas& set : c.sets) {
    CHECK(set.InSync() == 2);
    if (set.primary == 1) CHECK(set.backups[0] == 3);
  }
}

TEST_CASE("no more fills at a time into a server or out of one than allowed") {
  Cluster c(3, 5, 256, 2);
  c.options.fills_max = 4;
  c.Kill({2});
  c.Join();
  for (int round = 0; c.Plan(); ++round) {
    std::map<Incarnation, int> in, out;
    for (const ShardReplicas& set : c.sets) {
      if (set.joining != 0) ++in[set.joining], ++out[set.primary];
    }
    for (const auto& [server, n] : in) REQUIRE(n <= 4);
    for (const auto& [server, n] : out) REQUIRE(n <= 4);
    REQUIRE(round < 1000);
    c.Fill();
  }
  CHECK(CountDegraded(c.sets, 2) == 0);
}

TEST_CASE("a planned promotion names a successor; when the primary has drained its log it stays as a backup") {
  Cluster c(5, 4, 64, 2);
  const ReplicaSets before = c.sets;
  c.servers[0].draining = true;
  REQUIRE(c.Plan());
  c.Publish();
  for (ShardId s = 0; s < 64; ++s) {
    CHECK(c.sets[s].primary == before[s].primary);
    CHECK(c.sets[s].backups == before[s].backups);
    CHECK(c.sets[s].successor == (before[s].primary == 1 ? before[s].backups[0] : 0));
    CHECK((c.sets[s].successor == 0 || c.sets[s].joining == 0));
    if (before[s].primary == 1) REQUIRE(TakeDrained(s, 2, &c.sets));
  }
  c.Publish();
  for (ShardId s = 0; s < 64; ++s) {
    if (before[s].primary == 1) CHECK(c.sets[s] == ShardReplicas{before[s].backups[0], {1}, 0, 0, true});
    CHECK_FALSE(TakeDrained(s, 2, &c.sets));
  }
  REQUIRE(c.Settle() < 1000);
  const ReplicaSets settled = c.sets;
  c.Kill({2});  // what one of them leads after a death was not handed over
  for (ShardId s = 0; s < 64; ++s) CHECK((settled[s].primary != 2 || !c.sets[s].handed_over));
}

TEST_CASE("a copy too many stays while another one is not heard") {
  Cluster c(5, 3, 8, 2);
  for (ShardReplicas& set : c.sets) set = {1, {2, 3}, 0};
  c.options.may_level = false;
  SECTION("the new one") { c.servers[2].suspect = true; }
  SECTION("the primary") { c.servers[0].suspect = true; }
  SECTION("nobody is known to live yet") { c.options.may_drop = false; }
  CHECK_FALSE(c.Plan());
  for (const ShardReplicas& set : c.sets) CHECK(set.InSync() == 3);
  c.servers[0].suspect = c.servers[2].suspect = false;
  c.options.may_drop = true;
  CHECK(c.Plan());
  for (const ShardReplicas& set : c.sets) CHECK(set.InSync() == 2);
}

TEST_CASE("a handover is given up where the successor dies, leaves, is not heard, or none is wanted") {
  Cluster c(5, 3, 8, 3);
  c.options.may_level = false;
  c.servers[0].draining = true;
  REQUIRE(c.Plan());
  ShardId moved = 0;
  while (c.sets[moved].successor == 0) ++moved;
  const Incarnation successor = c.sets[moved].successor;
  const Incarnation other = successor == 2 ? 3 : 2;
  const size_t index = successor - 1;
  REQUIRE(c.sets[moved].primary == 1);
  SECTION("dead") { c.Kill({successor}); }
  SECTION("taken out") {
    TakeOut(moved, successor, &c.sets);
    c.options.banned_copies = {{moved, successor}};
  }
  SECTION("drained too") { c.servers[index].draining = true; }
  SECTION("suspect") { c.servers[index].suspect = true; }
  SECTION("the primary dies: the other backups are filled anew") {
    c.Kill({1});
    CHECK(c.sets[moved].successor == 0);
    CHECK(c.sets[moved].backups.empty());
    CHECK_FALSE(c.sets[moved].handed_over);
    return;
  }
  SECTION("none is wanted now") {
    c.options.may_promote = false;
    CHECK(c.Plan());
    for (const ShardReplicas& set : c.sets) CHECK(set.successor == 0);
    CHECK_FALSE(c.Plan());
    return;
  }
  CHECK(c.sets[moved].successor != other);
  c.Plan();
  CHECK(c.sets[moved].successor == other);
}

TEST_CASE("no more handovers at a time to a server or from one than allowed") {
  Cluster c(5, 3, 64, 2);
  c.options.handovers_max = 5;
  c.servers[0].draining = true;
  int rounds = 0;
  for (; rounds < 100 && c.Plan(); ++rounds) {
    std::map<Incarnation, int> of;
    for (const ShardReplicas& set : c.sets) {
      if (set.successor != 0) ++of[set.primary], ++of[set.successor];
    }
    for (const auto& [server, n] : of) REQUIRE(n <= 5);
    c.Drain();
    c.Fill();
  }
  CHECK(rounds < 100);
  for (const ShardReplicas& set : c.sets) CHECK_FALSE(set.Holds(1));
}

TEST_CASE("a drained server ends empty and every other shard keeps its copies; the last server stays") {
  for (uint32_t copies : {1u, 2u, 3u}) {
    Cluster c(5, 4, 64, copies);
    c.servers[0].draining = true;
    REQUIRE(c.Settle() < 1000);
    CHECK(c.least_in_sync == copies);
    for (const ShardReplicas& set : c.sets) {
      CHECK_FALSE(set.Holds(1));
      CHECK(set.InSync() == copies);
    }
  }
  Cluster alone(5, 1, 4, 1);
  alone.servers[0].draining = true;
  CHECK_FALSE(alone.Plan());
  CHECK(alone.sets[0].primary == 1);
}

TEST_CASE("moves that need a promotion wait while none is wanted") {
  Cluster c(5, 3, 64, 2);
  c.servers[0].draining = true;
  c.options.may_promote = false;
  const ReplicaSets before = c.sets;
  for (int i = 0; i < 100 && c.Plan(); ++i) c.Fill();
  for (ShardId s = 0; s < 64; ++s) CHECK(c.sets[s].primary == before[s].primary);
  c.options.may_promote = true;
  REQUIRE(c.Settle() < 10'000);
  for (const ShardReplicas& set : c.sets) CHECK_FALSE(set.Holds(1));
}

TEST_CASE("a new server takes its part, of primaries too, and then nothing moves") {
  for (uint32_t copies : {1u, 2u, 3u}) {
    Cluster c(7, 3, 256, copies);
    c.Join();
    REQUIRE(c.Settle() < 1000);
    CHECK(c.least_in_sync == copies);
    const auto counts = c.Counts();
    for (const auto& [server, n] : counts) {
      INFO("copies " << copies << ", server " << server);
      CHECK(n.first >= 54);
      CHECK(n.first <= 74);
      CHECK(n.second >= static_cast<int>(56 * copies));
    }
    CHECK_FALSE(c.Plan());
  }
}

TEST_CASE("random histories: nothing in sync is invented, nothing is lost early, and all is repaired") {
  double worst = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    Random dice(seed * 7919);
    const uint32_t copies = 1 + static_cast<uint32_t>(dice.Below(3));
    const uint32_t n = 2 + static_cast<uint32_t>(dice.Below(7));
    Cluster c(seed, n, 16u << dice.Below(4), copies, static_cast<int>(dice.Below(4)));
    c.options.fills_max = 1 + static_cast<uint32_t>(dice.Below(12));
    INFO("seed " << seed << ", copies " << copies);
    bool lost = false;
    for (int step = 0; step < 60 && !lost; ++step) {
      const auto before = c.Promotable();
      const uint64_t what = dice.Below(10);
      if (what == 0 && c.servers.size() < 12) c.Join();
      if (what == 1 && c.servers.size() > 1) {
        const Incarnation dead = c.servers[dice.Below(c.servers.size())].incarnation;
        const RemovalResult result = c.Kill({dead});
        for (ShardId s = 0; s < c.sets.size(); ++s) {
          const bool gone = before[s] == std::set<Incarnation>{dead};
          REQUIRE(gone == (std::find(result.lost.begin(), result.lost.end(), s) != result.lost.end()));
        }
        lost = !result.lost.empty();
        if (lost) break;
      }
      if (what == 2) c.servers[dice.Below(c.servers.size())].draining = dice.Below(2) == 0;
      if (what == 3) {
        const ShardId s = static_cast<ShardId>(dice.Below(c.sets.size()));
        if (!c.sets[s].backups.empty()) TakeOut(s, c.sets[s].backups[0], &c.sets);
      }
      if (what >= 4 && what <= 6) {
        c.Fill(dice.Unit());
        c.Drain(dice.Unit());
      } else {
        if (what != 1) c.options.may_promote = dice.Below(4) != 0;
        c.Plan();
        const auto after = c.Promotable();
        bool grew = false;
        for (ShardId s = 0; s < c.sets.size(); ++s) grew = grew || !Includes(before[s], after[s]);
        REQUIRE_FALSE(grew);
      }
      c.Publish();
    }
    if (lost) continue;
    c.options.may_promote = true;
    if (c.Staying() == 0) c.servers[0].draining = false;
    REQUIRE(c.Settle() < 2000);
    for (const ShardReplicas& set : c.sets) {
      REQUIRE(set.InSync() == std::min<size_t>(copies, c.Staying()));
      for (const ReplicaServer& s : c.servers) REQUIRE_FALSE((s.draining && set.Holds(s.incarnation)));
    }
    const double mean = static_cast<double>(c.sets.size()) / static_cast<double>(c.Staying());
    for (const auto& [server, counts] : c.Counts()) worst = std::max(worst, (counts.first - 1.5) / mean);
  }
  CHECK(worst < 1.8);
}

}  // namespace
}  // namespace tidegate
