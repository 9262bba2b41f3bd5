#include "scheduler/request_check.h"

#include <catch2/catch.hpp>
#include <functional>
#include <limits>
#include <string>

#include "common/clock_limit.h"
#include "scheduler/cluster_state.h"

namespace tidegate {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool BeatPasses(Role role, const std::function<void(HeartbeatRequest*)>& change) {
  HeartbeatRequest request;
  request.set_incarnation(3);
  change(&request);
  const absl::Status status = CheckHeartbeat(request, role, 8);
  if (!status.ok()) CHECK(absl::IsInvalidArgument(status));
  return status.ok();
}

TEST_CASE("a worker's load is refused where no worker can be") {
  const auto passes = [](auto change) {
    return BeatPasses(WORKER, [&](HeartbeatRequest* r) { change(r->mutable_worker_load()); });
  };
  CHECK(passes([](WorkerLoad* l) { l->set_clock(-1); }));
  CHECK(passes([](WorkerLoad* l) { l->set_clock(kClockLimit); }));
  CHECK_FALSE(passes([](WorkerLoad* l) { l->set_clock(std::numeric_limits<Clock>::max()); }));
  CHECK_FALSE(passes([](WorkerLoad* l) { l->set_clock(std::numeric_limits<Clock>::min()); }));
  CHECK_FALSE(passes([](WorkerLoad* l) { l->set_samples_total(~0ull); }));
  CHECK_FALSE(passes([](WorkerLoad* l) { l->set_bad_lines(~0ull); }));
  CHECK_FALSE(passes([](WorkerLoad* l) { l->set_pull_wait(kNan); }));
  CHECK_FALSE(passes([](WorkerLoad* l) { l->set_compute(kInfinity); }));
  CHECK(passes([](WorkerLoad* l) { l->set_loss(kNan); }));  // training diverged
}

TEST_CASE("a server's load and results are refused where they cannot be") {
  const auto passes = [](auto change) { return BeatPasses(SERVER, change); };
  CHECK(passes([](HeartbeatRequest* r) { r->mutable_server_load()->add_staleness_histogram(7); }));
  CHECK_FALSE(passes([](HeartbeatRequest* r) { r->mutable_server_load()->add_staleness_histogram(~0ull); }));
  CHECK_FALSE(passes([](HeartbeatRequest* r) {
    for (int i = 0; i < 1000; ++i) r->mutable_server_load()->add_staleness_histogram(1);
  }));
  CHECK_FALSE(passes([](HeartbeatRequest* r) {
    r->mutable_server_load()->add_tables()->set_name(std::string(1000, 'x'));
  }));
  const auto load = [&](uint32_t shard, uint64_t rows, int counts) {
    return passes([&](HeartbeatRequest* r) {
      ShardLoads* loads = r->mutable_server_load()->mutable_shards();
      loads->add_shard(shard);
      loads->add_bytes(1);
      for (int i = 0; i < counts; ++i) loads->add_rows_total(rows);
    });
  };
  CHECK(load(7, 5, 1));
  CHECK_FALSE(load(8, 5, 1));
  CHECK_FALSE(load(7, ~0ull, 1));
  CHECK_FALSE(load(7, 5, 0));
  CHECK_FALSE(load(7, 5, 2));
  const auto file = [&](const std::string& name, uint32_t shard) {
    return passes([&](HeartbeatRequest* r) {
      CheckpointFile* f = r->add_results()->add_files();
      f->set_name(name);
      f->set_shard(shard);
    });
  };
  CHECK(file("shard-00007.tgs", 7));
  CHECK_FALSE(file("shard-00008.tgs", 8));
  for (const char* name : {"", "..", ".hidden", "a/b", "/etc/passwd", "a\nb"}) CHECK_FALSE(file(name, 0));
  CHECK_FALSE(passes([](HeartbeatRequest* r) {
    for (int i = 0; i < 100; ++i) r->add_results();
  }));
  CHECK_FALSE(passes([](HeartbeatRequest* r) { r->set_fatal_error(std::string(1 << 20, 'x')); }));
}

TEST_CASE("a member reports what its role reports") {
  CHECK_FALSE(BeatPasses(SERVER, [](HeartbeatRequest* r) { r->mutable_worker_load(); }));
  CHECK_FALSE(BeatPasses(SERVER, [](HeartbeatRequest* r) { r->add_progress(); }));
  CHECK_FALSE(BeatPasses(WORKER, [](HeartbeatRequest* r) { r->mutable_server_load(); }));
  CHECK_FALSE(BeatPasses(WORKER, [](HeartbeatRequest* r) { r->add_results(); }));
}

TEST_CASE("what is said of copies is refused from a worker, of shards that are none, and in masses") {
  HeartbeatRequest beat;
  const auto ok = [&](Role role) { return CheckHeartbeat(beat, role, 16).ok(); };
  beat.add_in_sync()->set_shard(15);
  beat.add_refill(15);
  beat.add_drained()->set_shard(15);
  beat.add_unreachable(3);
  CHECK(ok(SERVER));
  CHECK_FALSE(ok(WORKER));
  beat.mutable_in_sync(0)->set_shard(16);
  CHECK_FALSE(ok(SERVER));
  beat.clear_in_sync();
  beat.set_refill(0, 16);
  CHECK_FALSE(ok(SERVER));
  beat.clear_refill();
  beat.mutable_drained(0)->set_shard(16);
  CHECK_FALSE(ok(SERVER));
  beat.clear_drained();
  CHECK(ok(WORKER));
  for (int i = 0; i < 4096; ++i) beat.add_unreachable(1);
  CHECK_FALSE(ok(WORKER));
}

TEST_CASE("a result of work is refused where it does not belong to its steps") {
  Work work;
  work.mutable_sync()->set_first_step(10);
  work.mutable_sync()->set_end_step(20);
  const auto passes = [&](auto change) {
    WorkDone done;
    change(&done);
    return CheckWorkDone(done, work).ok();
  };
  CHECK(passes([](WorkDone* d) { d->set_next_step(20); }));
  CHECK_FALSE(passes([](WorkDone* d) { d->set_next_step(21); }));
  const auto end = [&](uint64_t step) {
    return passes([&](WorkDone* d) {
      d->set_end_of_data(true);
      d->set_end_of_data_step(step);
    });
  };
  CHECK(end(10));
  CHECK(end(20));
  CHECK_FALSE(end(9));  // it would drop steps that others have done
  CHECK_FALSE(end(21));
  CHECK_FALSE(passes([](WorkDone* d) { d->set_samples(~0ull); }));
  CHECK_FALSE(passes([](WorkDone* d) { d->set_bad_lines(1ull << 60); }));
  CHECK_FALSE(passes([](WorkDone* d) { d->set_weight_sum(kInfinity); }));
  CHECK(passes([](WorkDone* d) { d->set_loss_sum(kNan); }));
}

TEST_CASE("a worker's first clock is one that the job can have come to") {
  AcquireWorkRequest request;
  request.set_live(true);
  request.set_clock(100);
  CHECK(CheckAcquireWork(request, 100).ok());
  CHECK(absl::IsInvalidArgument(CheckAcquireWork(request, 99)));
  request.set_clock(-1);
  CHECK(absl::IsInvalidArgument(CheckAcquireWork(request, 99)));
  request.set_live(false);  // it means nothing then
  CHECK(CheckAcquireWork(request, 99).ok());
  for (int i = 0; i < 100; ++i) request.add_done();
  CHECK_FALSE(CheckAcquireWork(request, 99).ok());
}

// A server and two workers at staleness 0, in training.
struct Group {
  std::unique_ptr<ClusterState> core;
  SchedulerEffects effects;
  CallToken tokens = 0;

  Group() {
    SchedulerOptions options;
    options.job.mutable_cluster()->set_servers(1);
    options.job.mutable_cluster()->set_workers(2);
    options.job.mutable_train()->set_stall_timeout_s(60);
    options.sync_group_steps = 4;
    options.sync_group_steps_max = 16;
    core = *ClusterState::Create(options, SchedulerState());
    core->Start(0);
    JoinRequest join;
    for (uint64_t member = 1; member <= 3; ++member) {
      join.set_role(member == 1 ? SERVER : WORKER);
      join.set_address(member == 1 ? "h:1" : "");
      join.set_nonce(member);
      Send(join);
    }
    DeclareTablesRequest declare;
    declare.set_incarnation(2);
    declare.add_tables()->add_parts()->set_dim(1);
    Send(declare);
    HeartbeatRequest opened;
    opened.set_incarnation(1);
    opened.add_results()->set_id(1);
    Send(opened);
    REQUIRE(core->Durable().phase() == TRAINING);
  }
  // OK also where it waits.
  template <typename Request>
  absl::Status Send(const Request& request) {
    effects = core->Handle(0, ++tokens, request);
    for (const SchedulerReply& reply : effects.replies) {
      if (reply.token == tokens) return reply.status;
    }
    return absl::OkStatus();
  }
  absl::Status Ask(Incarnation worker, Clock clock) {
    AcquireWorkRequest request;
    request.set_incarnation(worker);
    request.set_live(true);
    request.set_clock(clock);
    return Send(request);
  }
  Clock StartOfGroup() const {
    REQUIRE(core->Durable().current().leases_size() == 2);
    return core->Durable().current().leases(0).work().start_clock();
  }
};

TEST_CASE("a worker that lies about its clock does not send the others there") {
  Group group;
  REQUIRE(group.Ask(2, 5).ok());
  for (Clock lie : {Clock{1} << 40, std::numeric_limits<Clock>::max(), std::numeric_limits<Clock>::min(),
                    Clock{5 + 16 + 2}}) {
    CHECK(absl::IsInvalidArgument(group.Ask(3, lie)));
    CHECK_FALSE(group.effects.persist);
  }
  REQUIRE(group.Ask(3, 5 + 16 + 1).ok());  // a group that ended while the scheduler was away
  CHECK(group.StartOfGroup() == 22);
}

TEST_CASE("a heartbeat that is refused changes nothing") {
  Group group;
  REQUIRE(group.Ask(2, 0).ok());
  REQUIRE(group.Ask(3, 0).ok());
  HeartbeatRequest request;
  request.set_incarnation(2);
  request.mutable_worker_load()->set_samples_total(5);
  WorkDone* progress = request.add_progress();
  progress->set_lease(group.core->Durable().current().leases(0).work().lease());
  progress->set_next_step(1000);
  request.set_fatal_error("and it gives up");
  CHECK(absl::IsInvalidArgument(group.Send(request)));
  CHECK(group.core->Durable().phase() == TRAINING);
  CHECK(group.core->Status(0).members(1).worker_load().samples_total() == 0);
  AcquireWorkRequest ask;
  ask.set_incarnation(2);
  ask.set_live(true);
  *ask.add_done() = request.progress(0);
  CHECK(absl::IsInvalidArgument(group.Send(ask)));
  CHECK(group.core->Durable().current().leases_size() == 2);
}

}  // namespace
}  // namespace tidegate
