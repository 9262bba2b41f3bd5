// How busy servers are, and what moves because of that. What is moved is policy (scheduler/policy/rebalance.h); here
// is when: while the job trains, everything is replicated and heard of, and the loads have been as they are for some seconds.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/counted.h"
#include "scheduler/cluster_state.h"
#include "scheduler/policy/rebalance.h"

namespace tidegate {
namespace {

constexpr TimeMs kLookMs = 1000;
constexpr int kLooksMin = 3;             // in a row that want something moved
constexpr TimeMs kRestMs = 60'000;       // of a shard that was moved
constexpr double kRowsPerSecondMin = 1000;  // of the job: below it nothing is busy
constexpr double kEndShare = .5;         // of what a server has above the mean when moves begin: moves end there

}  // namespace

void ClusterState::TakeShardLoads(TimeMs now, Incarnation server, ServerLoad* load) {
  if (load->has_shards()) shard_rates_.Take(now, server, load->shards(), state_.routing());
  load->clear_shards();
}

bool ClusterState::MayRebalance(TimeMs now) const {
  if (options_.rebalance_load <= 0 || !Elastic() || state_.phase() != TRAINING || settling_ || replan_) return false;
  const std::vector<ReplicaServer> servers = ReplicaServers(now);
  const bool quiet = std::none_of(servers.begin(), servers.end(), [](const ReplicaServer& s) { return s.draining || s.suspect; });
  return quiet && PlanOptions(now).may_promote && shard_rates_.Known(now, state_.routing()) &&
         shard_rates_.total() >= kRowsPerSecondMin;
}

void ClusterState::Rebalance(TimeMs now, SchedulerEffects* effects) {
  if (now - looked_at_ < kLookMs) return;
  looked_at_ = now;
  if (!MayRebalance(now)) {
    uneven_looks_ = 0;
    return;
  }
  const ReplicationOptions limits = PlanOptions(now);
  RebalanceOptions options;
  options.begin = options_.rebalance_load;
  options.end = 1 + (options_.rebalance_load - 1) * kEndShare;
  options.begun = rebalancing_;
  options.banned_copies = limits.banned_copies;
  options.banned_links = limits.banned_links;
  std::erase_if(moved_at_, [&](const auto& moved) { return now - moved.second >= kRestMs; });
  for (const auto& [shard, at] : moved_at_) options.resting.insert(shard);
  ReplicaSets sets = ReplicaSetsOf(state_.routing());
  const RebalancePlan plan = PlanRebalance(ReplicaServers(now), sets, shard_rates_.rates(), options);
  TellTooHot(now, plan, effects);
  if (plan.moves.empty()) {
    rebalancing_ = false;
    uneven_looks_ = 0;
    return;
  }
  if (++uneven_looks_ < kLooksMin) return;
  uneven_looks_ = 0;
  rebalancing_ = true;
  rebalanced_at_ = now;
  size_t promotions = 0;
  for (const LoadMove& move : plan.moves) {
    promotions += move.promote ? 1 : 0;
    if (move.promote) {
      sets[move.shard].successor = move.to;
      moved_at_[move.shard] = now;
    } else {
      sets[move.shard].joining = move.to;
    }
  }
  std::string what = promotions > 0 ? absl::StrCat(Counted(promotions, "shard"), " of the busiest servers go to their backups") : "";
  if (promotions < plan.moves.size()) {
    absl::StrAppend(&what, what.empty() ? "" : ", ", "copies of ", Counted(plan.moves.size() - promotions, "shard"), " are made elsewhere");
  }
  Event(now, absl::StrFormat("load: %s has %.2f times the mean of %.0f rows/s: %s",
                             DescribeMember(membership_.FindActive(plan.busiest)->member()), plan.highest,
                             shard_rates_.total() / static_cast<double>(membership_.CountActive(SERVER)), what),
        effects);
  settling_ = true;
  Publish(now, std::move(sets), effects);
}

void ClusterState::TellTooHot(TimeMs now, const RebalancePlan& plan, SchedulerEffects* effects) {
  if (!plan.too_hot || !told_too_hot_.insert(*plan.too_hot).second) return;
  Event(now, absl::StrFormat("load: shard %d alone has %.0f rows/s, more than a server's mean: no move makes %s less busy than that", *plan.too_hot,
                             shard_rates_.rates()[*plan.too_hot], DescribeMember(membership_.FindActive(plan.busiest)->member())),
        effects);
}

}  // namespace tidegate
