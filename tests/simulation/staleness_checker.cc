// The staleness contract, at each strand of each server: a pull with bound b is released when every live worker
// has ticked b, and not later than that; after that nothing of clock b or below is applied; a tick is counted
// when all of its worker's pushes up to it are in every shard; a worker sees its own acknowledged pushes.

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "tests/simulation/ledger.h"

namespace tidegate::simulation {
namespace {

class StalenessChecker final : public Checker {
 public:
  StalenessChecker(const Plan* plan, Report* report, const Ledger* ledger)
      : Checker("staleness", plan, report), ledger_(ledger) {}

  void OnGroupCall(const GroupCall& call) override {
    if (plan_->replicated()) return;  // the failover checker's
    Group& group = groups_[call.where()];
    for (const auto& [worker, clock] : ledger_->applied_now) {
      if (clock > group.released_bound) continue;
      Fail(call.now, absl::StrCat("server ", call.server, " strand ", call.strand, " applied clock ", clock,
                                  " of worker ", worker, " after it released a pull with bound ",
                                  group.released_bound));
    }
    if (plan_->synchronous && plan_->drop_slowest == 0) CheckContributors(call, group);
    FollowClocks(call, &group);
    FollowPulls(call, &group);
  }

  void OnPullIssued(TimeMs now, const PulledRows& pull) override {
    if (pull.eval) return;
    uint64_t& seen = acknowledged_at_[{pull.worker, pull.issue}];
    seen = OwnPushes(pull.worker, true);
  }

  void OnPullDone(TimeMs now, const PulledRows& pull) override {
    const auto issued = acknowledged_at_.find({pull.worker, pull.issue});
    if (issued == acknowledged_at_.end()) return;
    const uint64_t at_least = issued->second;
    acknowledged_at_.erase(issued);
    const auto keys = pull.keys.find(kSparse);
    if (plan_->synchronous || keys == pull.keys.end()) return;
    const auto own = std::find(keys->second.begin(), keys->second.end(), OwnKey(*plan_, pull.worker));
    if (own == keys->second.end()) return;
    const float seen = pull.rows.at(kSparse)[static_cast<size_t>(own - keys->second.begin()) * kSparseWidth];
    if (seen >= static_cast<float>(at_least) && seen <= static_cast<float>(OwnPushes(pull.worker, false))) return;
    Fail(now, absl::StrCat("worker ", pull.worker, "'s pull of clock ", pull.clock, " shows ", seen,
                           " of its own pushes, ", at_least, " were acknowledged before"));
  }

 private:
  struct Live {
    bool live = false;
    Clock clock = -1;
    uint64_t order = 0;  // of its newest announcement, + 1
  };
  struct Parked {
    Incarnation worker;
    Clock bound;
    bool waits;  // a worker's TRAIN pull
  };
  struct Group {
    std::map<Incarnation, Live> workers;
    std::map<CallToken, Parked> pulls;  // not answered
    Clock released_bound = std::numeric_limits<Clock>::min();
  };

  uint64_t OwnPushes(Incarnation worker, bool acknowledged) const {
    uint64_t count = 0;
    auto it = ledger_->pushes.lower_bound({worker, 0});
    for (; it != ledger_->pushes.end() && it->first.first == worker; ++it) {
      count += it->second.push.rows.size() > 0 && (it->second.acknowledged || !acknowledged) ? 1 : 0;
    }
    return count;
  }

  static bool Gone(const WorkerSet& workers, Incarnation worker) {
    const auto& live = workers.live();
    return worker <= workers.last_incarnation() && std::find(live.begin(), live.end(), worker) == live.end();
  }

  // Staleness 0: every live worker has ended the clock that is applied.
  void CheckContributors(const GroupCall& call, const Group& group) {
    const auto of_group = ledger_->contributors.find(call.where());
    for (Clock c = call.released_before + 1; c <= call.group->released_clock(); ++c) {
      for (const auto& [worker, state] : group.workers) {
        if (!state.live || state.clock >= c || of_group->second.at(c).contains(worker)) continue;
        if (call.kind == GroupCall::kWorkers && Gone(*call.workers, worker)) continue;
        if (call.kind != GroupCall::kPush && call.kind != GroupCall::kWorkers) continue;  // it may park, or tick
        Fail(call.now, absl::StrCat("server ", call.server, " applied clock ", c, " without live worker ", worker));
      }
    }
  }

  void FollowClocks(const GroupCall& call, Group* group) {
    if (call.kind == GroupCall::kWorkers) {
      std::erase_if(group->workers, [&](const auto& w) { return Gone(*call.workers, w.first); });
    } else if (call.kind == GroupCall::kJoinAt) {
      const auto it = group->workers.find(call.joiner);
      if (it == group->workers.end() || it->second.order != call.order + 1) return;
      it->second.clock = std::max(it->second.clock, call.clock);
    } else if (call.kind == GroupCall::kAnnounce) {
      const auto& request = std::get<wire::ClockRequest>(call.call->request);
      const Incarnation worker = request.stamp.incarnation;
      if (call.effects->clocks.empty() || !call.effects->clocks[0].status.ok()) return;
      Live& state = group->workers[worker];
      if (request.order + 1 <= state.order) return;
      state.order = request.order + 1;
      switch (request.kind) {
        case wire::ClockRequest::Kind::kHello:
          state.live = true;
          state.clock = call.effects->clocks[0].min_clock;
          break;
        case wire::ClockRequest::Kind::kTick:
          CheckTick(call.now, worker, request.clock);
          state.clock = std::max(state.clock, request.clock);
          break;
        case wire::ClockRequest::Kind::kPark:
          state.live = false;
          break;
      }
    }
  }

  void CheckTick(TimeMs now, Incarnation worker, Clock clock) {
    auto it = ledger_->pushes.lower_bound({worker, 0});
    for (; it != ledger_->pushes.end() && it->first.first == worker; ++it) {
      if (it->second.push.clock > clock || it->second.dropped || it->second.applied.size() == it->second.push.gradients.size()) continue;
      Fail(now, absl::StrCat("worker ", worker, "'s tick ", clock, " is counted while its push of clock ",
                             it->second.push.clock, " is not in every shard"));
    }
  }

  void FollowPulls(const GroupCall& call, Group* group) {
    if (call.kind == GroupCall::kPull) {
      const auto& pull = std::get<wire::PullRequest>(call.call->request);
      group->pulls[call.call->token] = {pull.stamp.incarnation, pull.bound,
                                        !pull.eval && pull.stamp.incarnation != 0};
    }
    if (call.kind == GroupCall::kCancel) group->pulls.erase(call.call->token);
    for (const PullDone& done : call.effects->pulls) {
      const auto pull = group->pulls.extract(done.token);
      if (pull.empty() || !done.status.ok() || !pull.mapped().waits) continue;
      CheckRelease(call, *group, pull.mapped());
      group->released_bound = std::max(group->released_bound, pull.mapped().bound);
    }
    for (const auto& [token, pull] : group->pulls) {
      if (pull.waits && pull.bound > call.group->released_clock()) continue;
      Fail(call.now, absl::StrCat("server ", call.server, " keeps a pull of worker ", pull.worker, " with bound ",
                                  pull.bound, " though clock ", call.group->released_clock(), " is released"));
    }
  }

  void CheckRelease(const GroupCall& call, const Group& group, const Parked& pull) {
    if (pull.bound == kNoBound) return;
    if (plan_->synchronous) {
      if (pull.bound <= call.group->released_clock()) return;
      return Fail(call.now, absl::StrCat("a pull with bound ", pull.bound, " is released at clock ",
                                         call.group->released_clock()));
    }
    for (const auto& [worker, state] : group.workers) {
      if (!state.live || state.clock >= pull.bound) continue;
      Fail(call.now, absl::StrCat("server ", call.server, " strand ", call.strand, " released a pull of worker ",
                                  pull.worker, " with bound ", pull.bound, " while worker ", worker,
                                  " is at clock ", state.clock));
    }
  }

  const Ledger* const ledger_;
  std::map<std::pair<int, int>, Group> groups_;
  std::map<std::pair<Incarnation, uint64_t>, uint64_t> acknowledged_at_;
};

}  // namespace

std::unique_ptr<Checker> MakeStalenessChecker(const Plan* plan, Report* report, const Ledger* ledger) {
  return std::make_unique<StalenessChecker>(plan, report, ledger);
}

}  // namespace tidegate::simulation
