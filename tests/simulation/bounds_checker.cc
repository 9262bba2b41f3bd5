// What a server keeps is bounded: sessions by the workers that may still come, parked pulls and held pushes by
// the limits of each worker, and a push names no sequence beyond the window of its session.

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "tests/simulation/ledger.h"

namespace tidegate::simulation {
namespace {

constexpr size_t kParkedMax = 16;  // of one worker
constexpr size_t kPartsMax = 8;    // of these workloads

class BoundsChecker final : public Checker {
 public:
  BoundsChecker(const Plan* plan, Report* report) : Checker("bounds", plan, report) {}

  void OnGroupCall(const GroupCall& call) override {
    CheckWindow(call);
    if (plan_->replicated()) return;  // sessions come with records, and leave with others
    std::set<Incarnation>& known = known_[call.where()];
    if (call.kind == GroupCall::kWorkers) {
      const auto& live = call.workers->live();
      std::erase_if(known, [&](Incarnation w) {
        return w <= call.workers->last_incarnation() && std::find(live.begin(), live.end(), w) == live.end();
      });
    } else if (call.call != nullptr) {
      const auto refused = [&](const auto& dones) {
        return std::any_of(dones.begin(), dones.end(), [&](const auto& d) {
          return d.token == call.call->token && !d.status.ok();
        });
      };
      const ShardEffects& effects = *call.effects;
      if (!refused(effects.pushes) && !refused(effects.pulls) && !refused(effects.clocks)) {
        known.insert(WorkerOf(*call.call));
      }
    }
    Bound(call, "sessions", call.group->sessions(), known.size());
    Bound(call, "parked pulls", call.group->parked_pulls(), known.size() * kParkedMax);
    Bound(call, "held pushes", call.group->held_pushes(),
          known.size() * static_cast<size_t>(SyncAggregator::kMaxAhead) * kPartsMax);
  }

 private:
  void CheckWindow(const GroupCall& call) {
    if (call.kind != GroupCall::kPush) return;
    const auto& push = std::get<wire::PushRequest>(call.call->request);
    Bound(call, "sequences in flight", push.sequence - push.oldest_unacked, kSessionWindow - 1);
  }
  static Incarnation WorkerOf(const ServerCall& call) {
    return std::visit([](const auto& request) { return request.stamp.incarnation; }, call.request);
  }
  void Bound(const GroupCall& call, const char* what, uint64_t value, uint64_t bound) {
    if (value <= bound) return;
    Fail(call.now, absl::StrCat("server ", call.server, " strand ", call.strand, ": ", value, " ", what,
                                ", more than ", bound));
  }

  std::map<std::pair<int, int>, std::set<Incarnation>> known_;
};

}  // namespace

std::unique_ptr<Checker> MakeBoundsChecker(const Plan* plan, Report* report) {
  return std::make_unique<BoundsChecker>(plan, report);
}

}  // namespace tidegate::simulation
