#include "tests/simulation/checker.h"
#include "tests/simulation/ledger.h"

namespace tidegate::simulation {
namespace {

// Owns the ledger; it is told last and says nothing.
class LedgerHolder final : public Checker {
 public:
  LedgerHolder(const Plan* plan, Report* report) : Checker("ledger", plan, report) {}
  Ledger ledger;
};

}  // namespace

void AddCheckers(const Plan* plan, Report* report, SimDisk* disk, Checkers* checkers) {
  auto holder = std::make_unique<LedgerHolder>(plan, report);
  Ledger* ledger = &holder->ledger;
  if (plan->replicated()) {
    checkers->Add(MakeReplicaChecker(plan, report, ledger));
    checkers->Add(MakeFailoverChecker(plan, report, ledger));
  } else {
    checkers->Add(MakeExactlyOnceChecker(plan, report, ledger));
  }
  if (plan->drop_slowest > 0) checkers->Add(MakeDropChecker(plan, report, ledger));
  checkers->Add(MakeStalenessChecker(plan, report, ledger));
  checkers->Add(MakeWorkChecker(plan, report, ledger, disk));
  checkers->Add(MakeCheckpointChecker(plan, report, ledger, disk));
  checkers->Add(MakeSchedulerChecker(plan, report));
  checkers->Add(MakeBoundsChecker(plan, report));
  checkers->Add(std::move(holder));
}

}  // namespace tidegate::simulation
