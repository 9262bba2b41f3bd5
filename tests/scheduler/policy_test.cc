// Tables of the stateless policies: what goes in, what comes out.
#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <map>

#include "scheduler/policy/checkpoint_policy.h"
#include "scheduler/policy/epoch_policy.h"
#include "scheduler/policy/placement.h"

namespace tidegate {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST_CASE("shards are spread within one of each other, in contiguous ranges") {
  for (uint32_t shards : {1u, 16u, 64u, 1024u}) {
    for (uint32_t n = 1; n <= 9; ++n) {
      std::vector<Incarnation> servers;
      for (uint32_t i = 0; i < n; ++i) servers.push_back(10 + 3 * i);
      const auto primary = PlaceShards(shards, servers);
      REQUIRE(primary.size() == shards);
      std::map<Incarnation, uint32_t> count;
      for (Incarnation server : primary) ++count[server];
      for (Incarnation server : servers) {
        CHECK(count[server] >= shards / n);
        CHECK(count[server] <= (shards + n - 1) / n);
      }
      CHECK(std::is_sorted(primary.begin(), primary.end()));
    }
  }
}

TEST_CASE("the number of shards is 64 per server as a power of two, or as configured") {
  CHECK(ChooseShardCount(0, 1) == 64);
  CHECK(ChooseShardCount(0, 2) == 128);
  CHECK(ChooseShardCount(0, 3) == 256);
  CHECK(ChooseShardCount(0, 5000) == 65536);
  CHECK(ChooseShardCount(32, 9) == 32);
}

TEST_CASE("better is higher for auc, lower for losses, nearer to one for calibration") {
  CHECK(IsBetter("valid/click/auc", .8, .7, 0));
  CHECK_FALSE(IsBetter("valid/click/auc", .7, .7, 0));
  CHECK_FALSE(IsBetter("valid/click/auc", .75, .7, .1));
  CHECK(IsBetter("valid/click/logloss", .3, .4, 0));
  CHECK_FALSE(IsBetter("valid/click/logloss", .39, .4, .1));
  CHECK(IsBetter("train/loss", .3, .4, 0));
  CHECK(IsBetter("valid/click/calibration", 1.05, .9, 0));
  CHECK_FALSE(IsBetter("valid/click/calibration", .8, 1.1, 0));
  CHECK_FALSE(IsBetter("valid/click/auc", kNan, .7, 0));
}

struct Run {
  TrainConfig train;
  SchedulerState state;
  EpochDecision decision;

  Run() {
    train.set_epochs(100);
    state.set_lr_scale(1);
  }
  // One more epoch with this metric; what was decided is taken over, as the scheduler does.
  const EpochDecision& Epoch(double auc) {
    EpochResult result;
    state.set_epoch(state.epoch() + 1);
    result.set_epoch(state.epoch());
    MetricValue* metric = result.add_metrics();
    metric->set_name("valid/click/auc");
    metric->set_value(auc);
    decision = DecideAfterEpoch(train, state, result);
    *state.mutable_plateau() = decision.plateau;
    *state.mutable_stop() = decision.stop;
    state.set_lr_scale(decision.lr_scale);
    if (decision.best) state.set_best_epoch(state.epoch());
    return decision;
  }
};

TEST_CASE("a plateau lowers the rate after `patience` epochs without a better metric, and again") {
  Run run;
  run.train.mutable_plateau()->set_patience(2);
  run.train.mutable_plateau()->set_factor(.1f);
  run.train.mutable_plateau()->set_min_scale(.005f);
  CHECK(run.Epoch(.7).lr_scale == 1);
  CHECK(run.Epoch(.7).lr_scale == 1);
  CHECK(run.Epoch(.6).lr_scale == .1f);
  CHECK(run.Epoch(.8).lr_scale == .1f);  // better: counts anew
  CHECK(run.Epoch(.7).lr_scale == .1f);
  CHECK(run.Epoch(.7).lr_scale == Approx(.01));
  run.Epoch(.7);
  CHECK(run.Epoch(.7).lr_scale == .005f);  // not below min_scale
  run.Epoch(.7);
  CHECK(run.Epoch(.7).lr_scale == .005f);
  CHECK(run.decision.reason.empty());
}

TEST_CASE("the epoch in which train.limit_steps is reached is the last, and saved") {
  Run run;
  run.train.set_limit_steps(40);
  run.state.set_max_clock(39);
  CHECK_FALSE(run.Epoch(.7).last);
  run.state.set_max_clock(40);
  CHECK(run.Epoch(.7).last);
  CHECK(run.decision.save);
  CHECK_THAT(run.decision.reason, Catch::Contains("train.limit_steps: 40"));
}

TEST_CASE("early stop ends after `patience` epochs without a better metric and keeps the best") {
  Run run;
  run.train.mutable_stop()->set_patience(2);
  CHECK(run.Epoch(.7).save);
  CHECK(run.decision.best);
  CHECK(run.Epoch(.75).save);
  CHECK_FALSE(run.Epoch(.75).save);
  CHECK_FALSE(run.decision.last);
  CHECK(run.Epoch(.74).last);
  CHECK(run.decision.save);  // where the job ended, beside the best
  CHECK_FALSE(run.decision.best);
  CHECK_THAT(run.decision.reason, Catch::Contains("early stop"));
  CHECK(run.state.best_epoch() == 2);
}

TEST_CASE("checkpoints are due by clocks or seconds, and never without something new") {
  CheckpointConfig config;
  CHECK_FALSE(IsCheckpointDue(config, 1'000'000, 1'000'000, 0));
  CHECK(ClocksToCheckpoint(config, 5, 0) == 0);
  config.set_every_clocks(10);
  CHECK_FALSE(IsCheckpointDue(config, 0, 19, 10));
  CHECK(IsCheckpointDue(config, 0, 20, 10));
  CHECK(ClocksToCheckpoint(config, 13, 10) == 7);
  CHECK(ClocksToCheckpoint(config, 20, 10) == 10);
  config.set_every_s(.5);
  CHECK_FALSE(IsCheckpointDue(config, 499, 11, 10));
  CHECK(IsCheckpointDue(config, 500, 11, 10));
  CHECK_FALSE(IsCheckpointDue(config, 500, 10, 10));
}

TEST_CASE("the newest checkpoints stay, and the best epoch's") {
  SchedulerState state;
  for (uint64_t number = 1; number <= 6; ++number) {
    CheckpointRecord* record = state.add_checkpoints();
    record->set_number(number);
    record->set_best(number == 1 || number == 3);
  }
  const auto superseded = [&](uint32_t keep) {
    std::vector<uint64_t> out;
    for (const CheckpointRecord& record : SupersededCheckpoints(state.checkpoints(), keep)) out.push_back(record.number());
    return out;
  };
  CHECK(superseded(2) == std::vector<uint64_t>{4, 2, 1});
  CHECK(superseded(1) == std::vector<uint64_t>{5, 4, 2, 1});
  CHECK(superseded(0) == superseded(1));
  CHECK(superseded(4) == std::vector<uint64_t>{2, 1});
  CHECK(superseded(6).empty());
  CHECK(superseded(100).empty());
}

TEST_CASE("what a checkpoint that stays builds on stays, however old, and nothing else of its chain") {
  SchedulerState state;
  const std::vector<uint64_t> bases = {0, 1, 2, 0, 4, 5, 6};  // of 1 to 7
  for (uint64_t number = 1; number <= bases.size(); ++number) {
    CheckpointRecord* record = state.add_checkpoints();
    record->set_number(number);
    record->set_base(bases[number - 1]);
    record->set_best(number == 2);
  }
  std::vector<uint64_t> out;
  for (const CheckpointRecord& record : SupersededCheckpoints(state.checkpoints(), 1)) out.push_back(record.number());
  CHECK(out == std::vector<uint64_t>{3});
  CHECK(ChainLength(state.checkpoints(), state.checkpoints(0)) == 1);
  CHECK(ChainLength(state.checkpoints(), state.checkpoints(2)) == 3);
  CHECK(ChainLength(state.checkpoints(), state.checkpoints(6)) == 4);
  state.mutable_checkpoints(1)->set_best(false);
  out.clear();
  for (const CheckpointRecord& record : SupersededCheckpoints(state.checkpoints(), 1)) out.push_back(record.number());
  CHECK(out == std::vector<uint64_t>{3, 2, 1});
}

TEST_CASE("keep LAST saves only the epoch that ends the job") {
  Run run;
  run.train.set_epochs(3);
  run.train.mutable_stop()->set_keep(EarlyStop::LAST);
  CHECK_FALSE(run.Epoch(.7).save);
  CHECK_FALSE(run.Epoch(.8).save);
  CHECK(run.Epoch(.6).save);
  CHECK(run.decision.last);
}

TEST_CASE("without a stop rule all epochs run and the last is saved") {
  Run run;
  run.train.set_epochs(4);
  for (double auc : {.9, .8, .7}) {
    CHECK_FALSE(run.Epoch(auc).last);
    CHECK_FALSE(run.decision.save);
  }
  CHECK(run.Epoch(.6).last);
  CHECK(run.decision.save);
  CHECK(run.state.best_epoch() == 1);
}

TEST_CASE("a metric that is never a number never is the best: the last epoch is saved, stop counts it") {
  Run run;
  run.train.mutable_stop()->set_patience(3);
  CHECK_FALSE(run.Epoch(kNan).last);
  CHECK_FALSE(run.Epoch(kNan).last);
  CHECK(run.Epoch(kNan).last);
  CHECK(run.decision.save);
  CHECK(run.decision.warning == "valid/click/auc of epoch 3 is not a number: the epoch counts as not better");
  CHECK(run.state.best_epoch() == 0);
  CHECK(run.Epoch(.5).warning.empty());
}

TEST_CASE("a monitor without its metric neither stops nor decays") {
  Run run;
  run.train.mutable_stop()->set_monitor("valid/other/auc");
  run.train.mutable_plateau()->set_monitor("valid/other/auc");
  for (int i = 0; i < 10; ++i) {
    CHECK_FALSE(run.Epoch(.5).last);
    CHECK(run.decision.lr_scale == 1);
  }
}

}  // namespace
}  // namespace tidegate
