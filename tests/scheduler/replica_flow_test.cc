// Jobs with replicas through the scheduler's core: servers die, come, go and do not reach each other.
#include <catch2/catch.hpp>

#include <algorithm>

#include "tests/scheduler/replica_cases.h"

namespace tidegate {
namespace {

TEST_CASE("a server dies, its backups take over, the copies are made again, and the job completes") {
  for (const bool synchronous : {false, true}) {
    HarnessOptions options = Replicated(3, 2);
    options.synchronous = synchronous;
    options.steps = 3000;
    ClusterHarness cluster(options);
    REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
    const RoutingTable before = cluster.stored().routing();
    CHECK(before.backup_slots() == 1);
    CHECK(before.primary_epoch() == 1);
    const Incarnation dead = cluster.member(1).incarnation;
    cluster.Kill(1);
    REQUIRE(cluster.RunUntil([&] { return cluster.stored().failovers() == 1; }));
    const RoutingTable after = cluster.stored().routing();
    CHECK(after.primary_epoch() > before.primary_epoch());
    CHECK(after.worker_set_version() == cluster.stored().worker_set_version());
    for (int s = 0; s < 16; ++s) {
      CHECK(after.primary(s) != dead);
      const bool changed = before.primary(s) == dead;
      CHECK(after.shard_epoch(s) == (changed ? after.primary_epoch() : 1));
      if (changed) CHECK(after.primary(s) == before.backups(s));
      if (changed) CHECK(after.backups(s) == 0);
    }
    REQUIRE(cluster.RunUntil([&] { return Settled(cluster); }));
    CHECK(cluster.HasEvent("led by their backups now"));
    CHECK(cluster.HasEvent("every shard has its 2 copies"));
    REQUIRE(cluster.RunToEnd());
    CHECK(cluster.stored().phase() == FINISHED);
    CHECK(cluster.stored().results(0).samples() == cluster.ExpectedSamples());
  }
}

TEST_CASE("status, and the event of a promotion, say what durability ASYNC may lose") {
  const std::string bound = "its death loses at most 4096 pushes of each of its strands";
  for (const bool async : {false, true}) {
    HarnessOptions options = Replicated(3, 2);
    if (async) options.adjust = [](SchedulerOptions* scheduler) { scheduler->job.mutable_cluster()->set_durability(ClusterConfig::ASYNC); };
    ClusterHarness cluster(options);
    REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
    CHECK((cluster.core().Status(cluster.now()).message().find(bound) != std::string::npos) == async);
    cluster.Kill(1);
    REQUIRE(cluster.RunUntil([&] { return cluster.stored().failovers() == 1; }));
    CHECK(cluster.HasEvent(bound) == async);
    REQUIRE(cluster.RunToEnd());
    CHECK(cluster.core().Status(cluster.now()).message().find(bound) == std::string::npos);
  }
}

TEST_CASE("a hundred kills, each once the last one's shards are replicated again, lose nothing") {
  HarnessOptions options = Replicated(3, 2);
  options.splits = 20'000;
  options.checkpoints = false;
  ClusterHarness cluster(options);
  for (int kill = 0; kill < 100; ++kill) {
    CAPTURE(kill);
    REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }, 60'000));
    const int victim = kill % 3;
    cluster.Kill(victim);
    cluster.RunFor(static_cast<TimeMs>(cluster.random().Below(6000)));
    const uint64_t before = cluster.stored().last_incarnation();
    cluster.Restart(victim);
    REQUIRE(cluster.RunUntil([&] { return cluster.stored().last_incarnation() > before; }));
    REQUIRE(cluster.stored().phase() != FAILED);
  }
  CHECK(cluster.stored().failovers() >= 90);
}

TEST_CASE("a process that comes back at its address is another one: the old one's shards go on elsewhere at once") {
  ClusterHarness cluster(Replicated(3, 2));
  REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
  cluster.RunFor(500);
  const Incarnation old = cluster.member(0).incarnation;
  cluster.Kill(0);
  const TimeMs at = cluster.now();
  cluster.Restart(0);
  REQUIRE(cluster.RunUntil([&] { return cluster.stored().failovers() == 1; }));
  CHECK(cluster.now() - at < 200);
  CHECK(cluster.HasEvent("another process joined with its address"));
  REQUIRE(cluster.RunUntil([&] { return Settled(cluster); }));
  CHECK(cluster.member(0).incarnation != old);
  CHECK(Holds(cluster, 0) > 0);
  REQUIRE(cluster.RunToEnd());
  CHECK(cluster.stored().phase() == FINISHED);
}

TEST_CASE("the last copy of a shard dies: the job fails and says which shards and which checkpoint") {
  HarnessOptions options = Replicated(3, 2);
  options.fill_ms = 100'000;
  ClusterHarness cluster(options);
  REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
  cluster.AskForCheckpoint();
  REQUIRE(cluster.RunUntil([&] { return !cluster.stored().checkpoint().empty(); }));
  cluster.Kill(0);
  REQUIRE(cluster.RunUntil([&] { return cluster.stored().failovers() == 1; }));
  cluster.Kill(1);
  REQUIRE(cluster.RunToEnd());
  CHECK(cluster.stored().phase() == FAILED);
  CHECK_THAT(cluster.stored().message(),
             Catch::Contains("the last copy in sync of") && Catch::Contains("of 16 shards (") &&
                 Catch::Contains("host:1") && Catch::Contains(cluster.stored().checkpoint()));
}

TEST_CASE("two servers of three die at once: with three copies nothing is lost") {
  ClusterHarness cluster(Replicated(3, 3));
  REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
  cluster.Kill(0);
  cluster.Kill(1);
  REQUIRE(cluster.RunUntil([&] { return cluster.stored().failovers() > 0; }));
  cluster.RunFor(1000);
  REQUIRE(Training(cluster));
  for (const uint64_t primary : cluster.stored().routing().primary()) CHECK(primary == cluster.member(2).incarnation);
  CHECK(cluster.HasEvent("degraded: 16 shards"));
  cluster.Restart(0);
  cluster.Restart(1);
  REQUIRE(cluster.RunUntil([&] { return Settled(cluster); }));
}

TEST_CASE("more copies than servers: degraded, said so, healed when another server joins") {
  ClusterHarness cluster(Replicated(1, 2));
  REQUIRE(cluster.RunUntil([&] { return Training(cluster); }));
  CHECK(cluster.HasEvent("degraded: cluster.replicas is 2"));
  CHECK(cluster.core().Status(cluster.now()).degraded_shards() == 16);
  const int second = cluster.AddServer();
  REQUIRE(cluster.RunUntil([&] { return Settled(cluster); }));
  CHECK(Holds(cluster, second) == 16);
  CHECK(cluster.HasEvent("every shard has its 2 copies in sync"));
  cluster.Kill(0);
  REQUIRE(cluster.RunToEnd());
  CHECK(cluster.stored().phase() == FINISHED);
}

TEST_CASE("a server that joins a running job gets its tables and rate, and takes primaries over") {
  HarnessOptions options = Replicated(2, 2);
  options.splits = 10'000;
  ClusterHarness cluster(options);
  REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
  JoinRequest join;
  join.set_role(SERVER);
  join.set_nonce(4711);
  join.set_address("host:99");
  join.set_zone("east");
  SchedulerEffects effects = cluster.core().Handle(cluster.now(), 1'000'000'000, join);
  const auto& response = std::get<JoinResponse>(effects.replies.at(0).response);
  CHECK(response.tables_size() == 1);
  CHECK(response.learning_rate_scale() == 1);
  CHECK(response.grant_ms() == 500);
  CHECK(cluster.core().Durable().members().rbegin()->member().zone() == "east");
  LeaveRequest leave;
  leave.set_incarnation(response.incarnation());
  CHECK(AnswerTo(cluster, leave).ok());
  const int third = cluster.AddServer();
  const int fourth = cluster.AddServer();
  REQUIRE(cluster.RunUntil([&] { return Holds(cluster, third) > 0 && Holds(cluster, fourth) > 0 && Settled(cluster); }));
  CHECK(Holds(cluster, third) >= 6);
  const Epoch primaries = cluster.stored().routing().primary_epoch();
  CHECK(primaries == 1);  // they are levelled once no server came or went for a while
  REQUIRE(cluster.RunUntil([&] { return cluster.stored().routing().primary_epoch() > primaries; }));
  REQUIRE(cluster.RunUntil([&] { return Settled(cluster); }));
  const GetStatusResponse status = cluster.core().Status(cluster.now());
  for (const MemberStatus& m : status.members()) {
    if (m.member().role() == SERVER && m.alive()) CHECK(m.shards() >= 2);
  }
}

TEST_CASE("a server that others do not reach is dead once it was silent for some heartbeats") {
  ClusterHarness cluster(Replicated(3, 2));
  REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
  const Incarnation victim = cluster.member(1).incarnation;
  const auto lives = [&] {
    const auto& members = cluster.stored().members();
    return std::any_of(members.begin(), members.end(), [&](const MemberRecord& m) {
      return m.member().incarnation() == victim && m.state() == MemberRecord::ACTIVE;
    });
  };
  SECTION("a report of a server that is heard changes nothing") {
    cluster.member(3).unreachable = {victim};
    cluster.RunFor(2000);
    CHECK(lives());
  }
  SECTION("within a second, far from the lease") {
    cluster.Kill(1);
    cluster.member(3).unreachable = {victim};
    const TimeMs at = cluster.now();
    REQUIRE(cluster.RunUntil([&] { return !lives(); }));
    CHECK(cluster.now() - at < 1000);
    CHECK(cluster.now() - at > 300);
    CHECK(cluster.HasEvent("does not reach it"));
    CHECK(cluster.stored().failovers() == 1);
  }
  SECTION("most workers do not reach it for a lease") {
    cluster.member(3).unreachable = cluster.member(4).unreachable = {victim};
    cluster.RunFor(2500);
    CHECK(lives());
    REQUIRE(cluster.RunUntil([&] { return !lives(); }));
    CHECK(cluster.HasEvent("workers have not reached it"));
  }
  SECTION("what the scheduler slept through is not time in which workers did not reach it") {
    cluster.member(3).unreachable = cluster.member(4).unreachable = {victim};
    cluster.RunFor(500);
    cluster.PauseScheduler(4000);
    cluster.RunFor(5500);
    CHECK(lives());
    cluster.RunFor(2500);
    CHECK_FALSE(lives());
  }
  SECTION("one that names itself or a worker is not believed") {
    cluster.Kill(1);
    cluster.member(1).unreachable = {victim};
    cluster.member(3).unreachable = {cluster.member(4).incarnation, 999};
    cluster.RunFor(1500);
    CHECK(lives());
  }
}

TEST_CASE("where only the link between a primary and its backup is cut, another server follows") {
  ClusterHarness cluster(Replicated(3, 2));
  REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
  const Incarnation a = cluster.member(0).incarnation, b = cluster.member(1).incarnation, c = cluster.member(2).incarnation;
  cluster.member(0).unreachable = {b};
  REQUIRE(cluster.RunUntil([&] { return cluster.HasEvent("does not reach"); }));
  cluster.RunFor(100);
  REQUIRE(cluster.RunUntil([&] { return cluster.core().Status(cluster.now()).degraded_shards() == 0; }));
  const RoutingTable& table = cluster.stored().routing();
  CHECK(cluster.stored().failovers() == 0);
  for (int s = 0; s < 16; ++s) {
    if (table.primary(s) == a) CHECK(table.backups(s) == c);
  }
}

TEST_CASE("two reports with the scheduler asleep in between are no cut link") {
  ClusterHarness cluster(Replicated(3, 2));
  REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
  const Epoch epoch = cluster.stored().routing().epoch();
  HeartbeatRequest beat;
  beat.set_incarnation(cluster.member(0).incarnation);
  beat.set_seen_term(1);
  beat.set_routing_epoch(epoch);
  beat.add_unreachable(cluster.member(1).incarnation);
  const TimeMs now = cluster.now() + 1;
  cluster.core().Handle(now, 1'000'000'000, beat);
  cluster.core().Handle(now + 2000, 1'000'000'001, beat);
  cluster.core().Tick(now + 2001);
  CHECK(cluster.core().Durable().routing().epoch() == epoch);
  for (int i = 0; i < 40; ++i) {
    beat.set_incarnation(cluster.member(i % 3).incarnation);
    beat.set_seen_probe(cluster.core().OldestProbe());
    cluster.core().Handle(now + 2001 + 50 * i, 1'000'000'002 + static_cast<CallToken>(i), beat);
    cluster.core().Tick(now + 2002 + 50 * i);
  }
  CHECK(cluster.core().Durable().routing().epoch() > epoch);
}

TEST_CASE("a server joins at another's address when the scheduler wakes: who takes over is heard first") {
  ClusterHarness cluster(Replicated(3, 2));
  REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
  JoinRequest join;
  join.set_role(SERVER);
  join.set_nonce(4711);
  join.set_address("host:1");
  const auto refusal = [&](TimeMs now) {
    const SchedulerEffects effects = cluster.core().Handle(now, 1'000'000'000, join);
    for (const SchedulerReply& reply : effects.replies) {
      if (reply.token == 1'000'000'000 && absl::IsUnavailable(reply.status)) return std::string(reply.status.message());
    }
    return std::string();
  };
  const TimeMs now = cluster.now();
  CHECK_THAT(refusal(now + 2000), Catch::Contains("does not know yet who lives"));
  cluster.core().Tick(now + 2000);
  CHECK_THAT(refusal(now + 2499), Catch::Contains("does not know yet who lives"));
  cluster.core().Tick(now + 2500);
  CHECK_THAT(refusal(now + 2500), Catch::Contains("are asked first"));
  HeartbeatRequest beat;
  beat.set_seen_term(1);
  beat.set_seen_probe(cluster.core().OldestProbe());
  for (int server : {0, 2}) {
    beat.set_incarnation(cluster.member(server).incarnation);
    cluster.core().Handle(now + 2501, 1'000'000'001, beat);
  }
  CHECK(refusal(now + 2502).empty());
}

TEST_CASE("what a primary that has died said of its backup takes the last copy from nobody") {
  ClusterHarness cluster(Replicated(3, 2));
  REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
  cluster.member(0).unreachable = {cluster.member(1).incarnation};
  cluster.RunFor(1000);
  cluster.Kill(0);
  REQUIRE(cluster.RunUntil([&] { return cluster.stored().failovers() == 1; }));
  CHECK_FALSE(cluster.HasEvent("their copies are made elsewhere"));
  REQUIRE(cluster.RunUntil([&] { return Settled(cluster); }));
}

TEST_CASE("a copy that diverged is taken out at once and filled anew, not before both ends know") {
  ClusterHarness cluster(Replicated(2, 2));
  REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
  const Incarnation backup = cluster.stored().routing().backups(3);
  const int server = cluster.member(0).incarnation == backup ? 0 : 1;
  cluster.member(server).refill = {3};
  REQUIRE(cluster.RunUntil([&] { return cluster.stored().routing().backups(3) == 0; }));
  const Epoch out = cluster.stored().routing().epoch();
  CHECK(cluster.stored().routing().joining(3) == 0);
  cluster.member(server).refill.clear();
  REQUIRE(cluster.RunUntil([&] { return Settled(cluster); }));
  CHECK(cluster.stored().routing().backups(3) == backup);
  CHECK(cluster.stored().joining_since(3) == 0);
  CHECK(cluster.stored().routing().epoch() >= out + 2);
  // A primary cannot say it of its own copy.
  const Incarnation primary = cluster.stored().routing().primary(3);
  const Epoch epoch = cluster.stored().routing().epoch();
  cluster.member(1 - server).refill = {3};
  cluster.RunFor(500);
  CHECK(cluster.stored().routing().epoch() == epoch);
  CHECK(cluster.stored().routing().primary(3) == primary);
}

TEST_CASE("in sync is believed of the fill that the table names, from the primary alone") {
  HarnessOptions options = Replicated(1, 2);
  options.fill_ms = 1'000'000;
  ClusterHarness cluster(options);
  REQUIRE(cluster.RunUntil([&] { return Training(cluster); }));
  cluster.AddServer();
  REQUIRE(cluster.RunUntil([&] { return cluster.stored().routing().joining(5) != 0; }));
  const RoutingTable table = cluster.stored().routing();
  const Epoch since = cluster.stored().joining_since(5);
  HeartbeatRequest beat;
  beat.set_incarnation(table.primary(5));
  beat.set_seen_term(1);
  InSync* report = beat.add_in_sync();
  report->set_shard(5);
  report->set_server(table.joining(5));
  report->set_epoch(since);
  SECTION("believed") {}
  SECTION("of an older fill") { report->set_epoch(since - 1); }
  SECTION("of another server") { report->set_server(table.primary(5)); }
  SECTION("by another server") { beat.set_incarnation(table.joining(5)); }
  cluster.core().Handle(cluster.now(), 1'000'000'000, beat);
  cluster.RunFor(200);
  const bool believed = report->epoch() == since && report->server() == table.joining(5) &&
                        beat.incarnation() == table.primary(5);
  CHECK(cluster.stored().routing().backups(5) == (believed ? table.joining(5) : 0));
}

TEST_CASE("a checkpoint under way when primaries change fails, and the next one is made") {
  HarnessOptions options = Replicated(3, 2);
  ClusterHarness cluster(options);
  REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
  SECTION("by command") {
    cluster.Kill(0);  // it will not answer
    const uint64_t number = cluster.AskForCheckpoint();
    REQUIRE(cluster.RunUntil([&] { return cluster.stored().checkpoint_failed() == number; }));
    CHECK_THAT(cluster.stored().checkpoint_error(), Catch::Contains("changed while it was made"));
    CHECK(cluster.HasEvent("the job goes on"));
    cluster.AskForCheckpoint();
    REQUIRE(cluster.RunUntil([&] { return !cluster.stored().checkpoint().empty(); }));
  }
  SECTION("the job's last: it is made again, in another folder") {
    REQUIRE(cluster.RunUntil([&] { return cluster.stored().phase() == SAVING; }));
    cluster.Kill(0);
  }
  REQUIRE(cluster.RunToEnd());
  CHECK(cluster.stored().phase() == FINISHED);
  CHECK(cluster.stored().failovers() == 1);
  CHECK(cluster.stored().checkpoints_size() > 0);
  for (const CheckpointRecord& record : cluster.stored().checkpoints()) {
    CHECK(std::count(cluster.removed().begin(), cluster.removed().end(), record.folder()) == 0);
  }
}

TEST_CASE("a scheduler that hears no server calls none of them dead, and the job goes on when it does") {
  ClusterHarness cluster(Replicated(3, 2));
  REQUIRE(cluster.RunUntil([&] { return Training(cluster) && Settled(cluster); }));
  const uint64_t epoch = cluster.stored().routing().epoch();
  for (int server : {0, 1, 2}) cluster.member(server).silent = true;
  cluster.RunFor(8 * 3000);
  CHECK(cluster.stored().phase() != FAILED);
  CHECK(cluster.stored().routing().epoch() == epoch);
  CHECK(cluster.HasEvent("no other copy that is heard of could take over"));
  SECTION("they come back") {
    for (int server : {0, 1, 2}) cluster.member(server).silent = false;
    REQUIRE(cluster.RunToEnd());
    CHECK(cluster.stored().phase() == FINISHED);
    CHECK(cluster.stored().failovers() == 0);
  }
  SECTION("one of them does: it takes over what it has, and the rest is lost in the end") {
    cluster.member(0).silent = false;
    cluster.RunFor(15'000);
    CHECK(cluster.stored().phase() == FAILED);
    CHECK_THAT(cluster.stored().message(), Catch::Contains("the last copy in sync of"));
  }
}

TEST_CASE("servers and schedulers die at random moments: the job completes, epochs rise, equal epochs are equal tables") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    HarnessOptions options = Replicated(3 + seed % 2, 2 + seed % 2);
    options.synchronous = seed % 3 == 0;
    options.steps = 4000;
    options.splits = 400;
    options.seed = seed;
    options.drop = seed % 4 == 0 ? .03 : 0;
    options.duplicate = .1;
    options.delay_ms_max = 10;
    if (seed % 2) options.adjust = [](SchedulerOptions* o) { o->table_bytes_per_call = 1; };
    ClusterHarness cluster(options);
    std::map<Epoch, std::string> tables;
    cluster.before_call = [&](uint64_t) {
      const RoutingTable& table = cluster.stored().routing();
      const std::string bytes = table.SerializeAsString();
      REQUIRE(tables.try_emplace(table.epoch(), bytes).first->second == bytes);
      REQUIRE(tables.rbegin()->first == table.epoch());
    };
    for (int fault = 0; fault < 6; ++fault) {
      const auto whole = [&] { return Settled(cluster) && Complete(cluster, options.servers); };
      if (!cluster.RunUntil([&] { return whole() || cluster.stored().phase() >= FINISHED; })) break;
      if (cluster.stored().phase() >= FINISHED) break;
      cluster.RunFor(static_cast<TimeMs>(cluster.random().Below(500)));
      if (!whole()) continue;
      const int victim = static_cast<int>(cluster.random().Below(options.servers));
      cluster.Kill(victim);
      if (cluster.random().Below(2) == 0) {
        cluster.CrashScheduler();
        cluster.At(cluster.now() + static_cast<TimeMs>(cluster.random().Below(4000)), [&] {
          if (!cluster.up()) cluster.StartScheduler();
        });
      }
      cluster.At(cluster.now() + static_cast<TimeMs>(cluster.random().Below(5000)), [&, victim] { cluster.Restart(victim); });
      cluster.RunFor(5000);
    }
    REQUIRE(cluster.RunToEnd());
    INFO(cluster.stored().message());
    REQUIRE(cluster.stored().phase() == FINISHED);
    CHECK(cluster.stored().results(0).samples() == cluster.ExpectedSamples());
  }
}

}  // namespace
}  // namespace tidegate
