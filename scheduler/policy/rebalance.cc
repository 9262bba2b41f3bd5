#include "scheduler/policy/rebalance.h"

#include <algorithm>

namespace tidegate {
namespace {

constexpr double kGainMin = .002;  // in means: less is not worth a move

class Balancer {
 public:
  Balancer(std::span<const ReplicaServer> servers, const ReplicaSets& sets, std::span<const double> rates, const RebalanceOptions& options)
      : servers_(servers), sets_(sets), rates_(rates), options_(options), loads_(servers.size()), copies_(servers.size()),
        stuck_(servers.size()), leader_(sets.size(), -1), resting_(sets.size()) {
    double total = 0;
    for (ShardId shard = 0; shard < sets.size(); ++shard) {
      const ShardReplicas& set = sets[shard];
      resting_[shard] = options.resting.contains(shard) || set.joining != 0 || set.successor != 0;
      for (const Incarnation backup : set.backups) CountCopy(backup);
      CountCopy(set.joining);
      CountCopy(set.primary);
      leader_[shard] = Index(set.primary);
      if (leader_[shard] < 0) continue;
      loads_[leader_[shard]] += rates[shard];
      total += rates[shard];
    }
    const auto staying = std::count_if(servers.begin(), servers.end(), [](const ReplicaServer& s) { return !s.draining; });
    mean_ = staying == 0 ? 0 : total / static_cast<double>(staying);
  }

  RebalancePlan Run() {
    RebalancePlan plan;
    if (mean_ <= 0) return plan;
    const int busiest = Busiest();
    plan.busiest = servers_[busiest].incarnation;
    plan.highest = loads_[busiest] / mean_;
    if (plan.highest <= (options_.begun ? options_.end : options_.begin)) return plan;
    bool needs_room = false;
    while (plan.moves.size() < options_.moves_max) {
      const int from = Busiest();
      if (from < 0 || loads_[from] <= (needs_room ? 1 : options_.end) * mean_) break;
      const Candidate best = BestOf(from);
      // What is only copied now relieves nobody yet: nothing is promoted on the strength of it.
      if (best.to < 0 || (best.promote && !plan.moves.empty() && !plan.moves.back().promote)) {
        stuck_[from] = true;
        // Those that could take from it have too much themselves.
        needs_room = needs_room || (loads_[from] > options_.begin * mean_ && Hottest(from).second <= mean_);
        continue;
      }
      plan.moves.push_back({best.shard, servers_[best.to].incarnation, best.promote});
      loads_[from] -= rates_[best.shard];
      loads_[best.to] += rates_[best.shard];
      leader_[best.shard] = best.to;
      resting_[best.shard] = true;
    }
    const auto [shard, rate] = Hottest(busiest);
    if (plan.moves.empty() && rate > mean_) plan.too_hot = shard;
    return plan;
  }

 private:
  struct Candidate {
    ShardId shard = 0;
    int to = -1;
    bool promote = false;
    bool fits = false;  // it makes nobody busy
    double after = 0;   // the higher load of the two
  };

  int Index(Incarnation server) const {
    const auto it = std::lower_bound(servers_.begin(), servers_.end(), server,
                                     [](const ReplicaServer& a, Incarnation b) { return a.incarnation < b; });
    return it == servers_.end() || it->incarnation != server ? -1 : static_cast<int>(it - servers_.begin());
  }
  void CountCopy(Incarnation server) {
    if (const int i = server == 0 ? -1 : Index(server); i >= 0) ++copies_[i];
  }
  // Of those that can still be relieved.
  int Busiest() const {
    int busiest = -1;
    for (int i = 0; i < static_cast<int>(loads_.size()); ++i) {
      if (!stuck_[i] && (busiest < 0 || loads_[i] > loads_[busiest])) busiest = i;
    }
    return busiest;
  }
  std::pair<ShardId, double> Hottest(int server) const {
    std::pair<ShardId, double> hottest;
    for (ShardId shard = 0; shard < sets_.size(); ++shard) {
      if (leader_[shard] == server && rates_[shard] > hottest.second) hottest = {shard, rates_[shard]};
    }
    return hottest;
  }
  bool MayTake(int server) const { return server >= 0 && !servers_[server].draining && !servers_[server].suspect; }

  void Consider(ShardId shard, int from, int to, bool promote, Candidate* best) const {
    const double after = std::max(loads_[from] - rates_[shard], loads_[to] + rates_[shard]);
    const bool fits = loads_[to] + rates_[shard] <= options_.end * mean_;
    if (after > loads_[from] - kGainMin * mean_) return;
    if (best->to < 0 || fits > best->fits || (fits == best->fits && after < best->after)) *best = {shard, to, promote, fits, after};
  }
  Candidate BestOf(int from) const {
    Candidate best;
    for (ShardId shard = 0; shard < sets_.size(); ++shard) {
      if (leader_[shard] != from || resting_[shard]) continue;
      for (const Incarnation backup : sets_[shard].backups) {
        if (const int to = Index(backup); MayTake(to)) Consider(shard, from, to, true, &best);
      }
    }
    if (best.to >= 0 && best.fits) return best;
    for (ShardId shard = 0; shard < sets_.size(); ++shard) {
      if (leader_[shard] != from || resting_[shard]) continue;
      for (int to = 0; to < static_cast<int>(servers_.size()); ++to) {
        if (MayTake(to) && MayJoin(shard, to)) Consider(shard, from, to, false, &best);
      }
    }
    return best;
  }
  // Once the copy is in sync the fullest of the other backups leaves: the zones are then no worse.
  bool MayJoin(ShardId shard, int to) const {
    const ShardReplicas& set = sets_[shard];
    const Incarnation server = servers_[to].incarnation;
    if (set.Holds(server) || options_.banned_copies.contains({shard, server}) || options_.banned_links.contains({set.primary, server})) return false;
    int leaves = -1;
    for (const Incarnation backup : set.backups) {
      const int i = Index(backup);
      if (i >= 0 && (leaves < 0 || copies_[i] > copies_[leaves])) leaves = i;
    }
    return leaves < 0 || Conflicts(set, to, leaves) <= Conflicts(set, leaves, leaves);
  }
  // Copies in the zone of `server`, without that of `leaves`.
  size_t Conflicts(const ShardReplicas& set, int server, int leaves) const {
    const std::string& zone = servers_[server].zone;
    if (zone.empty()) return 0;
    const auto is = [&](Incarnation holder) {
      const int i = Index(holder);
      return i >= 0 && i != leaves && servers_[i].zone == zone;
    };
    return static_cast<size_t>(std::count_if(set.backups.begin(), set.backups.end(), is)) + (is(set.primary) ? 1 : 0);
  }

  std::span<const ReplicaServer> servers_;
  const ReplicaSets& sets_;
  std::span<const double> rates_;
  const RebalanceOptions& options_;
  std::vector<double> loads_;
  std::vector<int> copies_;
  std::vector<char> stuck_;     // nothing takes a part of its load
  std::vector<int> leader_;     // by shard, as the moves leave it
  std::vector<char> resting_;
  double mean_ = 0;
};

}  // namespace

RebalancePlan PlanRebalance(std::span<const ReplicaServer> servers, const ReplicaSets& sets, std::span<const double> rates,
                            const RebalanceOptions& options) {
  if (servers.empty() || rates.size() != sets.size()) return {};
  return Balancer(servers, sets, rates, options).Run();
}

}  // namespace tidegate
