// Whole jobs through the scheduler's core, with a network that misbehaves, crashes and restarts.
#include <catch2/catch.hpp>

#include <cmath>

#include "tests/scheduler/cluster_harness.h"

namespace tidegate {
namespace {

void CheckComplete(ClusterHarness& cluster, uint32_t epochs) {
  const SchedulerState& state = cluster.stored();
  INFO("phase " << state.phase() << " epoch " << state.epoch() << " at " << cluster.now() << " ms, "
                << state.message());
  REQUIRE(state.phase() == FINISHED);
  REQUIRE(state.results_size() == static_cast<int>(epochs));
  for (const EpochResult& result : state.results()) {
    CHECK(result.samples() == cluster.ExpectedSamples());
    CHECK(result.metrics(0).name() == "train/loss");
    CHECK(result.metrics(0).value() == Approx(0.5));
    CHECK(result.metrics(1).name() == "valid/click/auc");
    CHECK(result.metrics(1).value() == 1.0);
    CHECK(result.metrics(4).value() == 6.0);  // rows: each validation split once
  }
  for (size_t i = 0; i < cluster.member_count(); ++i) {
    const auto& m = cluster.member(static_cast<int>(i));
    if (!m.dead) CHECK(m.finished);
  }
}

TEST_CASE("a job with any number of workers does every split or step of every epoch once") {
  const bool synchronous = GENERATE(false, true);
  const uint32_t workers = GENERATE(1u, 2u, 3u);
  CAPTURE(synchronous, workers);
  HarnessOptions options;
  options.synchronous = synchronous;
  options.workers = workers;
  ClusterHarness cluster(options);
  REQUIRE(cluster.RunToEnd());
  CheckComplete(cluster, 2);
  REQUIRE(cluster.manifests().size() == 1);
  CHECK(cluster.manifests()[0].directory == "ckpt/epoch-00002");
  CHECK(cluster.manifests()[0].manifest.files_size() == static_cast<int>(cluster.stored().routing().shards()));
  CHECK(cluster.manifests()[0].manifest.epoch() == 2);
  CHECK(cluster.stored().checkpoint() == "ckpt/epoch-00002");
}

TEST_CASE("training data of another length than before fails the job") {
  const uint64_t steps_later = GENERATE(99u, 101u);
  HarnessOptions options;
  options.synchronous = true;
  options.workers = 2;
  options.steps_later = steps_later;
  ClusterHarness cluster(options);
  REQUIRE(cluster.RunToEnd());
  CHECK(cluster.stored().phase() == FAILED);
  CHECK_THAT(cluster.stored().message(),
             Catch::Contains("data.train has " + std::to_string(steps_later) + " steps in epoch 2, and had 100"));
}

TEST_CASE("train.limit_steps ends the job in the epoch in which a worker's clock reaches it") {
  const bool synchronous = GENERATE(false, true);
  const uint64_t limit = GENERATE(5u, 130u);
  CAPTURE(synchronous, limit);
  HarnessOptions options;
  options.synchronous = synchronous;
  options.epochs = 1000;
  options.adjust = [limit](SchedulerOptions* o) { o->job.mutable_train()->set_limit_steps(limit); };
  ClusterHarness cluster(options);
  REQUIRE(cluster.RunToEnd());
  const SchedulerState& state = cluster.stored();
  REQUIRE(state.phase() == FINISHED);
  CHECK(state.checkpoint() == "ckpt/epoch-" + std::string(state.epoch() < 10 ? "0000" : "000") + std::to_string(state.epoch()));
  CHECK(cluster.HasEvent("train.limit_steps"));
  uint64_t samples = 0;
  for (const EpochResult& result : state.results()) samples += result.samples();
  if (synchronous) {
    CHECK(samples == limit * options.samples_per_step);
    CHECK(state.epoch() == (limit + options.steps - 1) / options.steps);
  } else {
    CHECK(state.max_clock() >= static_cast<Clock>(limit));
    CHECK(state.max_clock() < static_cast<Clock>(limit) + 3);  // a split of the harness is 3 clocks
  }
}

TEST_CASE("servers open the tables once before anything else, and know the shards by then") {
  ClusterHarness cluster(HarnessOptions{});
  REQUIRE(cluster.RunToEnd());
  for (int server : {0, 1}) {
    const auto& m = cluster.member(server);
    REQUIRE(m.commands_done.size() == 3);
    CHECK(m.commands_done[0].has_open_tables());
    CHECK(m.commands_done[0].open_tables().tables(0).name() == "emb");
    CHECK(m.commands_done[1].has_cut_shards());
    CHECK(m.commands_done[2].has_write_checkpoint());
    CHECK(m.commands_done[1].cut_shards().number() == m.commands_done[2].write_checkpoint().number());
    CHECK(m.routing_epoch == 1);
  }
}

TEST_CASE("lost, late and doubled messages change nothing about a job's result") {
  const bool synchronous = GENERATE(false, true);
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(synchronous, seed);
    HarnessOptions options;
    options.synchronous = synchronous;
    options.workers = 1 + seed % 3;
    options.drop = .05;
    options.duplicate = .2;
    options.delay_ms_max = 40;
    options.seed = seed;
    options.adjust = [](SchedulerOptions* o) { o->lease_ms = 20'000; };
    ClusterHarness cluster(options);
    REQUIRE(cluster.RunToEnd());
    CheckComplete(cluster, 2);
  }
}

TEST_CASE("workers die, join late, and the scheduler crashes: the job completes, nothing is lost") {
  const bool synchronous = GENERATE(false, true);
  for (uint64_t seed = 1; seed <= 80; ++seed) {
    CAPTURE(synchronous, seed);
    HarnessOptions options;
    options.synchronous = synchronous;
    options.workers = 3;
    options.epochs = 3;
    options.drop = seed % 2 ? .03 : 0;
    options.duplicate = .1;
    options.delay_ms_max = 10;
    options.seed = seed;
    ClusterHarness cluster(options);
    Random& random = cluster.random();
    const TimeMs span = 2500;
    for (int worker : {2, 3}) {
      cluster.At(200 + static_cast<TimeMs>(random.Below(span)), [&, worker] { cluster.Kill(worker); });
    }
    cluster.At(static_cast<TimeMs>(random.Below(span)), [&] { cluster.AddWorker(); });
    for (int i = 0; i < 2; ++i) {
      cluster.At(static_cast<TimeMs>(random.Below(span)), [&] {
        if (!cluster.up()) return;
        cluster.CrashScheduler();
        cluster.At(cluster.now() + static_cast<TimeMs>(random.Below(5000)), [&] {
          if (!cluster.up()) cluster.StartScheduler();
        });
      });
    }
    REQUIRE(cluster.RunToEnd());
    CheckComplete(cluster, 3);
  }
}

TEST_CASE("a crash of the scheduler before any of its calls is survived") {
  const bool synchronous = GENERATE(false, true);
  HarnessOptions options;
  options.synchronous = synchronous;
  options.epochs = 2;
  options.splits = 4;
  options.steps = 20;
  ClusterHarness whole(options);
  REQUIRE(whole.RunToEnd());
  for (uint64_t at = 0; at < whole.calls(); ++at) {
    CAPTURE(synchronous, at);
    ClusterHarness cluster(options);
    cluster.before_call = [&](uint64_t call) {
      if (call != at) return;
      cluster.CrashScheduler();
      cluster.StartScheduler();
    };
    REQUIRE(cluster.RunToEnd());
    CheckComplete(cluster, 2);
    CHECK(cluster.stored().term() == 2);
    for (int server : {0, 1}) CHECK(cluster.member(server).commands_done.size() == 3);
  }
}

TEST_CASE("the scheduler may be gone for long: nobody is declared dead when it is back") {
  HarnessOptions options;
  options.splits = 60;
  ClusterHarness cluster(options);
  cluster.RunFor(600);
  cluster.CrashScheduler();
  cluster.RunFor(60'000);
  cluster.StartScheduler();
  REQUIRE(cluster.RunToEnd());
  CheckComplete(cluster, 2);
  CHECK_FALSE(cluster.HasEvent("is dead"));
  CHECK(cluster.HasEvent("term 2"));
}

TEST_CASE("a killed worker's work goes to others and servers hear of its removal") {
  const bool synchronous = GENERATE(false, true);
  HarnessOptions options;
  options.synchronous = synchronous;
  options.splits = 40;
  options.steps = 300;
  ClusterHarness cluster(options);
  cluster.RunUntil([&] { return cluster.member(2).work.has_value() && cluster.member(2).work->lease() % 1000 > 3; });
  const Incarnation killed = cluster.member(2).incarnation;
  cluster.Kill(2);
  REQUIRE(cluster.RunUntil([&] {
    const WorkerSet& set = cluster.member(0).workers;
    return set.last_incarnation() >= killed &&
           std::find(set.live().begin(), set.live().end(), killed) == set.live().end();
  }));
  REQUIRE(cluster.RunToEnd());
  CheckComplete(cluster, 2);
  CHECK(cluster.HasEvent("is dead: silent for"));
  CHECK(cluster.HasEvent("its work goes to others"));
}

TEST_CASE("without workers the job waits for a new one") {
  const bool synchronous = GENERATE(false, true);
  HarnessOptions options;
  options.synchronous = synchronous;
  ClusterHarness cluster(options);
  cluster.RunUntil([&] { return cluster.member(2).work.has_value(); });
  cluster.Kill(2);
  cluster.Kill(3);
  cluster.RunFor(20'000);
  CHECK(cluster.stored().phase() == TRAINING);
  CHECK(cluster.HasEvent("no workers are left"));
  cluster.AddWorker();
  REQUIRE(cluster.RunToEnd());
  CheckComplete(cluster, 2);
}

TEST_CASE("a late worker gets work while the epoch runs") {
  const bool synchronous = GENERATE(false, true);
  HarnessOptions options;
  options.synchronous = synchronous;
  options.splits = 60;
  options.steps = 400;
  options.epochs = 1;
  ClusterHarness cluster(options);
  cluster.RunFor(500);
  const int late = cluster.AddWorker();
  REQUIRE(cluster.RunToEnd());
  CheckComplete(cluster, 1);
  CHECK(cluster.member(late).samples > 0);
}

TEST_CASE("a dead server fails the job with a message that names it and its shards") {
  HarnessOptions options;
  options.splits = 60;
  ClusterHarness cluster(options);
  cluster.RunUntil([&] { return cluster.stored().phase() == TRAINING; });
  cluster.Kill(1);
  REQUIRE(cluster.RunToEnd());
  CHECK(cluster.stored().phase() == FAILED);
  CHECK_THAT(cluster.stored().message(), Catch::Contains("server") && Catch::Contains("host:1") &&
                                             Catch::Contains("8 of 16 shards"));
  CHECK(cluster.member(2).failed);
  CHECK(cluster.member(0).failed);
  CHECK_THAT(cluster.member(2).message, Catch::Contains("host:1"));
}

TEST_CASE("a server that dies before the shards are placed is replaced by another") {
  HarnessOptions options;
  options.workers = 0;
  ClusterHarness cluster(options);
  cluster.RunFor(200);
  cluster.Kill(1);
  cluster.RunFor(10'000);
  CHECK(cluster.stored().phase() == STARTING);
  cluster.AddServer();
  cluster.AddWorker();
  REQUIRE(cluster.RunToEnd());
  CheckComplete(cluster, 2);
}

TEST_CASE("a server that comes when the shards are placed is refused") {
  ClusterHarness cluster(HarnessOptions{});
  cluster.RunUntil([&] { return cluster.stored().phase() == TRAINING; });
  const int late = cluster.AddServer();
  REQUIRE(cluster.RunToEnd());
  CHECK(cluster.member(late).failed);
  CHECK_THAT(cluster.member(late).message, Catch::Contains("placed on 2 servers already"));
  CHECK(cluster.stored().phase() == FINISHED);
}

TEST_CASE("a hung worker at staleness N is reported once it has not advanced for the stall timeout") {
  HarnessOptions options;
  options.splits = 40;
  options.adjust = [](SchedulerOptions* o) { o->job.mutable_train()->set_stall_timeout_s(2); };
  ClusterHarness cluster(options);
  cluster.RunUntil([&] { return cluster.member(2).work.has_value(); });
  cluster.Hang(2);
  cluster.RunFor(10'000);
  CHECK(cluster.HasEvent("has not advanced for"));
  CHECK(cluster.stored().phase() == TRAINING);
  cluster.Kill(2);
  REQUIRE(cluster.RunToEnd());
  CHECK(cluster.stored().phase() == FINISHED);
}

TEST_CASE("early stop keeps the best checkpoint, a plateau lowers the rate on the servers") {
  HarnessOptions options;
  options.epochs = 9;
  options.adjust = [](SchedulerOptions* o) {
    auto* train = o->job.mutable_train();
    train->mutable_plateau()->set_patience(1);
    train->mutable_plateau()->set_factor(.5);
    train->mutable_stop()->set_patience(3);
  };
  ClusterHarness cluster(options);
  REQUIRE(cluster.RunToEnd());
  // The same AUC in every epoch: the first is the best, three more do not improve.
  CheckComplete(cluster, 4);
  CHECK(cluster.stored().best_epoch() == 1);
  CHECK(cluster.stored().checkpoint() == "ckpt/epoch-00001");
  CHECK(cluster.member(0).lr_scale == .25f);
  CHECK(cluster.stored().results(3).lr_scale() == .25f);
  CHECK(cluster.HasEvent("early stop: valid/click/auc"));
}

TEST_CASE("the metrics log gets every epoch and the windows of its training, with the rate in force") {
  for (bool synchronous : {false, true}) {
    HarnessOptions options;
    options.epochs = 3;
    options.synchronous = synchronous;
    options.splits = 40;
    options.adjust = [](SchedulerOptions* o) {
      o->progressive_window_ms = 100;
      Schedule* schedule = o->job.mutable_train()->mutable_schedule();
      schedule->set_kind(Schedule::STEP);
      schedule->set_every(7);
      schedule->set_factor(.5f);
      schedule->set_warmup_steps(10);
    };
    ClusterHarness cluster(options);
    REQUIRE(cluster.RunToEnd());
    std::vector<uint32_t> epochs;
    double seconds = 0;
    uint64_t samples = 0;
    Clock step = 0;
    size_t windows = 0;
    for (const MetricsRecord& record : cluster.metrics()) {
      CHECK(record.seconds >= seconds);
      CHECK(record.step >= step);
      CHECK(record.step > 0);
      const Clock after_warmup = record.step - 1 - 10;
      const double factor = after_warmup < 0 ? static_cast<float>(record.step) / 10
                                             : std::ldexp(1.0, -static_cast<int>(after_warmup / 7));
      CHECK(record.learning_rate_factor == factor);
      seconds = record.seconds;
      step = record.step;
      if (record.kind == "epoch") {
        CHECK(record.samples > samples);
        samples = record.samples;
        epochs.push_back(record.epoch);
        CHECK(record.values.at(0).name() == "train/loss");
        CHECK(record.values.at(1).name() == "valid/click/auc");
        continue;
      }
      ++windows;
      CHECK(record.kind == "progressive");
      CHECK(record.values.at(1).name() == "train/click/logloss");
      CHECK(record.values.at(1).value() == .5);
    }
    CHECK(epochs == std::vector<uint32_t>{1, 2, 3});
    CHECK(windows >= 3);
    CHECK(samples == 3 * cluster.ExpectedSamples());
    const GetStatusResponse status = cluster.core().Status(cluster.now());
    CHECK(status.clock() == step);
    REQUIRE(status.progressive_size() == 2);
    CHECK(status.progressive(1).value() == .5);
    for (const MemberStatus& member : status.members()) CHECK(member.worker_load().progressive().empty());
  }
}

TEST_CASE("a job without validation data ends with its last epoch saved") {
  HarnessOptions options;
  options.valid_splits = 0;
  ClusterHarness cluster(options);
  REQUIRE(cluster.RunToEnd());
  CHECK(cluster.stored().phase() == FINISHED);
  CHECK(cluster.stored().checkpoint() == "ckpt/epoch-00002");
  CHECK(cluster.stored().results(1).metrics_size() == 1);
}

TEST_CASE("everyone has left a finished job: the scheduler may exit") {
  ClusterHarness cluster(HarnessOptions{});
  REQUIRE(cluster.RunToEnd());
  REQUIRE(cluster.RunUntil([&] { return cluster.core().Drained(); }, 10'000));
}

}  // namespace
}  // namespace tidegate
