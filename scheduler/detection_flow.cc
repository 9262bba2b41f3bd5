// Which members are dead, and which servers do not reach each other.
//
// A server is dead when it was silent for a lease; earlier, when another member says that it cannot be reached and
// it was silent for more than two heartbeats and a half; and when most workers have not reached it for a lease and
// others have all of its shards. Two servers that are heard, and of which one has not reached the other for half a
// lease, do not follow each other any more: an acknowledgement would wait for ever.
// Who has the last copy of a shard that is heard of is waited for much longer: calling it dead would lose what it
// has, and when everybody falls silent at once, it is the scheduler that hears nothing.
// And since who was heard a moment ago may be dead as well, nobody is called dead before, of each shard that it has, another copy's server
// has said that it lives: it has seen a probe that was sent since.
#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/cluster_state.h"

namespace tidegate {
namespace {

constexpr int kLinkBanLeases = 10;
constexpr int kLastCopyLeases = 10;  // for which a silent server is waited for

}  // namespace

bool ClusterState::LosesNothing(TimeMs now, Incarnation server) const {
  const RoutingTable& table = state_.routing();
  const int slots = static_cast<int>(table.backup_slots());
  std::map<Incarnation, bool> heard;
  const auto takes_over = [&](Incarnation backup) {
    if (backup == 0) return false;
    const auto [it, fresh] = heard.try_emplace(backup, false);
    if (fresh) it->second = !Suspected(now, backup);
    return it->second;
  };
  for (int shard = 0; shard < table.primary_size(); ++shard) {
    bool here = table.primary(shard) == server, elsewhere = !here && takes_over(table.primary(shard));
    for (int i = shard * slots; i < (shard + 1) * slots; ++i) {
      const Incarnation backup = table.backups(i);
      here = here || backup == server;
      elsewhere = elsewhere || (backup != server && takes_over(backup));
    }
    if (here && !elsewhere) return false;
  }
  return true;
}

bool ClusterState::WaitsForLastCopy(TimeMs now, const MemberRecord& record, SchedulerEffects* effects) {
  const Incarnation server = record.member().incarnation();
  const TimeMs silent = detector_.SilentMs(server, now);
  if (!Elastic() || record.member().role() != SERVER || silent > kLastCopyLeases * options_.lease_ms || LosesNothing(now, server)) return false;
  bool& told = soft_[server].last_copy_told;
  if (!std::exchange(told, true)) {
    Event(now, absl::StrCat(DescribeMember(record.member()), " is silent for ", silent, " ms, and no other copy that is heard of could take over: waiting for it, up to ",
                            kLastCopyLeases * options_.lease_ms / 1000, " s"),
          effects);
  }
  return true;
}

std::vector<ClusterState::Removal> ClusterState::FindDead(TimeMs now, SchedulerEffects* effects) {
  std::vector<Removal> dead;
  std::set<Incarnation> named;
  for (const auto& [member, removal] : going_) {
    named.insert(member);
    dead.push_back(removal);
  }
  for (const Incarnation member : detector_.Tick(now)) {
    const MemberRecord* record = membership_.FindActive(member);
    if (record == nullptr) {
      detector_.Forget(member);
      continue;
    }
    if (!named.insert(member).second || WaitsForLastCopy(now, *record, effects)) continue;
    dead.push_back({member, absl::StrCat("silent for ", detector_.SilentMs(member, now), " ms")});
  }
  const TimeMs interval = options_.heartbeat_interval_ms;
  for (auto it = unreachable_.begin(); it != unreachable_.end();) {
    auto& [server, by] = *it;
    const MemberRecord* record = membership_.FindActive(server);
    std::erase_if(by, [&](const auto& report) {
      return record == nullptr || now - report.second.last > kReportGapIntervals * interval || membership_.FindActive(report.first) == nullptr;
    });
    if (by.empty()) {
      it = unreachable_.erase(it);
      continue;
    }
    ++it;
    if (named.contains(server)) continue;
    const TimeMs silent = detector_.SilentMs(server, now);
    if (silent * 2 > interval * 5 && !WaitsForLastCopy(now, *record, effects)) {
      dead.push_back({server, absl::StrCat("silent for ", silent, " ms, and ",
                                           DescribeMember(membership_.FindActive(by.begin()->first)->member()),
                                           " does not reach it")});
      continue;
    }
    size_t workers = 0;
    for (const auto& [reporter, report] : by) {
      const bool long_since = now - report.first > options_.lease_ms;
      workers += long_since && membership_.FindActive(reporter)->member().role() == WORKER ? 1 : 0;
    }
    if (Elastic() && workers * 2 > membership_.CountActive(WORKER) && LosesNothing(now, server)) {
      dead.push_back({server, absl::StrCat(workers, " of ", membership_.CountActive(WORKER),
                                           " workers have not reached it for ", options_.lease_ms, " ms")});
    }
  }
  AwaitHeirs(now, &dead);
  return dead;
}

uint64_t ClusterState::Probe() {
  if (probe_ == probe_sent_) probe_ = std::max(probe_, state_.term() << 32) + 1;
  return probe_;
}

bool ClusterState::HasSeen(Incarnation server, uint64_t probe) const {
  const auto soft = soft_.find(server);
  return soft != soft_.end() && soft->second.seen_probe >= probe;
}

uint64_t ClusterState::OldestProbe() const {
  uint64_t oldest = doomed_.empty() ? 0 : heirs_probe_;
  const auto take = [&](const auto& probes) {
    for (const auto& [what, probe] : probes) oldest = oldest == 0 || (probe != 0 && probe < oldest) ? probe : oldest;
  };
  take(drops_);
  take(link_probes_);
  return oldest;
}

void ClusterState::AwaitHeirs(TimeMs now, std::vector<Removal>* dead) {
  const bool runs = Elastic() && !Ended() && !Stands() && state_.routing().epoch() != 0;
  std::set<Incarnation> servers;
  for (const Removal& removal : *dead) {
    if (runs && membership_.FindActive(removal.member)->member().role() == SERVER) servers.insert(removal.member);
  }
  const bool more = !std::includes(doomed_.begin(), doomed_.end(), servers.begin(), servers.end());
  doomed_ = std::move(servers);
  heirs_.clear();
  if (doomed_.empty()) return;
  if (more) {
    heirs_probe_ = Probe();
    doomed_at_ = now;
  }
  // Who hears nothing cannot answer, and may be heard.
  if (now - doomed_at_ > options_.lease_ms) return;
  std::set<Incarnation> early;
  for (const ShardReplicas& set : ReplicaSetsOf(state_.routing())) {
    std::vector<Incarnation> copies = set.backups;
    copies.push_back(set.primary);
    const auto others = std::partition(copies.begin(), copies.end(), [&](Incarnation copy) { return doomed_.contains(copy); });
    if (others == copies.begin()) continue;
    if (std::any_of(others, copies.end(), [&](Incarnation copy) { return HasSeen(copy, heirs_probe_); })) continue;
    if (others == copies.end()) continue;
    heirs_.insert(others, copies.end());
    early.insert(copies.begin(), others);
  }
  std::erase_if(*dead, [&](const Removal& removal) { return early.contains(removal.member); });
}

void ClusterState::CheckLinks(TimeMs now, SchedulerEffects* effects) {
  if (!Elastic() || Ended() || state_.routing().epoch() == 0) return;
  const size_t before = banned_links_.size();
  std::erase_if(banned_links_, [&](const auto& ban) {
    return now > ban.second || membership_.FindActive(ban.first.first) == nullptr ||
           membership_.FindActive(ban.first.second) == nullptr;
  });
  replan_ = replan_ || banned_links_.size() != before;
  std::map<std::pair<Incarnation, Incarnation>, uint64_t> probes;
  const auto reports = unreachable_;  // as of now: a new table drops those that it settles
  for (const auto& [follower, by] : reports) {
    for (const auto& [primary, report] : by) {
      const MemberRecord* record = membership_.FindActive(primary);
      if (membership_.FindActive(follower) == nullptr) break;
      if (record == nullptr || record->member().role() != SERVER) continue;  // it may be gone itself
      if (now - report.first < options_.lease_ms / 2) continue;
      // It may be dead itself, and then this is the copy that is left.
      if (Silent(now, primary)) continue;
      if (!banned_links_.contains({primary, follower})) {
        const auto probe = link_probes_.find({primary, follower});
        const uint64_t since = probe == link_probes_.end() ? Probe() : probe->second;
        if (!HasSeen(primary, since)) {
          probes[{primary, follower}] = since;
          continue;
        }
      }
      const auto [ban, fresh] = banned_links_.try_emplace({primary, follower}, 0);
      ban->second = now + kLinkBanLeases * options_.lease_ms;
      if (!fresh) continue;
      ReplicaSets sets = ReplicaSetsOf(state_.routing());
      size_t dropped = 0;
      for (ShardId shard = 0; shard < sets.size(); ++shard) {
        if (sets[shard].primary == primary && TakeOut(shard, follower, &sets)) ++dropped;
      }
      if (dropped == 0) continue;
      Event(now, absl::StrCat(DescribeMember(record->member()), " does not reach ",
                              DescribeMember(membership_.FindActive(follower)->member()), ", which followed ", dropped,
                              " of its shards: their copies are made elsewhere"),
            effects);
      settling_ = true;
      Publish(now, std::move(sets), effects);
    }
  }
  link_probes_ = std::move(probes);
}

}  // namespace tidegate
