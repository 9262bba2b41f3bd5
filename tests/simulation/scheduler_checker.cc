// The scheduler over all its terms: nothing is told that is not stored; an epoch names one routing table; an
// incarnation names one process; nobody is declared dead who was heard of within a lease, counted from the
// newest of: a message that arrived, a start, the end of a pause.

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "tests/simulation/ledger.h"

namespace tidegate::simulation {
namespace {

constexpr TimeMs kSilentMs = 500;     // two heartbeat intervals and a half
constexpr TimeMs kReportGapMs = 650;  // three, and a tick

class SchedulerChecker final : public Checker {
 public:
  SchedulerChecker(const Plan* plan, Report* report) : Checker("scheduler", plan, report) {}

  void OnSchedulerStart(TimeMs now, uint64_t term) override { excused_ = ticked_ = now; }
  void OnSchedulerTick(TimeMs now) override {
    if (now - ticked_ > plan_->lease_ms / 2 + Drift(plan_->lease_ms)) excused_ = now;
    ticked_ = now;
  }
  void OnHeard(TimeMs now, Incarnation member) override { heard_[member] = now; }
  void OnHeartbeat(TimeMs now, const HeartbeatRequest& request) override {
    for (const Incarnation server : request.unreachable()) {
      Reports& reports = reports_[server].try_emplace(request.incarnation(), Reports{now, now}).first->second;
      if (now - reports.last > kReportGapMs) reports.first = now;
      reports.last = now;
    }
  }

  void OnJoin(TimeMs now, const JoinRequest& request) override {
    if (request.role() == SERVER) at_address_[request.address()].insert(request.nonce());
  }

  void OnPersist(TimeMs now, const SchedulerState& state) override {
    if (state.term() < stored_.term() || state.last_incarnation() < stored_.last_incarnation()) {
      Fail(now, "a stored term or incarnation goes back");
    }
    CheckRouting(now, state.routing());
    CheckPromotions(now, stored_.routing(), state.routing());
    for (const MemberRecord& record : state.members()) CheckMember(now, record, state);
    stored_ = state;
  }

  void OnReply(TimeMs now, const SchedulerReply& reply, Incarnation to) override {
    if (!reply.status.ok()) return;
    std::visit([&](const auto& response) { Check(now, response, to); }, reply.response);
  }

 private:
  // How much later a clock may say that so much time has passed, or sooner.
  TimeMs Drift(TimeMs time) const { return plan_->clock_drift_ppm_max == 0 ? 0 : 1 + time * plan_->clock_drift_ppm_max / 1'000'000; }

  template <typename Response>
  void Check(TimeMs now, const Response& response, Incarnation to) {
    if constexpr (!std::is_same_v<Response, std::monostate>) CheckTerm(now, response.term());
  }
  void Check(TimeMs now, const JoinResponse& response, Incarnation to) {
    CheckTerm(now, response.term());
    if (FindMember(response.incarnation()) == nullptr) {
      Fail(now, absl::StrCat("incarnation ", response.incarnation(), " is told, but not stored"));
    }
    if (!told_.insert({response.incarnation(), Nonce(response.incarnation())}).second) return;
    if (!incarnations_.insert(response.incarnation()).second) {
      Fail(now, absl::StrCat("incarnation ", response.incarnation(), " is given to two processes"));
    }
  }
  void Check(TimeMs now, const HeartbeatResponse& response, Incarnation to) {
    CheckTerm(now, response.term());
    // Servers may be told of the end later than workers.
    if (response.phase() >= FINISHED && response.phase() != stored_.phase() && !IsDrained(to)) {
      Fail(now, "the end of the job is told, but not stored");
    }
    if (response.has_routing()) {
      CheckRouting(now, response.routing());
      if (!Same(response.routing(), stored_.routing())) Fail(now, "a routing table is told that is not stored");
    }
    if (response.has_workers()) CheckWorkers(now, response.workers());
    for (const Command& command : response.commands()) {
      if (Same(command, stored_.command().command()) || Same(command, stored_.saving().command().command())) continue;
      Fail(now, "a command is sent that is not stored");
    }
  }
  void Check(TimeMs now, const AcquireWorkResponse& response, Incarnation to) {
    CheckTerm(now, response.term());
    if (response.has_finish() && stored_.phase() != FINISHED && stored_.phase() != FAILED) {
      Fail(now, "the end of the job is told, but not stored");
    }
    if (!response.has_work() || response.work().kind() == Work::EVAL) return;
    for (const LeaseRecord& lease : stored_.current().leases()) {
      if (lease.worker() == to && Same(lease.work(), response.work())) return;
    }
    Fail(now, absl::StrCat("lease ", response.work().lease(), " is given to worker ", to, ", but not stored"));
  }

  template <typename Message>
  static bool Same(const Message& a, const Message& b) {
    return a.SerializeAsString() == b.SerializeAsString();
  }

  void CheckTerm(TimeMs now, uint64_t term) {
    if (term != stored_.term()) Fail(now, absl::StrCat("term ", term, " is told, ", stored_.term(), " is stored"));
  }

  void CheckRouting(TimeMs now, const RoutingTable& table) {
    if (table.epoch() == 0) return;
    auto [known, added] = tables_.try_emplace(table.epoch(), table.SerializeAsString());
    if (known->second != table.SerializeAsString()) {
      Fail(now, absl::StrCat("two routing tables have epoch ", table.epoch()));
    }
  }

  void CheckWorkers(TimeMs now, const WorkerSet& workers) {
    std::set<Incarnation> live;
    for (const MemberRecord& record : stored_.members()) {
      if (record.member().role() == WORKER && record.state() == MemberRecord::ACTIVE) {
        live.insert(record.member().incarnation());
      }
    }
    if (workers.version() == stored_.worker_set_version() &&
        std::set<Incarnation>(workers.live().begin(), workers.live().end()) == live) {
      return;
    }
    Fail(now, absl::StrCat("worker set ", workers.version(), " is told, but not stored"));
  }

  // Only who was in sync becomes primary, under an epoch that no primary before had. (Several tables may be made
  // before the newest of them is stored.)
  void CheckPromotions(TimeMs now, const RoutingTable& before, const RoutingTable& after) {
    if (after.epoch() < before.epoch()) return Fail(now, "the stored routing goes back");
    if (before.epoch() == 0 || after.epoch() == before.epoch() || after.shard_epoch_size() == 0) return;
    const int slots = static_cast<int>(before.backup_slots());
    for (int shard = 0; shard < after.primary_size(); ++shard) {
      const uint64_t primary = after.primary(shard);
      const bool changed = primary != before.primary(shard);
      const bool newer = after.shard_epoch(shard) > before.epoch() && after.shard_epoch(shard) <= after.primary_epoch();
      if (changed ? !newer : after.shard_epoch(shard) < before.shard_epoch(shard)) {
        Fail(now, absl::StrCat("shard ", shard, " has epoch ", after.shard_epoch(shard), " in table ", after.epoch(),
                               ", and ", before.shard_epoch(shard), " in table ", before.epoch()));
      }
      const auto backups = before.backups().begin() + shard * slots;
      if (!changed || std::find(backups, backups + slots, primary) != backups + slots) continue;
      if (before.joining_size() > 0 && before.joining(shard) == primary) continue;  // was in sync between the two
      Fail(now, absl::StrCat("server ", primary, " becomes primary of shard ", shard, " in table ", after.epoch(),
                             ", but was not in sync"));
    }
  }

  void CheckMember(TimeMs now, const MemberRecord& record, const SchedulerState& state) {
    const Incarnation member = record.member().incarnation();
    auto [nonce, added] = nonces_.try_emplace(member, record.nonce());
    if (nonce->second != record.nonce()) Fail(now, absl::StrCat("incarnation ", member, " is given again"));
    if (added) heard_.try_emplace(member, now);
    if (record.state() != MemberRecord::DEAD || !dead_.insert(member).second) return;
    const TimeMs since = std::max(heard_[member], excused_);
    if (now - since > plan_->lease_ms - Drift(plan_->lease_ms)) return;
    if (plan_->replicated() && record.member().role() == SERVER) {
      if (now - since > kSilentMs - Drift(kSilentMs) && IsReported(now, member)) return;
      if (MostWorkersMiss(now, member, state)) return;
      const std::set<uint64_t>& processes = at_address_[record.member().address()];
      if (std::any_of(processes.begin(), processes.end(), [&](uint64_t other) { return other != record.nonce(); })) return;
    }
    Fail(now, absl::StrCat("member ", member, " is declared dead ", now - since,
                           " ms after it was heard of (or the scheduler came back); the lease is ",
                           plan_->lease_ms, " ms"));
  }

  struct Reports {
    TimeMs first, last;  // that a member does not reach a server, without a gap
  };

  bool IsReported(TimeMs now, Incarnation server) const {
    const auto by = reports_.find(server);
    return by != reports_.end() && std::any_of(by->second.begin(), by->second.end(), [&](const auto& report) {
      return now - report.second.last <= kReportGapMs;
    });
  }

  bool MostWorkersMiss(TimeMs now, Incarnation server, const SchedulerState& state) const {
    size_t workers = 0, missing = 0;
    const auto by = reports_.find(server);
    for (const MemberRecord& record : state.members()) {
      if (record.member().role() != WORKER || record.state() != MemberRecord::ACTIVE) continue;
      ++workers;
      if (by == reports_.end()) continue;
      const auto report = by->second.find(record.member().incarnation());
      if (report == by->second.end() || now - report->second.last > kReportGapMs) continue;
      missing += now - std::max(report->second.first, excused_) > plan_->lease_ms - Drift(plan_->lease_ms) ? 1 : 0;
    }
    return missing * 2 > workers;
  }

  const MemberRecord* FindMember(Incarnation member) const {
    for (const MemberRecord& record : stored_.members()) {
      if (record.member().incarnation() == member) return &record;
    }
    return nullptr;
  }
  // It may end, and no table names it.
  bool IsDrained(Incarnation member) const {
    const MemberRecord* record = FindMember(member);
    const auto& servers = stored_.routing().servers();
    return record != nullptr && record->draining() &&
           std::none_of(servers.begin(), servers.end(), [&](const Member& m) { return m.incarnation() == member; });
  }
  uint64_t Nonce(Incarnation member) const {
    const MemberRecord* record = FindMember(member);
    return record != nullptr ? record->nonce() : 0;
  }

  SchedulerState stored_;
  TimeMs excused_ = 0;
  TimeMs ticked_ = 0;
  std::map<Incarnation, TimeMs> heard_;
  std::map<Incarnation, uint64_t> nonces_;
  std::set<std::pair<Incarnation, uint64_t>> told_;
  std::set<Incarnation> incarnations_;
  std::set<Incarnation> dead_;
  std::map<Incarnation, std::map<Incarnation, Reports>> reports_;  // server, by whom
  std::map<uint64_t, std::string> tables_;
  std::map<std::string, std::set<uint64_t>> at_address_;  // nonces of servers that asked to join
};

}  // namespace

std::unique_ptr<Checker> MakeSchedulerChecker(const Plan* plan, Report* report) {
  return std::make_unique<SchedulerChecker>(plan, report);
}

}  // namespace tidegate::simulation
