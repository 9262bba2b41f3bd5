// Jobs that lose the last copy of a shard, through the scheduler's core: stop, stand still for a command, or go on from a
// checkpoint.
#include <catch2/catch.hpp>

#include "tests/scheduler/cluster_harness.h"

namespace tidegate {
namespace {

HarnessOptions Losing(uint32_t servers, uint32_t replicas, ClusterConfig::OnDataLoss on_loss, TimeMs restore_wait_ms = 0) {
  HarnessOptions options;
  options.servers = servers;
  options.replicas = replicas;
  options.splits = 200;
  options.epochs = 1;
  options.fill_ms = 100'000;  // what died is not copied again in time
  options.adjust = [=](SchedulerOptions* o) {
    o->job.mutable_cluster()->set_on_data_loss(on_loss);
    o->job.mutable_train()->mutable_checkpoint()->set_every_clocks(20);
    o->restore_wait_ms = restore_wait_ms;
  };
  return options;
}

bool HasCheckpoint(const ClusterHarness& cluster) { return cluster.stored().checkpoints_size() > 0; }
GetStatusResponse StatusOf(ClusterHarness& cluster) { return cluster.core().Status(cluster.now()); }

void LoseAll(ClusterHarness* cluster, int servers) {
  for (int i = 0; i < servers; ++i) cluster->Kill(i);
}

// As `tidegate restore` does.
absl::Status AskForRestore(ClusterHarness* cluster) {
  const CallToken token = 1'000'000'000;
  for (const SchedulerReply& reply : cluster->core().Handle(cluster->now(), token, RestoreJobRequest()).replies) {
    if (reply.token == token) return reply.status;
  }
  return absl::UnknownError("no answer");
}

TEST_CASE("RESTORE: all copies of a shard die, the job goes on from its newest checkpoint and completes") {
  const uint32_t replicas = GENERATE(1u, 2u);
  HarnessOptions options = Losing(replicas, replicas, ClusterConfig::RESTORE);
  ClusterHarness cluster(options);
  REQUIRE(cluster.RunUntil([&] { return HasCheckpoint(cluster); }));
  const uint64_t generation = cluster.stored().generation();
  const Incarnation last = cluster.stored().last_incarnation();
  LoseAll(&cluster, static_cast<int>(replicas));
  REQUIRE(cluster.RunUntil([&] { return cluster.stored().generation() != generation; }));
  CHECK(cluster.stored().generation() > generation);
  CHECK(cluster.stored().phase() == STARTING);
  CHECK(cluster.stored().members().empty());
  CHECK(cluster.stored().restored_from() == cluster.stored().checkpoints().rbegin()->folder());
  CHECK(StatusOf(cluster).restores_total() == 1);
  CHECK(StatusOf(cluster).lost_shards().empty());
  CHECK(cluster.HasEvent("what was acknowledged there is lost") == (replicas == 2));
  CHECK(cluster.HasEvent("goes on from " + cluster.stored().restored_from()));
  for (int i = 0; i < static_cast<int>(replicas); ++i) cluster.Restart(i);
  REQUIRE(cluster.RunToEnd());
  INFO(cluster.stored().message());
  CHECK(cluster.stored().phase() == FINISHED);
  CHECK(cluster.stored().results(0).samples() == cluster.ExpectedSamples());
  for (const MemberRecord& record : cluster.stored().members()) CHECK(record.member().incarnation() > last);
}

TEST_CASE("RESTORE: a server that comes back before the old one is missed starts the restore, and takes part") {
  ClusterHarness cluster(Losing(1, 1, ClusterConfig::RESTORE));
  REQUIRE(cluster.RunUntil([&] { return HasCheckpoint(cluster); }));
  cluster.Kill(0);
  cluster.Restart(0);
  REQUIRE(cluster.RunToEnd());
  CHECK(cluster.stored().phase() == FINISHED);
  CHECK(StatusOf(cluster).restores_total() == 1);
}

TEST_CASE("RESTORE: the job begins with the servers and workers that are there, when the others do not come") {
  ClusterHarness cluster(Losing(3, 2, ClusterConfig::RESTORE));
  REQUIRE(cluster.RunUntil([&] { return HasCheckpoint(cluster); }));
  cluster.Kill(0);
  cluster.Kill(1);
  cluster.Kill(3);  // a worker
  REQUIRE(cluster.RunUntil([&] { return StatusOf(cluster).restores_total() == 1; }));
  if (GENERATE(false, true)) {
    cluster.CrashScheduler();
    cluster.RunFor(100);
    cluster.StartScheduler();
  }
  const TimeMs began = cluster.now();
  REQUIRE(cluster.RunToEnd());
  CHECK(cluster.stored().phase() == FINISHED);
  CHECK(cluster.stored().routing().servers_size() == 1);
  CHECK(cluster.now() - began >= 30'000);
}

TEST_CASE("RESTORE: after three restores without a new checkpoint the job fails and says so") {
  ClusterHarness cluster(Losing(1, 1, ClusterConfig::RESTORE));
  REQUIRE(cluster.RunUntil([&] { return HasCheckpoint(cluster); }));
  cluster.member(0).disk_full = true;
  for (uint64_t i = 1; i <= 3; ++i) {
    cluster.Kill(0);
    REQUIRE(cluster.RunUntil([&] { return StatusOf(cluster).restores_total() == i; }));
    if (i == 2) {  // the count is the job's, not the process's
      cluster.CrashScheduler();
      cluster.RunFor(100);
      cluster.StartScheduler();
      REQUIRE(cluster.RunUntil([&] { return StatusOf(cluster).restores_total() == i; }));
    }
    cluster.Restart(0);
    REQUIRE(cluster.RunUntil([&] { return cluster.stored().phase() == TRAINING; }));
  }
  cluster.Kill(0);
  REQUIRE(cluster.RunToEnd());
  CHECK(cluster.stored().phase() == FAILED);
  CHECK_THAT(cluster.stored().message(), Catch::Contains("3 times without a new complete checkpoint") &&
                                             Catch::Contains(cluster.stored().restored_from()));
}

TEST_CASE("RESTORE: a new checkpoint between them, and restores are counted anew") {
  ClusterHarness cluster(Losing(1, 1, ClusterConfig::RESTORE));
  REQUIRE(cluster.RunUntil([&] { return HasCheckpoint(cluster); }));
  for (uint64_t i = 1; i <= 5; ++i) {
    cluster.Kill(0);
    REQUIRE(cluster.RunUntil([&] { return StatusOf(cluster).restores_total() == i; }));
    cluster.Restart(0);
    REQUIRE(cluster.RunUntil([&] {
      return cluster.stored().phase() == TRAINING && ClusterState::RestoresInRow(cluster.stored()) == 0;
    }));
  }
  REQUIRE(cluster.RunToEnd());
  CHECK(cluster.stored().phase() == FINISHED);
}

TEST_CASE("RESTORE: without a complete checkpoint, or where they are gone, the job fails and says why") {
  HarnessOptions options = Losing(2, 2, ClusterConfig::RESTORE);
  SECTION("none was made") {
    options.checkpoints = false;
    options.splits = 5000;
    ClusterHarness cluster(options);
    REQUIRE(cluster.RunUntil([&] { return cluster.stored().phase() == TRAINING; }));
    LoseAll(&cluster, 2);
    REQUIRE(cluster.RunToEnd());
    CHECK(cluster.stored().phase() == FAILED);
    CHECK_THAT(cluster.stored().message(), Catch::Contains("no complete checkpoint to go on from"));
    CHECK(StatusOf(cluster).lost_shards_size() == 16);
  }
  SECTION("they are gone") {
    options.checkpoints_gone = true;
    ClusterHarness cluster(options);
    REQUIRE(cluster.RunUntil([&] { return HasCheckpoint(cluster); }));
    LoseAll(&cluster, 2);
    REQUIRE(cluster.RunToEnd());
    CHECK(cluster.stored().phase() == FAILED);
    CHECK_THAT(cluster.stored().message(), Catch::Contains("the job's checkpoints are gone from ckpt"));
  }
}

TEST_CASE("STOP: the job fails and says from which checkpoint and clock it resumes") {
  ClusterHarness cluster(Losing(2, 2, ClusterConfig::STOP));
  REQUIRE(cluster.RunUntil([&] { return HasCheckpoint(cluster); }));
  CHECK_THAT(std::string(AskForRestore(&cluster).message()), Catch::Contains("lost no shard"));
  LoseAll(&cluster, 2);
  REQUIRE(cluster.RunToEnd());
  CHECK(cluster.stored().phase() == FAILED);
  const CheckpointRecord& newest = *cluster.stored().checkpoints().rbegin();
  CHECK_THAT(cluster.stored().message(),
             Catch::Contains("resumes from " + newest.folder() + ", after clock " + std::to_string(newest.clock())));
  CHECK_THAT(std::string(AskForRestore(&cluster).message()), Catch::Contains("start it again"));
}

TEST_CASE("STOP with a wait: the job stands still, goes on by command, and fails when none comes") {
  ClusterHarness cluster(Losing(3, 2, ClusterConfig::STOP, 60'000));
  REQUIRE(cluster.RunUntil([&] { return HasCheckpoint(cluster); }));
  LoseAll(&cluster, 2);
  cluster.member(2).unreachable = {cluster.member(0).incarnation, cluster.member(1).incarnation};
  REQUIRE(cluster.RunUntil([&] { return StatusOf(cluster).lost_shards_size() > 0; }));
  cluster.RunFor(5000);
  CHECK(cluster.stored().phase() != FAILED);
  CHECK_THAT(StatusOf(cluster).message(), Catch::StartsWith("stands still"));
  SECTION("by command") {
    REQUIRE(AskForRestore(&cluster).ok());
    REQUIRE(cluster.core().WantsRestore());
    REQUIRE(cluster.RunUntil([&] { return StatusOf(cluster).restores_total() == 1; }));
    cluster.Restart(0);
    cluster.Restart(1);
    REQUIRE(cluster.RunToEnd());
    CHECK(cluster.stored().phase() == FINISHED);
  }
  SECTION("none comes") {
    REQUIRE(cluster.RunToEnd());
    CHECK(cluster.stored().phase() == FAILED);
    CHECK_THAT(cluster.stored().message(), Catch::Contains("start the job again; it resumes from"));
  }
}

TEST_CASE("a scheduler that is started again while the job stands still knows what is lost, and goes on by command") {
  const uint32_t replicas = GENERATE(1u, 2u);
  ClusterHarness cluster(Losing(replicas, replicas, ClusterConfig::STOP, 60'000));
  REQUIRE(cluster.RunUntil([&] { return HasCheckpoint(cluster) && cluster.stored().has_saving(); }));
  const uint64_t number = cluster.stored().saving().number();
  LoseAll(&cluster, static_cast<int>(replicas));
  REQUIRE(cluster.RunUntil([&] { return StatusOf(cluster).lost_shards_size() > 0; }));
  cluster.CrashScheduler();
  cluster.RunFor(100);
  cluster.StartScheduler();
  cluster.RunFor(5000);
  CHECK(StatusOf(cluster).lost_shards_size() == static_cast<int>(cluster.stored().routing().shards()));
  CHECK_THAT(StatusOf(cluster).message(), Catch::StartsWith("stands still"));
  for (const CheckpointRecord& record : cluster.stored().checkpoints()) CHECK(record.number() != number);
  REQUIRE(AskForRestore(&cluster).ok());
  REQUIRE(cluster.RunUntil([&] { return StatusOf(cluster).restores_total() == 1; }));
  for (int i = 0; i < static_cast<int>(replicas); ++i) cluster.Restart(i);
  REQUIRE(cluster.RunToEnd());
  CHECK(cluster.stored().phase() == FINISHED);
}

}  // namespace
}  // namespace tidegate
