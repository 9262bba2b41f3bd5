// Checkpoints while a job runs, and jobs that go on from one, through the scheduler's core.
#include <catch2/catch.hpp>

#include <set>

#include "absl/status/status.h"
#include "scheduler/checkpoint_resume.h"
#include "tests/scheduler/cluster_harness.h"

namespace tidegate {
namespace {

HarnessOptions Every(bool synchronous, uint64_t clocks) {
  HarnessOptions options;
  options.synchronous = synchronous;
  options.epochs = 2;
  options.adjust = [clocks](SchedulerOptions* o) {
    o->job.mutable_train()->mutable_checkpoint()->set_every_clocks(clocks);
    o->job.mutable_train()->mutable_checkpoint()->set_keep(2);
  };
  return options;
}

SchedulerOptions OptionsOf(const HarnessOptions& options) {
  SchedulerOptions out;
  out.job.set_name("harness");
  out.job.mutable_train()->set_epochs(options.epochs);
  out.job.mutable_cluster()->set_servers(options.servers);
  out.job.mutable_cluster()->set_workers(options.workers);
  out.job.mutable_cluster()->set_shards(16);
  out.job.mutable_model()->add_task()->set_name("click");
  out.config_fingerprint = 77;
  out.synchronous = options.synchronous;
  out.generation = 99;
  for (uint32_t i = 0; i < options.splits; ++i) {
    Split split;
    split.set_begin(i * 100);
    split.set_end(i * 100 + 100);
    out.train_splits.push_back(split);
  }
  if (options.adjust) options.adjust(&out);
  return out;
}

std::vector<StoredCheckpoint> Stored(const ManifestOrder& order) {
  return {{order.directory, order.manifest}};
}

void CheckComplete(ClusterHarness& cluster, uint32_t epochs) {
  INFO(cluster.stored().message());
  REQUIRE(cluster.stored().phase() == FINISHED);
  REQUIRE(cluster.stored().results_size() == static_cast<int>(epochs));
  for (const EpochResult& result : cluster.stored().results()) {
    CHECK(result.samples() == cluster.ExpectedSamples());
  }
}

TEST_CASE("at staleness 0 checkpoints come at their clock and say exactly the steps below it") {
  ClusterHarness cluster(Every(true, 70));
  REQUIRE(cluster.RunToEnd());
  CheckComplete(cluster, 2);
  std::set<Clock> clocks;
  for (const ManifestOrder& order : cluster.manifests()) {
    const JobProgress& progress = order.manifest.progress();
    const uint64_t before = (progress.epoch() - 1) * 100;
    if (progress.phase() == TRAINING) {
      CHECK(before + progress.current().next_step() == static_cast<uint64_t>(order.manifest.clock()) + 1);
      CHECK(progress.current().samples() == progress.current().next_step() * 60);
    }
    CHECK(progress.current().leases_size() == 0);
    clocks.insert(order.manifest.clock());
  }
  CHECK(clocks == std::set<Clock>{69, 139, 199});
  for (const Command& command : cluster.member(0).commands_done) {
    if (command.has_cut_shards() && command.cut_shards().clock() != kNoBound) {
      CHECK(clocks.contains(command.cut_shards().clock()));
    }
  }
}

TEST_CASE("the last checkpoints are kept, older ones removed") {
  ClusterHarness cluster(Every(true, 30));
  REQUIRE(cluster.RunToEnd());
  const size_t removed = cluster.manifests().size() - 2;
  REQUIRE(removed >= 3);
  REQUIRE(cluster.removed().size() == removed);
  for (size_t i = 0; i < removed; ++i) CHECK(cluster.removed()[i] == cluster.manifests()[i].directory);
  CHECK(cluster.stored().checkpoint() == cluster.manifests().back().directory);
}

TEST_CASE("no step is done between a cut and the servers' word that they know of it") {
  HarnessOptions options = Every(true, 20);
  options.delay_ms_max = 30;
  options.drop = .05;
  options.duplicate = .1;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    options.seed = seed;
    options.adjust = [](SchedulerOptions* o) {
      o->job.mutable_train()->mutable_checkpoint()->set_every_clocks(20);
      o->lease_ms = 20'000;
    };
    ClusterHarness cluster(options);
    bool held = true;
    cluster.before_call = [&](uint64_t) {
      if (!cluster.up()) return;
      const SchedulerState& state = cluster.core().Durable();
      if (state.has_saving() && !state.saving().cut() && state.phase() == TRAINING) {
        held = held && state.current().leases_size() == 0;
      }
    };
    REQUIRE(cluster.RunToEnd());
    CHECK(held);
    CheckComplete(cluster, 2);
  }
}

TEST_CASE("a checkpoint that fails leaves the earlier ones, and the job goes on") {
  const bool by_manifest = GENERATE(false, true);
  ClusterHarness cluster(Every(true, 30));
  cluster.RunUntil([&] { return cluster.stored().checkpoints_size() == 1; });
  const std::string first = cluster.stored().checkpoint();
  cluster.member(1).disk_full = !by_manifest;
  if (by_manifest) cluster.SetManifestStatus(absl::ResourceExhaustedError("no space left on device"));
  cluster.RunUntil([&] { return cluster.stored().checkpoint_failures() == 2; });
  CHECK(cluster.stored().checkpoint() == first);
  CHECK(cluster.removed().size() == 2);
  CHECK(std::find(cluster.removed().begin(), cluster.removed().end(), first) == cluster.removed().end());
  CHECK(cluster.HasEvent("no space left on device; the job goes on"));
  const CheckpointStatus status = cluster.core().Status(cluster.now()).checkpoints();
  CHECK(status.failures() == 2);
  CHECK(status.complete_number() == 1);
  CHECK(status.failed_number() == 3);
  cluster.member(1).disk_full = false;
  cluster.SetManifestStatus(absl::OkStatus());
  REQUIRE(cluster.RunToEnd());
  CheckComplete(cluster, 2);
}

TEST_CASE("a job whose last checkpoint cannot be made has no result: it fails and says why") {
  ClusterHarness cluster(HarnessOptions{});
  cluster.member(0).disk_full = true;
  REQUIRE(cluster.RunToEnd());
  CHECK(cluster.stored().phase() == FAILED);
  CHECK(cluster.stored().message().find("no space left") != std::string::npos);
}

TEST_CASE("a checkpoint by command is made at the next chance") {
  const bool synchronous = GENERATE(false, true);
  HarnessOptions options;
  options.synchronous = synchronous;
  ClusterHarness cluster(options);
  cluster.RunUntil([&] { return cluster.stored().phase() == TRAINING; });
  cluster.RunFor(100);
  const uint64_t number = cluster.AskForCheckpoint();
  CHECK(number == 1);
  CHECK(cluster.AskForCheckpoint() >= number);
  REQUIRE(cluster.RunUntil([&] { return cluster.stored().checkpoints_size() == 1; }, 5000));
  CHECK(cluster.manifests()[0].manifest.number() == number);
  CHECK(cluster.manifests()[0].manifest.progress().phase() == TRAINING);
  REQUIRE(cluster.RunToEnd());
  CheckComplete(cluster, 2);
  CHECK(cluster.AskForCheckpoint() == 0);  // the job has ended
}

TEST_CASE("a job that goes on from any of its checkpoints does the rest, and nothing twice") {
  const bool synchronous = GENERATE(false, true);
  HarnessOptions options = Every(synchronous, synchronous ? 30 : 4);
  ClusterHarness whole(options);
  REQUIRE(whole.RunToEnd());
  REQUIRE(whole.manifests().size() >= 3);
  for (const ManifestOrder& order : whole.manifests()) {
    CAPTURE(synchronous, order.directory);
    const auto state = ResumeFrom(Stored(order), OptionsOf(options));
    REQUIRE(state.ok());
    CHECK(state->generation() == 99);
    if (&order == &whole.manifests().back()) {
      CHECK(state->phase() == FINISHED);
      continue;
    }
    HarnessOptions again = options;
    again.resumed = *state;
    again.workers = 3;
    ClusterHarness cluster(again);
    REQUIRE(cluster.RunToEnd());
    CheckComplete(cluster, 2);
    const Command& open = cluster.member(0).commands_done[0];
    CHECK(open.open_tables().restore().directory() == order.directory);
    CHECK(open.open_tables().restore().clock() == order.manifest.clock());
    CHECK(cluster.stored().last_checkpoint() > order.manifest.number());
  }
}

TEST_CASE("the scheduler crashes while a checkpoint is made: the job and its checkpoints go on") {
  const bool synchronous = GENERATE(false, true);
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(synchronous, seed);
    HarnessOptions options = Every(synchronous, synchronous ? 20 : 3);
    options.seed = seed;
    ClusterHarness cluster(options);
    for (int i = 0; i < 3; ++i) {
      cluster.RunUntil([&] { return cluster.stored().has_saving() || cluster.stored().phase() == FINISHED; });
      cluster.RunFor(static_cast<TimeMs>(cluster.random().Below(20)));
      if (cluster.stored().phase() == FINISHED) break;
      cluster.CrashScheduler();
      cluster.RunFor(static_cast<TimeMs>(cluster.random().Below(500)));
      cluster.StartScheduler();
    }
    REQUIRE(cluster.RunToEnd());
    CheckComplete(cluster, 2);
  }
}

TEST_CASE("what a job may not resume from is refused, with the reason") {
  HarnessOptions options = Every(false, 4);
  ClusterHarness whole(options);
  REQUIRE(whole.RunToEnd());
  const ManifestOrder order = whole.manifests().front();
  const SchedulerOptions same = OptionsOf(options);
  const auto refusal = [&](const ManifestOrder& from, const SchedulerOptions& now) {
    const auto state = ResumeFrom(Stored(from), now);
    REQUIRE(!state.ok());
    CHECK(state.status().code() == absl::StatusCode::kFailedPrecondition);
    return std::string(state.status().message());
  };
  REQUIRE(ResumeFrom(Stored(order), same).ok());

  SchedulerOptions other = same;
  other.job.mutable_train()->set_global_batch(17);
  CHECK(refusal(order, other).find("train.global_batch") != std::string::npos);

  other = same;
  other.train_splits.pop_back();
  CHECK(refusal(order, other).find("had 1000 bytes, and has 900") != std::string::npos);
  other = same;
  for (Split& split : other.train_splits) split.set_file("elsewhere");
  CHECK(refusal(order, other).find("is gone") != std::string::npos);

  ManifestOrder old = order;
  old.manifest.clear_progress();
  CHECK(refusal(old, same).find("older version") != std::string::npos);
}

TEST_CASE("more epochs, other servers and workers are the same job; a finished one goes on for more epochs") {
  HarnessOptions options = Every(false, 4);
  ClusterHarness whole(options);
  REQUIRE(whole.RunToEnd());
  options.epochs = 4;
  options.servers = 3;
  options.resumed = *ResumeFrom(Stored(whole.manifests().back()), OptionsOf(options));
  CHECK(options.resumed.phase() != FINISHED);
  ClusterHarness cluster(options);
  REQUIRE(cluster.RunToEnd());
  CheckComplete(cluster, 4);
}

TEST_CASE("a job that train.limit_steps ended is finished") {
  HarnessOptions options = Every(true, 4);
  const auto adjust = options.adjust;
  options.adjust = [adjust](SchedulerOptions* o) {
    adjust(o);
    o->job.mutable_train()->set_limit_steps(6);
  };
  ClusterHarness whole(options);
  REQUIRE(whole.RunToEnd());
  REQUIRE(whole.stored().max_clock() == 6);
  REQUIRE(whole.manifests().size() >= 2);
  CHECK(ResumeFrom(Stored(whole.manifests().back()), OptionsOf(options))->phase() == FINISHED);
  CHECK(ResumeFrom(Stored(whole.manifests().front()), OptionsOf(options))->phase() != FINISHED);
}

HarnessOptions Incremental(uint32_t full_every, uint32_t keep) {
  HarnessOptions options;
  options.epochs = 1;
  options.splits = 300;
  options.adjust = [=](SchedulerOptions* o) {
    CheckpointConfig* checkpoint = o->job.mutable_train()->mutable_checkpoint();
    checkpoint->set_every_clocks(10);
    checkpoint->set_full_every(full_every);
    checkpoint->set_keep(keep);
  };
  return options;
}

TEST_CASE("every full_every-th checkpoint is full, the others build on the one before; the job's result is full") {
  ClusterHarness cluster(Incremental(3, 100));
  REQUIRE(cluster.RunToEnd());
  CheckComplete(cluster, 1);
  const auto& made = cluster.manifests();
  REQUIRE(made.size() > 7);
  for (size_t i = 0; i < made.size(); ++i) {
    INFO("checkpoint " << i);
    const CheckpointManifest& m = made[i].manifest;
    const bool full = i % 3 == 0 || i + 1 == made.size();
    CHECK(m.base() == (full ? 0 : made[i - 1].manifest.number()));
    CHECK(m.format() == (full ? 1 : 2));
    CHECK(m.base_folder() == (full ? "" : made[i - 1].directory.substr(5)));
    CHECK(cluster.stored().checkpoints(static_cast<int>(i)).base() == m.base());
  }
}

TEST_CASE("a checkpoint that is built on stays while it is") {
  ClusterHarness cluster(Incremental(4, 1));
  std::set<std::string> there;
  size_t made = 0, gone = 0;
  REQUIRE(cluster.RunUntil([&] {
    for (; gone < cluster.removed().size(); ++gone) there.erase(cluster.removed()[gone]);
    for (; made < cluster.manifests().size(); ++made) {
      const ManifestOrder& order = cluster.manifests()[made];
      there.insert(order.directory);
      if (order.manifest.base() != 0) CHECK(there.contains("ckpt/" + order.manifest.base_folder()));
    }
    CHECK(there.size() <= 5);
    return cluster.stored().phase() == FINISHED;
  }));
  CHECK(gone > 4);
}

TEST_CASE("after one that failed the next builds on the last complete one, and a resumed job begins with a full one") {
  HarnessOptions options = Incremental(100, 3);
  ClusterHarness cluster(options);
  REQUIRE(cluster.RunUntil([&] { return cluster.manifests().size() == 2; }));
  cluster.member(0).disk_full = true;
  REQUIRE(cluster.RunUntil([&] { return cluster.stored().checkpoint_failures() == 1; }));
  cluster.member(0).disk_full = false;
  REQUIRE(cluster.RunUntil([&] { return cluster.manifests().size() == 3; }));
  CHECK(cluster.manifests()[2].manifest.base() == cluster.manifests()[1].manifest.number());

  std::vector<StoredCheckpoint> stored;
  for (const ManifestOrder& order : cluster.manifests()) stored.push_back({order.directory, order.manifest});
  auto state = ResumeFrom(stored, OptionsOf(options));
  REQUIRE(state.ok());
  CHECK(state->checkpoints(2).base() == cluster.manifests()[1].manifest.number());
  options.resumed = *state;
  ClusterHarness resumed(options);
  REQUIRE(resumed.RunUntil([&] { return resumed.manifests().size() == 2; }));
  CHECK(resumed.manifests()[0].manifest.base() == 0);
  CHECK(resumed.manifests()[1].manifest.base() == resumed.manifests()[0].manifest.number());
}

}  // namespace
}  // namespace tidegate
