// Who has copies of which shards while a job runs: what becomes of reports, deaths, joins and drains. What is
// done is policy (scheduler/policy/replication.h); here it is stored, published and told.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/counted.h"
#include "common/replica_limits.h"
#include "scheduler/cluster_state.h"
#include "scheduler/policy/placement.h"

namespace tidegate {
namespace {

constexpr TimeMs kReplanMs = 250;  // while something is left to do

bool SameServers(const RoutingTable& table, const std::vector<Member>& servers) {
  return std::equal(table.servers().begin(), table.servers().end(), servers.begin(), servers.end(),
                    [](const Member& a, const Member& b) { return a.incarnation() == b.incarnation(); });
}

}  // namespace

std::vector<ReplicaServer> ClusterState::ReplicaServers(TimeMs now) const {
  std::vector<ReplicaServer> servers;
  for (const MemberRecord& record : state_.members()) {
    if (record.member().role() != SERVER || record.state() != MemberRecord::ACTIVE) continue;
    servers.push_back({record.member().incarnation(), record.member().zone(), record.draining(),
                       Suspected(now, record.member().incarnation()), soft_.at(record.member().incarnation()).seen_probe});
  }
  return servers;
}

ReplicationOptions ClusterState::PlanOptions(TimeMs now) const {
  ReplicationOptions options;
  options.replicas = Replicas();
  // A checkpoint is of one set of primaries; and a scheduler that has just started does not know yet who lives.
  options.may_promote = !state_.has_saving() && (state_.term() == 1 || now - started_at_ > options_.lease_ms);
  options.may_drop = !detector_.Wakes(now, 2 * options_.heartbeat_interval_ms);
  options.may_level = MayLevel(now);
  for (const auto& [copy, epoch] : banned_copies_) options.banned_copies.insert(copy);
  for (const auto& [link, until] : banned_links_) options.banned_links.insert(link);
  return options;
}

void ClusterState::PlaceFirst(TimeMs now) {
  const std::vector<ReplicaServer> servers = ReplicaServers(now);
  std::vector<Member> members;
  for (const ReplicaServer& server : servers) members.push_back(membership_.FindActive(server.incarnation)->member());
  const uint32_t shards = ChooseShardCount(options_.job.cluster().shards(), static_cast<uint32_t>(servers.size()));
  *state_.mutable_routing() = NextTable(RoutingTable(), PlaceReplicas(shards, servers, Replicas()), members,
                                        Replicas() - 1, state_.worker_set_version());
}

void ClusterState::Publish(TimeMs now, ReplicaSets sets, SchedulerEffects* effects) {
  if (Stands()) return;
  const std::vector<ReplicaServer> servers = ReplicaServers(now);
  const ReplicationOptions options = PlanOptions(now);
  bool planned = false;
  if (state_.phase() != STARTING) {
    planned = PlanReplicas(servers, options, &sets, &drops_);
    for (auto& [shard, probe] : drops_) {
      if (probe == 0) probe = Probe();
    }
    replan_ = probe_seen_ = false;
    planned_at_ = now;
    levelled_ = options.may_level;
  }
  std::set<Incarnation> holders;
  bool filling = false;
  for (const ShardReplicas& set : sets) {
    holders.insert(set.primary);
    holders.insert(set.backups.begin(), set.backups.end());
    if (set.joining != 0) holders.insert(set.joining);
    filling = filling || set.joining != 0 || set.successor != 0;
  }
  std::vector<Member> members;
  size_t staying = 0;
  for (const ReplicaServer& server : servers) {
    staying += server.draining ? 0 : 1;
    if (server.draining && !holders.contains(server.incarnation)) continue;
    members.push_back(membership_.FindActive(server.incarnation)->member());
  }
  const bool all_heard = std::none_of(servers.begin(), servers.end(), [](const ReplicaServer& s) { return s.suspect; });
  const bool settles = planned || filling || !drops_.empty() || !options.may_promote || !options.may_drop || !all_heard || state_.phase() == STARTING ||
                       CountDegraded(sets, static_cast<uint32_t>(std::min<size_t>(Replicas(), staying))) > 0;
  if (settling_ && !settles) {
    const size_t degraded = CountDegraded(sets, Replicas());
    Event(now, degraded == 0
                   ? absl::StrCat("every shard has its ", Replicas(), " copies in sync")
                   : absl::StrCat("degraded: ", Counted(degraded, "shard"), " of ", sets.size(), " have fewer than ",
                                  Replicas(), " copies, until more servers join"),
          effects);
  }
  settling_ = settles;
  const RoutingTable& old = state_.routing();
  const ReplicaSets before = ReplicaSetsOf(old);
  if (before == sets && SameServers(old, members)) return;

  for (const Member& server : old.servers()) {
    const bool stays = std::any_of(members.begin(), members.end(),
                                   [&](const Member& m) { return m.incarnation() == server.incarnation(); });
    if (stays) continue;
    StopWaitingFor(server.incarnation(), state_.mutable_command());
    if (state_.has_saving()) StopWaitingFor(server.incarnation(), state_.mutable_saving()->mutable_command());
    const MemberRecord* record = membership_.FindActive(server.incarnation());
    if (record != nullptr) {
      Event(now, absl::StrCat(DescribeMember(server), " is drained: its shards are on other servers; it may end"), effects);
    }
  }
  RoutingTable next = NextTable(old, sets, members, Replicas() - 1, state_.worker_set_version());
  auto* since = state_.mutable_joining_since();
  since->Resize(static_cast<int>(sets.size()), 0);
  for (size_t shard = 0; shard < sets.size(); ++shard) {
    const ShardReplicas& a = before[shard];
    const ShardReplicas& b = sets[shard];
    if (a.successor != b.successor || a.primary != b.primary) successor_since_[static_cast<ShardId>(shard)] = next.epoch();
    if (a.joining == b.joining && a.primary == b.primary) continue;
    since->Set(static_cast<int>(shard), b.joining == 0 ? 0 : next.epoch());
  }
  *state_.mutable_routing() = std::move(next);
  effects->persist = true;
}

// --- deaths ---

void ClusterState::StopWaitingFor(Incarnation server, PendingCommand* pending) {
  auto* waiting = pending->mutable_waiting();
  const auto it = std::find(waiting->begin(), waiting->end(), server);
  if (it == waiting->end()) return;
  waiting->erase(it);
  pending->set_answered(waiting->empty());
}

std::string ClusterState::TailBound() const {
  if (options_.job.cluster().durability() != ClusterConfig::ASYNC) return "";
  return absl::StrCat("durability ASYNC: of what a server acknowledged last, its death loses at most ", kAsyncTailRecordsMax,
                      " pushes of each of its strands");
}

void ClusterState::TakeOver(TimeMs now, const std::vector<Removal>& gone, SchedulerEffects* effects) {
  servers_changed_at_ = now;
  if (Stands()) return;
  std::set<Incarnation> dead;
  for (const Removal& server : gone) dead.insert(server.member);
  ReplicaSets sets = ReplicaSetsOf(state_.routing());
  std::set<Incarnation> led;
  for (const ShardReplicas& set : sets) {
    if (dead.contains(set.primary)) led.insert(set.primary);
  }
  const RemovalResult result = RemoveServers(dead, ReplicaServers(now), heirs_probe_, &sets);
  if (!result.lost.empty()) {
    const Incarnation last = state_.routing().primary(static_cast<int>(result.lost[0]));
    const auto it = std::find_if(state_.members().begin(), state_.members().end(),
                                 [&](const MemberRecord& m) { return m.member().incarnation() == last; });
    return LoseShards(now, absl::StrCat(DescribeMember(it->member()), " at ", it->member().address(),
                                        it->state() == MemberRecord::LEFT ? " left " : " is dead "), result.lost, effects);
  }
  if (state_.has_saving() && result.promoted > 0) {
    const SavingRecord& saving = state_.saving();
    const auto& waiting = saving.command().waiting();
    const bool unwritten = std::any_of(waiting.begin(), waiting.end(), [&](Incarnation s) { return led.contains(s); });
    if (!saving.cut() || unwritten) {
      CheckpointFailed(now, absl::StrCat("the primaries of ", Counted(result.promoted, "shard"), " changed while it was made"),
                       effects, /*again=*/true);
    }
  }
  for (const Incarnation server : dead) {
    StopWaitingFor(server, state_.mutable_command());
    if (state_.has_saving()) StopWaitingFor(server, state_.mutable_saving()->mutable_command());
  }
  if (result.promoted > 0) {
    state_.set_failovers(state_.failovers() + led.size());
    Event(now, absl::StrCat(Counted(result.promoted, "shard"), " of ", sets.size(), " are led by their backups now",
                            TailBound().empty() ? "" : "; ", TailBound()), effects);
    settling_ = true;
  }
  Publish(now, std::move(sets), effects);
}

// --- reports ---

void ClusterState::NoteReplicaReports(TimeMs now, const HeartbeatRequest& request, const MemberRecord& member) {
  const Incarnation sender = member.member().incarnation();
  soft_[sender].routing_epoch = request.routing_epoch();
  for (const Incarnation server : request.unreachable()) {
    const MemberRecord* named = server == sender ? nullptr : membership_.FindActive(server);
    if (named == nullptr || named->member().role() != SERVER) continue;
    Reports& reports = unreachable_[server].try_emplace(sender, Reports{now, now}).first->second;
    if (now - reports.last > kReportGapIntervals * options_.heartbeat_interval_ms) reports.first = now;  // not all the time
    reports.last = now;
  }
  if (member.member().role() != SERVER || state_.routing().epoch() == 0) return;
  for (const InSync& report : request.in_sync()) {
    const int shard = static_cast<int>(report.shard());
    const RoutingTable& table = state_.routing();
    if (table.primary(shard) != sender || table.joining_size() == 0 || table.joining(shard) != report.server()) continue;
    if (report.epoch() < state_.joining_since(shard)) continue;  // of a fill that was given up since
    filled_.push_back({sender, report});
  }
  for (const uint32_t shard : request.refill()) refills_.emplace_back(shard, sender);
  for (const tidegate::Drained& report : request.drained()) {
    if (IsOfSuccession(report, sender)) drained_[report.shard()] = {sender, report};
  }
  // Those named together come to lead together, and at once.
  const auto& successors = state_.routing().successor();
  const auto named = std::count_if(successors.begin(), successors.end(), [](uint64_t server) { return server != 0; });
  replan_ = replan_ || (request.drained_size() > 0 && std::cmp_equal(drained_.size(), named));
}

bool ClusterState::IsOfSuccession(const tidegate::Drained& report, Incarnation sender) const {
  const int shard = static_cast<int>(report.shard());
  const RoutingTable& table = state_.routing();
  if (table.primary(shard) != sender || table.successor_size() == 0 || table.successor(shard) == 0) return false;
  const auto since = successor_since_.find(report.shard());
  return since != successor_since_.end() && report.epoch() >= since->second;
}

void ClusterState::TakeReplicaReports(TimeMs now, SchedulerEffects* effects, ReplicaSets* sets) {
  for (const Filled& filled : std::exchange(filled_, {})) {
    const ShardId shard = filled.report.shard();
    if ((*sets)[shard].primary != filled.primary) continue;
    if (filled.report.epoch() < state_.joining_since(static_cast<int>(shard))) continue;
    TakeInSync(shard, filled.report.server(), sets);
  }
  const bool may_promote = PlanOptions(now).may_promote;
  for (const auto& [shard, drained] : std::exchange(drained_, {})) {
    const bool wanted = may_promote && IsOfSuccession(drained.second, drained.first);
    if (wanted && !Suspected(now, (*sets)[shard].successor)) TakeDrained(shard, Replicas(), sets);
  }
  for (const auto& copy : std::exchange(refills_, {})) {
    if (!TakeOut(copy.first, copy.second, sets)) continue;
    banned_copies_[copy] = state_.routing().epoch() + 1;
    effects->persist = true;
  }
}

void ClusterState::AdvanceReplicas(TimeMs now, SchedulerEffects* effects) {
  if (!Elastic() || Ended() || Stands() || state_.routing().epoch() == 0 || state_.phase() == STARTING) return;
  const auto knows = [&](Incarnation server, Epoch epoch) {
    const auto soft = soft_.find(server);
    return membership_.FindActive(server) == nullptr || (soft != soft_.end() && soft->second.routing_epoch >= epoch);
  };
  for (auto it = banned_copies_.begin(); it != banned_copies_.end();) {
    const Incarnation primary = state_.routing().primary(static_cast<int>(it->first.first));
    const bool over = knows(it->first.second, it->second) && knows(primary, it->second);
    it = over ? banned_copies_.erase(it) : std::next(it);
    replan_ = replan_ || over;
  }
  // A checkpoint is of one set of primaries.
  const bool gives_up = state_.has_saving() && state_.routing().successor_size() > 0;
  replan_ = replan_ || gives_up || (!levelled_ && MayLevel(now));
  const bool reported = !filled_.empty() || !refills_.empty() || !drained_.empty() || (probe_seen_ && !drops_.empty());
  if (!replan_ && !reported && !(settling_ && now - planned_at_ >= kReplanMs)) return;
  ReplicaSets sets = ReplicaSetsOf(state_.routing());
  TakeReplicaReports(now, effects, &sets);
  Publish(now, std::move(sets), effects);
}

// --- draining ---

bool ClusterState::IsDrained(const MemberRecord& record) const {
  const auto& servers = state_.routing().servers();
  return record.draining() && state_.routing().epoch() != 0 &&
         std::none_of(servers.begin(), servers.end(),
                      [&](const Member& m) { return m.incarnation() == record.member().incarnation(); });
}

SchedulerEffects ClusterState::Handle(TimeMs now, CallToken token, const DrainRequest& request) {
  SchedulerEffects effects;
  CountTime(now);
  const auto refuse = [&](absl::Status status) {
    Refuse(token, std::move(status), &effects);
    return Finish(now, std::move(effects));
  };
  for (const MemberRecord& record : state_.members()) {
    // Asked again after its end: the first answer may have been lost.
    const bool drained = record.state() == MemberRecord::LEFT && record.draining() && record.member().role() == SERVER;
    if (!drained || absl::StrCat(record.member().incarnation()) != request.server()) continue;
    DrainResponse response;
    response.set_incarnation(record.member().incarnation());
    Reply(token, std::move(response), &effects);
    return Finish(now, std::move(effects));
  }
  MemberRecord* found = nullptr;
  size_t matches = 0, others = 0;
  for (MemberRecord& record : *state_.mutable_members()) {
    const Member& m = record.member();
    if (m.role() != SERVER || record.state() != MemberRecord::ACTIVE) continue;
    const std::string& name = request.server();
    if (!name.empty() && (m.address() == name || m.name() == name || absl::StrCat(m.incarnation()) == name)) {
      ++matches;
      found = &record;
    } else {
      others += record.draining() ? 0 : 1;
    }
  }
  if (matches != 1) {
    return refuse(absl::NotFoundError(absl::StrCat(
        matches == 0 ? "no server" : "more than one server", " of this job is named \"", request.server(),
        "\": give the number, the name or the address that `tidegate status` shows")));
  }
  if (Ended() || state_.routing().epoch() == 0) {
    return refuse(absl::FailedPreconditionError(Ended() ? "the job has ended" : "the job has not begun: stop the server"));
  }
  if (!Elastic()) {
    return refuse(absl::FailedPreconditionError("servers cannot leave a running job of one copy in this version"));
  }
  if (others == 0) {
    return refuse(absl::FailedPreconditionError(absl::StrCat(
        DescribeMember(found->member()), " is the last server that stays: no other one can take its shards; "
        "start another one first")));
  }
  DrainResponse response;
  response.set_incarnation(found->member().incarnation());
  if (found->restarting() != request.restart()) {
    found->set_restarting(request.restart());
    effects.persist = true;
  }
  if (!found->draining()) {
    found->set_draining(true);
    replan_ = settling_ = true;
    Event(now, absl::StrCat(DescribeMember(found->member()), request.restart() ? " is drained by command, to start again" : " is drained by command", ": its shards move to ",
                            Counted(others, "other server"),
                            others < Replicas() ? absl::StrCat(", fewer than cluster.replicas (", Replicas(), ")") : ""),
          &effects);
  }
  effects = Finish(now, std::move(effects));
  for (const ShardReplicas& set : ReplicaSetsOf(state_.routing())) {
    if (set.Holds(response.incarnation())) response.set_replicas(response.replicas() + 1);
  }
  Reply(token, std::move(response), &effects);
  return effects;
}

void ClusterState::FillReplicaStatus(GetStatusResponse* status) const {
  struct Counts {
    uint32_t shards = 0, backups = 0, filling = 0;
  };
  std::map<Incarnation, Counts> counts;
  const ReplicaSets sets = ReplicaSetsOf(state_.routing());
  for (const ShardReplicas& set : sets) {
    ++counts[set.primary].shards;
    for (const Incarnation backup : set.backups) ++counts[backup].backups;
    if (set.joining != 0) ++counts[set.joining].filling;
  }
  for (MemberStatus& member : *status->mutable_members()) {
    const auto it = counts.find(member.member().incarnation());
    if (it == counts.end()) continue;
    member.set_shards(it->second.shards);
    member.set_backups(it->second.backups);
    member.set_filling(it->second.filling);
  }
  status->set_replicas(Replicas());
  status->set_degraded_shards(static_cast<uint32_t>(std::max(CountDegraded(sets, Replicas()), lost_.size())));
  status->set_failovers_total(state_.failovers());
  status->mutable_lost_shards()->Assign(lost_.begin(), lost_.end());
  status->set_restores_total(state_.restores());
  status->set_settled(state_.routing().epoch() != 0 && !settling_ && (!replan_ || !Elastic()));
}

}  // namespace tidegate
