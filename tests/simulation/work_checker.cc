// Every row of every epoch is trained on: once a split or an epoch counts as done, a push with each of its rows
// has been acknowledged (with drop_slowest it may be dropped). Exactly once where no worker failed. Every row of the validation data is scored once in
// every epoch. The job ends as it should.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/simulation/ledger.h"
#include "tests/simulation/sim_disk.h"

namespace tidegate::simulation {
namespace {

class WorkChecker final : public Checker {
 public:
  WorkChecker(const Plan* plan, Report* report, Ledger* ledger, const SimDisk* disk)
      : Checker("work", plan, report), ledger_(ledger) {
    for (const auto& [epoch, row] : disk->began_done) {
      std::vector<uint32_t>& trained = trained_[epoch];
      trained.resize(plan->rows);
      trained[row] = 1;
    }
  }

  void OnPushAcknowledged(TimeMs now, Incarnation worker, uint64_t number) override {
    const PushIssued& push = ledger_->pushes.at({worker, number}).push;
    std::vector<uint32_t>& trained = trained_[push.epoch];
    trained.resize(plan_->rows);
    for (uint64_t row = push.rows.begin; row < push.rows.end; ++row) ++trained[row];
  }

  void OnPersist(TimeMs now, const SchedulerState& state) override {
    const bool drops = plan_->drop_slowest > 0;
    for (const MemberRecord& record : state.members()) {
      const bool worker = record.member().role() == WORKER;
      if (worker && record.state() == MemberRecord::DEAD) ledger_->workers_failed = true;
    }
    const uint32_t epoch = state.epoch();
    for (uint32_t split : state.current().done()) {
      if (!splits_done_.insert({epoch, split}).second) continue;
      const uint64_t begin = split * plan_->rows_per_split;
      CheckTrained(now, epoch, {begin, std::min(plan_->rows, begin + plan_->rows_per_split)},
                   absl::StrCat("split ", split));
    }
    for (; ended_ < state.results_size(); ++ended_) {
      const EpochResult& result = state.results(ended_);
      CheckTrained(now, result.epoch(), {0, plan_->rows}, "all");
      if (!ledger_->workers_failed && (drops ? result.samples() > plan_->rows : result.samples() != plan_->rows)) {
        Fail(now, absl::StrCat("epoch ", result.epoch(), " counts ", result.samples(), " samples of ",
                               plan_->rows, ", though no worker failed"));
      }
    }
    if (state.phase() != EVALUATING) CheckScored(now, state);
    phase_ = state.phase();
  }

  void OnEnd(TimeMs now) override {
    if (phase_ != FINISHED || ended_ != static_cast<int>(plan_->epochs)) {
      Fail(now, absl::StrCat("the job ends in phase ", Phase_Name(phase_), " after ", ended_, " of ",
                             plan_->epochs, " epochs"));
    }
  }

 private:
  // The metrics of an epoch are there once its evaluation has ended.
  void CheckScored(TimeMs now, const SchedulerState& state) {
    const uint64_t rows = std::min<uint64_t>(plan_->rows, plan_->valid_splits * plan_->rows_per_split);
    if (rows == 0 || state.phase() == FAILED) return;  // its last evaluation may have been cut short
    for (; evaluated_ < state.results_size(); ++evaluated_) {
      const EpochResult& result = state.results(evaluated_);
      const auto counted = std::find_if(result.metrics().begin(), result.metrics().end(),
                                        [](const MetricValue& m) { return m.name() == "valid/click/rows"; });
      const double scored = counted == result.metrics().end() ? 0 : counted->value();
      if (scored != static_cast<double>(rows)) {
        return Fail(now, absl::StrCat("epoch ", result.epoch(), " is evaluated on ", scored, " rows of ", rows));
      }
    }
  }

  void CheckTrained(TimeMs now, uint32_t epoch, RowRange rows, const std::string& what) {
    std::vector<uint32_t>& trained = trained_[epoch];
    trained.resize(plan_->rows);
    for (uint64_t row = rows.begin; row < rows.end; ++row) {
      if (trained[row] == 1 || (trained[row] > 1 && ledger_->workers_failed)) continue;
      if (trained[row] == 0 && plan_->drop_slowest > 0) continue;
      return Fail(now, absl::StrCat(what, " of epoch ", epoch, " is done, but row ", row, " was trained on ",
                                    trained[row], " times"));
    }
  }

  Ledger* const ledger_;
  std::map<uint32_t, std::vector<uint32_t>> trained_;  // epoch -> row -> acknowledged pushes
  std::set<std::pair<uint32_t, uint32_t>> splits_done_;
  int ended_ = 0;
  int evaluated_ = 0;
  Phase phase_ = STARTING;
};

}  // namespace

std::unique_ptr<Checker> MakeWorkChecker(const Plan* plan, Report* report, Ledger* ledger, const SimDisk* disk) {
  return std::make_unique<WorkChecker>(plan, report, ledger, disk);
}

}  // namespace tidegate::simulation
