#include "scheduler/policy/replication.h"

#include <algorithm>
#include <limits>

#include "common/logging.h"
#include "scheduler/policy/placement.h"

namespace tidegate {
namespace {

// In shares of the mean load: what a second copy in one zone costs, and what a new partner of a primary.
constexpr double kZoneCost = 0.5;
constexpr double kPartnerCost = 0.2;
// Hysteresis, in shares of the mean: copies move to servers below the first, primaries also from those above the second.
constexpr double kLow = 0.9;
constexpr double kHighPrimaries = 1.15;

// Loads of the servers, by their index in rising order of incarnation.
class Loads {
 public:
  Loads(std::span<const ReplicaServer> servers, const ReplicaSets& sets)
      : servers_(servers), copies(servers.size()), primaries(servers.size()), fills(servers.size()),
        sources(servers.size()), handovers(servers.size()), follows_(servers.size()) {
    for (const ShardReplicas& set : sets) Count(set);
  }
  int Index(Incarnation server) const {
    const auto it = std::lower_bound(servers_.begin(), servers_.end(), server,
                                     [](const ReplicaServer& a, Incarnation b) { return a.incarnation < b; });
    return it == servers_.end() || it->incarnation != server ? -1 : static_cast<int>(it - servers_.begin());
  }
  const ReplicaServer& server(int index) const { return servers_[index]; }
  size_t size() const { return servers_.size(); }
  bool Draining(Incarnation server) const {
    const int i = Index(server);
    return i < 0 || servers_[i].draining;
  }
  bool IsPartner(int primary, int follower) const {
    const auto& of = follows_[primary];
    return std::find(of.begin(), of.end(), follower) != of.end();
  }
  void AddFollower(int primary, int follower) {
    ++copies[follower];
    if (!IsPartner(primary, follower)) follows_[primary].push_back(follower);
  }
  void CountHandover(int from, int to, int times = 1) {
    for (const int i : {from, to}) {
      if (i >= 0) handovers[i] += times;
    }
    if (from >= 0) primaries[from] -= times;
    if (to >= 0) primaries[to] += times;
  }
  double MeanOf(const std::vector<int>& counts) const {
    double sum = 0, eligible = 0;
    for (size_t i = 0; i < counts.size(); ++i) {
      sum += counts[i];
      eligible += servers_[i].draining ? 0 : 1;
    }
    return eligible == 0 ? 0 : sum / eligible;
  }

 private:
  void Count(const ShardReplicas& set) {
    const int primary = Index(set.primary);
    if (primary < 0) return;
    ++copies[primary];
    ++primaries[primary];
    if (set.successor != 0) CountHandover(primary, Index(set.successor));
    for (Incarnation backup : set.backups) {
      if (const int i = Index(backup); i >= 0) AddFollower(primary, i);
    }
    const int joining = set.joining == 0 ? -1 : Index(set.joining);
    if (joining < 0) return;
    AddFollower(primary, joining);
    ++fills[joining];
    ++sources[primary];
  }

  std::span<const ReplicaServer> servers_;

 public:
  // Handovers under way count as done.
  std::vector<int> copies, primaries, fills, sources, handovers;

 private:
  std::vector<std::vector<int>> follows_;  // per primary: who has a copy of any of its shards
};

size_t ZoneConflicts(const ShardReplicas& set, const Loads& loads, const std::string& zone, Incarnation leaves) {
  if (zone.empty()) return 0;
  size_t conflicts = 0;
  const auto count = [&](Incarnation holder) {
    if (holder == leaves) return;
    const int i = loads.Index(holder);
    if (i >= 0 && loads.server(i).zone == zone) ++conflicts;
  };
  count(set.primary);
  for (Incarnation backup : set.backups) count(backup);
  return conflicts;
}

// Works towards the goal on one snapshot.
// REQUIRES: a power of two of shards.
class Planner {
 public:
  Planner(std::span<const ReplicaServer> servers, const ReplicationOptions& options, ReplicaSets* sets, PendingDrops* drops)
      : options_(options), sets_(*sets), drops_(drops), loads_(servers, *sets) {
    size_t eligible = 0;
    for (const ReplicaServer& server : servers) eligible += server.draining ? 0 : 1;
    target_ = std::min<size_t>(options.replicas, eligible);
  }

  bool Run() {
    if (target_ == 0) return false;
    GiveUpHandovers();
    DropSurplus();
    PromoteFromDraining();
    if (options_.may_level && !changed_ && Whole()) Level();
    const bool repairing = Repair();
    if (!repairing && Whole(/*fills_are_well=*/true)) SpreadCopies();
    return changed_;
  }

 private:
  size_t Staying(const ShardReplicas& set) const {
    size_t n = loads_.Draining(set.primary) ? 0 : 1;
    for (Incarnation backup : set.backups) n += loads_.Draining(backup) ? 0 : 1;
    return n;
  }
  // Every shard has its copies, on servers that stay, and nothing is being filled.
  bool Whole(bool fills_are_well = false) const {
    return std::all_of(sets_.begin(), sets_.end(), [&](const ShardReplicas& set) {
      return Staying(set) >= target_ && (fills_are_well || set.joining == 0);
    });
  }
  // Copies in sync on other servers than `leaver` that are heard, and have seen the probe.
  size_t Heard(const ShardReplicas& set, Incarnation leaver, uint64_t probe) const {
    const auto is_heard = [&](Incarnation server) {
      const int i = server == leaver ? -1 : loads_.Index(server);
      return i >= 0 && !loads_.server(i).suspect && loads_.server(i).seen_probe >= probe;
    };
    return static_cast<size_t>(std::count_if(set.backups.begin(), set.backups.end(), is_heard)) + (is_heard(set.primary) ? 1 : 0);
  }
  void Drop(ShardReplicas* set, Incarnation server) {
    std::erase(set->backups, server);
    if (const int i = loads_.Index(server); i >= 0) --loads_.copies[i];
    changed_ = true;
  }
  void EndFill(ShardReplicas* set) {
    if (set->joining == 0) return;
    const int to = loads_.Index(set->joining), from = loads_.Index(set->primary);
    if (to >= 0) --loads_.fills[to], --loads_.copies[to];
    if (from >= 0) --loads_.sources[from];
    set->joining = 0;
    changed_ = true;
  }
  // Of those that stay, and are heard, the backup with the fewest primaries; 0: none.
  Incarnation Heir(const ShardReplicas& set) const {
    Incarnation best = 0;
    int fewest = std::numeric_limits<int>::max();
    for (Incarnation backup : set.backups) {
      const int i = loads_.Index(backup);
      if (i < 0 || loads_.server(i).draining || loads_.server(i).suspect || loads_.primaries[i] >= fewest) continue;
      fewest = loads_.primaries[i];
      best = backup;
    }
    return best;
  }
  // A fill of the shard ends first.
  void HandOver(ShardReplicas* set, Incarnation heir) {
    if (heir == 0 || !options_.may_promote || set->successor != 0 || set->joining != 0) return;
    const int from = loads_.Index(set->primary), to = loads_.Index(heir), most = static_cast<int>(options_.handovers_max);
    if (loads_.handovers[to] >= most || (from >= 0 && loads_.handovers[from] >= most)) return;
    loads_.CountHandover(from, to);
    set->successor = heir;
    changed_ = true;
  }
  // Where none is wanted now, or to a server that leaves or is not heard.
  void GiveUpHandovers() {
    for (ShardReplicas& set : sets_) {
      if (set.successor == 0) continue;
      const int to = loads_.Index(set.successor);
      if (options_.may_promote && to >= 0 && !loads_.server(to).draining && !loads_.server(to).suspect) continue;
      loads_.CountHandover(loads_.Index(set.primary), to, -1);
      set.successor = 0;
      changed_ = true;
    }
  }

  // As many as are wanted have to be heard without it, and again once it is decided.
  bool MayDrop(ShardId shard, const ShardReplicas& set, Incarnation leaver, PendingDrops* pending) const {
    if (!options_.may_drop || Heard(set, leaver, 0) < target_) return false;
    if (drops_ == nullptr) return true;
    const auto decided = drops_->find(shard);
    const uint64_t probe = decided == drops_->end() ? 0 : decided->second;
    if (probe != 0 && Heard(set, leaver, probe) >= target_) return true;
    pending->emplace(shard, probe);
    return false;
  }
  void DropSurplus() {
    PendingDrops pending;
    for (ShardId shard = 0; shard < sets_.size(); ++shard) {
      ShardReplicas& set = sets_[shard];
      if (set.joining != 0 && loads_.Draining(set.joining)) EndFill(&set);
      while (set.InSync() > target_ && !set.backups.empty() && set.successor == 0) {
        const Incarnation leaver = Surplus(set);
        if (leaver != set.primary) {
          if (!MayDrop(shard, set, leaver, &pending)) break;
          Drop(&set, leaver);
          continue;
        }
        HandOver(&set, Heir(set));
        break;
      }
    }
    if (drops_ != nullptr) *drops_ = std::move(pending);
  }
  // Who leaves a shard that has a copy too many: one that drains, else where one copy is all, who has it; else the
  // backup on the fullest server, the newest excepted.
  Incarnation Surplus(const ShardReplicas& set) const {
    for (Incarnation backup : set.backups) {
      if (loads_.Draining(backup)) return backup;
    }
    if (target_ == 1 || loads_.Draining(set.primary)) return set.primary;
    return Fullest(std::span(set.backups).first(std::max<size_t>(1, set.backups.size() - 1)));
  }
  Incarnation Fullest(std::span<const Incarnation> backups) const {
    Incarnation fullest = 0;
    int most = -1;
    for (Incarnation backup : backups) {
      const int i = loads_.Index(backup);
      if (i < 0 || loads_.copies[i] <= most) continue;
      most = loads_.copies[i];
      fullest = backup;
    }
    return fullest;
  }

  void PromoteFromDraining() {
    for (ShardReplicas& set : sets_) {
      if (loads_.Draining(set.primary)) HandOver(&set, Heir(set));
    }
  }

  void Level() {
    const double mean = loads_.MeanOf(loads_.primaries);
    for (size_t i = 0; i < sets_.size(); ++i) {
      ShardReplicas& set = sets_[Spread(i)];
      const int from = loads_.Index(set.primary);
      const Incarnation heir = set.successor == 0 ? Heir(set) : 0;
      if (heir == 0 || from < 0) continue;
      const int high = loads_.primaries[from], low = loads_.primaries[loads_.Index(heir)];
      const bool uneven = high > kHighPrimaries * mean || (high > mean && low < kLow * mean);
      if (uneven && high - low >= 2) HandOver(&set, heir);
    }
  }

  bool MayJoin(const ShardReplicas& set, ShardId shard, int candidate) const {
    const ReplicaServer& server = loads_.server(candidate);
    return !server.draining && !server.suspect && loads_.fills[candidate] < static_cast<int>(options_.fills_max) &&
           !set.Holds(server.incarnation) && !options_.banned_copies.contains({shard, server.incarnation}) &&
           !options_.banned_links.contains({set.primary, server.incarnation});
  }
  void Join(ShardReplicas* set, int from, int to) {
    set->joining = loads_.server(to).incarnation;
    ++loads_.fills[to];
    ++loads_.sources[from];
    loads_.AddFollower(from, to);
    changed_ = true;
  }

  // True where a shard lacks copies, whether a fill could be begun or not.
  bool Repair() {
    bool lacking = false;
    const double mean = std::max(1.0, loads_.MeanOf(loads_.copies));
    for (size_t copies = 0; copies < target_; ++copies) {
      for (ShardId shard = 0; shard < sets_.size(); ++shard) {
        ShardReplicas& set = sets_[shard];
        if (Staying(set) != copies) continue;
        lacking = true;
        const int from = loads_.Index(set.primary);
        if (set.joining != 0 || set.successor != 0 || from < 0 || loads_.sources[from] >= static_cast<int>(options_.fills_max)) continue;
        const int best = Best(set, shard, from, mean);
        if (best >= 0) Join(&set, from, best);
      }
    }
    return lacking;
  }
  int Best(const ShardReplicas& set, ShardId shard, int from, double mean) const {
    int best = -1;
    double lowest = 0;
    for (int i = 0; i < static_cast<int>(loads_.size()); ++i) {
      if (!MayJoin(set, shard, i)) continue;
      const double cost = loads_.copies[i] / mean +
                          kZoneCost * static_cast<double>(ZoneConflicts(set, loads_, loads_.server(i).zone, 0)) +
                          (loads_.IsPartner(from, i) ? 0 : kPartnerCost);
      if (best >= 0 && cost >= lowest) continue;
      best = i;
      lowest = cost;
    }
    return best;
  }

  // The i-th shard of an order in which neighbours are far apart: no server gives all.
  ShardId Spread(size_t i) const { return static_cast<ShardId>(i * 0x9e3779b1u & (sets_.size() - 1)); }
  // Whose copy goes when `set` gets one more; 0: nobody's.
  Incarnation Giver(const ShardReplicas& set) const {
    return target_ == 1 ? set.primary : Fullest(set.backups);
  }
  // Copies for servers that have few, from those that have many. Moves under way count as done.
  void SpreadCopies() {
    std::vector<int> copies = loads_.copies;
    for (const ShardReplicas& set : sets_) {
      if (set.joining == 0) continue;
      if (const int from = loads_.Index(Giver(set)); from >= 0) --copies[from];
    }
    const double mean = loads_.MeanOf(copies);
    std::vector<int> poor;
    for (int i = 0; i < static_cast<int>(loads_.size()); ++i) {
      if (!loads_.server(i).draining && copies[i] < kLow * mean) poor.push_back(i);
    }
    if (poor.empty()) return;
    for (size_t i = 0; i < sets_.size(); ++i) {
      const ShardId shard = Spread(i);
      ShardReplicas& set = sets_[shard];
      const Incarnation giver = set.joining == 0 && set.successor == 0 ? Giver(set) : 0;
      const int from = giver == 0 ? -1 : loads_.Index(giver), primary = loads_.Index(set.primary);
      if (from < 0 || copies[from] <= mean || loads_.sources[primary] >= static_cast<int>(options_.fills_max)) continue;
      int best = -1;
      for (const int to : poor) {
        if (copies[to] >= kLow * mean || copies[from] - copies[to] < 2 || !MayJoin(set, shard, to)) continue;
        if (ZoneConflicts(set, loads_, loads_.server(to).zone, giver) >
            ZoneConflicts(set, loads_, loads_.server(from).zone, giver)) continue;
        if (best < 0 || copies[to] < copies[best]) best = to;
      }
      if (best < 0) continue;
      Join(&set, primary, best);
      ++copies[best];
      --copies[from];
    }
  }

  const ReplicationOptions& options_;
  ReplicaSets& sets_;
  PendingDrops* const drops_;
  Loads loads_;
  size_t target_ = 0;
  bool changed_ = false;
};

}  // namespace

ReplicaSets PlaceReplicas(uint32_t shards, std::span<const ReplicaServer> servers, uint32_t replicas) {
  TG_CHECK(!servers.empty()) << "no servers";
  const size_t n = servers.size();
  std::vector<Incarnation> order;
  for (const ReplicaServer& server : servers) order.push_back(server.incarnation);
  const std::vector<Incarnation> primary = PlaceShards(shards, order);
  ReplicaSets sets(shards);
  for (uint32_t shard = 0; shard < shards; ++shard) sets[shard].primary = primary[shard];
  const auto first = [&](size_t server) { return (server * shards + n - 1) / n; };  // of its range
  const double mean = std::max(1.0, static_cast<double>(shards) / static_cast<double>(n));
  std::vector<double> follows(n, 0);
  const size_t backups = std::min<size_t>(replicas, n) - std::min<size_t>(1, replicas);
  for (size_t i = 0; i < n; ++i) {
    const size_t begin_i = first(i), end_i = first(i + 1), middle = (begin_i + end_i + 1) / 2;
    for (const auto& [begin, end] : {std::pair(begin_i, middle), std::pair(middle, end_i)}) {
      std::vector<size_t> holders = {i};
      while (begin < end && holders.size() <= backups) {
        size_t best = n;
        double lowest = 0;
        for (size_t step = 1; step < n; ++step) {
          const size_t j = (i + step) % n;
          if (std::find(holders.begin(), holders.end(), j) != holders.end()) continue;
          double cost = follows[j] / mean;
          for (const size_t h : holders) {
            if (!servers[j].zone.empty() && servers[h].zone == servers[j].zone) cost += kZoneCost;
          }
          if (best < n && cost >= lowest) continue;
          best = j;
          lowest = cost;
        }
        holders.push_back(best);
        follows[best] += static_cast<double>(end - begin);
        for (size_t shard = begin; shard < end; ++shard) sets[shard].backups.push_back(order[best]);
      }
    }
  }
  return sets;
}

RemovalResult RemoveServers(const std::set<Incarnation>& dead, std::span<const ReplicaServer> servers, uint64_t probe,
                            ReplicaSets* sets) {
  RemovalResult result;
  Loads loads(servers, *sets);
  for (ShardId shard = 0; shard < sets->size(); ++shard) {
    ShardReplicas& set = (*sets)[shard];
    std::erase_if(set.backups, [&](Incarnation backup) { return dead.contains(backup); });
    if (dead.contains(set.joining)) set.joining = 0;
    if (dead.contains(set.successor)) set.successor = 0;
    if (!dead.contains(set.primary)) continue;
    Incarnation heir = 0;
    std::pair<int, int> best;
    for (Incarnation backup : set.backups) {
      const int i = loads.Index(backup);
      if (i < 0) continue;
      const ReplicaServer& server = loads.server(i);
      const std::pair cost(server.suspect * 4 + (server.seen_probe < probe) * 2 + server.draining, loads.primaries[i]);
      if (heir != 0 && cost >= best) continue;
      heir = backup;
      best = cost;
    }
    if (heir == 0) {
      result.lost.push_back(shard);
      continue;
    }
    ++loads.primaries[loads.Index(heir)];
    ++result.promoted;
    set = ShardReplicas();
    set.primary = heir;
  }
  return result;
}

bool TakeInSync(ShardId shard, Incarnation server, ReplicaSets* sets) {
  ShardReplicas& set = (*sets)[shard];
  if (server == 0 || set.joining != server) return false;
  set.joining = 0;
  set.backups.push_back(server);
  return true;
}

bool TakeDrained(ShardId shard, uint32_t replicas, ReplicaSets* sets) {
  ShardReplicas& set = (*sets)[shard];
  if (set.successor == 0) return false;
  std::erase(set.backups, set.successor);
  if (replicas > 1) set.backups.push_back(set.primary);
  set.primary = set.successor;
  set.successor = 0;
  set.handed_over = true;
  return true;
}

bool TakeOut(ShardId shard, Incarnation server, ReplicaSets* sets) {
  ShardReplicas& set = (*sets)[shard];
  if (server != 0 && set.joining == server) {
    set.joining = 0;
    return true;
  }
  if (std::erase(set.backups, server) == 0) return false;
  if (set.successor == server) set.successor = 0;
  return true;
}

bool PlanReplicas(std::span<const ReplicaServer> servers, const ReplicationOptions& options, ReplicaSets* sets,
                  PendingDrops* drops) {
  return Planner(servers, options, sets, drops).Run();
}

size_t CountDegraded(const ReplicaSets& sets, uint32_t replicas) {
  return static_cast<size_t>(std::count_if(sets.begin(), sets.end(),
                                           [&](const ShardReplicas& set) { return set.InSync() < replicas; }));
}

}  // namespace tidegate
