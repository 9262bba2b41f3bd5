// drop_slowest: what is said of whose pushes of a clock count is the same, whoever says it (but for workers that are gone
// since), each worker is told of its own what all others are told, and what is dropped is applied in no shard.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/simulation/ledger.h"

namespace tidegate::simulation {
namespace {

class DropChecker final : public Checker {
 public:
  DropChecker(const Plan* plan, Report* report, Ledger* ledger) : Checker("drop", plan, report), ledger_(ledger) {}

  void OnGroupCall(const GroupCall& call) override {
    if (call.kind == GroupCall::kWorkers && call.workers->version() > workers_.version()) workers_ = *call.workers;
    if (call.kind != GroupCall::kAnnounce || call.effects->clocks.empty() || !call.effects->clocks[0].status.ok()) return;
    for (const wire::ClosedClock& closed : std::get<wire::ClockRequest>(call.call->request).closed) {
      const std::set<Incarnation> who(closed.contributors.begin(), closed.contributors.end());
      const std::set<Incarnation>& first = told_.try_emplace(closed.clock, who).first->second;
      std::set<Incarnation> other;
      std::set_symmetric_difference(who.begin(), who.end(), first.begin(), first.end(), std::inserter(other, other.end()));
      if (std::all_of(other.begin(), other.end(), [this](Incarnation worker) { return Gone(worker); })) continue;
      Fail(call.now, absl::StrCat("clock ", closed.clock, " is of workers ", absl::StrJoin(first, ","), ", and of ",
                                  absl::StrJoin(who, ",")));
    }
  }

  void OnPushAcknowledged(TimeMs now, Incarnation worker, uint64_t number) override { CheckOwn(now, worker, number, true); }
  void OnPushDropped(TimeMs now, Incarnation worker, uint64_t number) override {
    Ledger::Entry& entry = ledger_->pushes.at({worker, number});
    entry.dropped = true;
    if (!entry.applied.empty()) {
      Fail(now, absl::StrCat("worker ", worker, "'s push of clock ", entry.push.clock, " is dropped, and applied to ",
                             entry.applied.size(), " rows"));
    }
    CheckOwn(now, worker, number, false);
  }

 private:
  bool Gone(Incarnation worker) const {
    const auto& live = workers_.live();
    return worker <= workers_.last_incarnation() && std::find(live.begin(), live.end(), worker) == live.end();
  }

  void CheckOwn(TimeMs now, Incarnation worker, uint64_t number, bool counts) {
    const Clock clock = ledger_->pushes.at({worker, number}).push.clock;
    const auto told = told_.find(clock);
    if (told == told_.end() || told->second.contains(worker) == counts || Gone(worker)) return;
    Fail(now, absl::StrCat("worker ", worker, " is told that its push of clock ", clock, counts ? " counts" : " is dropped",
                           ", and others that it ", counts ? "does not" : "counts"));
  }

  Ledger* const ledger_;
  WorkerSet workers_;  // the newest that a server has
  std::map<Clock, std::set<Incarnation>> told_;
};

}  // namespace

std::unique_ptr<Checker> MakeDropChecker(const Plan* plan, Report* report, Ledger* ledger) {
  return std::make_unique<DropChecker>(plan, report, ledger);
}

}  // namespace tidegate::simulation
