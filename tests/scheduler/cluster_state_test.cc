// Single requests to the scheduler's core and what they answer.
#include "scheduler/cluster_state.h"

#include <catch2/catch.hpp>

namespace tidegate {
namespace {

struct Core {
  SchedulerOptions options;
  std::unique_ptr<ClusterState> state;
  TimeMs now = 0;
  CallToken tokens = 0;
  SchedulerEffects effects;  // of the last call

  explicit Core(std::function<void(SchedulerOptions*)> adjust = {}) {
    options.config_fingerprint = 5;
    options.version = "0.1.0";
    options.job.set_name("mine");
    options.job.mutable_cluster()->set_servers(1);
    options.job.mutable_cluster()->set_workers(1);
    options.job.mutable_data()->set_max_bad_lines(3);
    options.synchronous = false;
    options.train_splits.resize(2);
    options.train_splits[0].set_end(10);
    options.train_splits[1].set_end(20);
    if (adjust) adjust(&options);
    state = *ClusterState::Create(options, SchedulerState());
    effects = state->Start(0);
  }
  template <typename Request>
  CallToken Call(const Request& request) {
    effects = state->Handle(now, ++tokens, request);
    return tokens;
  }
  const SchedulerReply* ReplyTo(CallToken token) const {
    for (const SchedulerReply& reply : effects.replies) {
      if (reply.token == token) return &reply;
    }
    return nullptr;
  }
  template <typename Response, typename Request>
  Response Get(const Request& request) {
    const SchedulerReply* reply = ReplyTo(Call(request));
    REQUIRE(reply != nullptr);
    REQUIRE(reply->status.ok());
    return std::get<Response>(reply->response);
  }
  template <typename Request>
  absl::Status Refusal(const Request& request) {
    const SchedulerReply* reply = ReplyTo(Call(request));
    REQUIRE(reply != nullptr);
    REQUIRE_FALSE(reply->status.ok());
    return reply->status;
  }
  JoinRequest JoinAs(Role role, uint64_t nonce) {
    JoinRequest request;
    request.set_role(role);
    request.set_nonce(nonce);
    if (role == SERVER) request.set_address("h:" + std::to_string(nonce));
    return request;
  }
  Incarnation Join(Role role, uint64_t nonce) { return Get<JoinResponse>(JoinAs(role, nonce)).incarnation(); }
  HeartbeatRequest Beat(Incarnation member) {
    HeartbeatRequest request;
    request.set_incarnation(member);
    request.set_seen_term(1);
    request.set_no_wait(true);
    return request;
  }
  // A server and a worker, in training.
  Incarnation server = 0, worker = 0;
  void Train() {
    server = Join(SERVER, 1);
    worker = Join(WORKER, 2);
    Get<DeclareTablesResponse>(Declare(worker));
    HeartbeatRequest done = Beat(server);
    done.add_results()->set_id(state->Durable().command().command().id());
    Get<HeartbeatResponse>(done);
    REQUIRE(state->Durable().phase() == TRAINING);
  }
  DeclareTablesRequest Declare(Incarnation by) {
    DeclareTablesRequest request;
    request.set_incarnation(by);
    TableSpec* table = request.add_tables();
    table->set_id(0);
    table->set_name("t");
    table->add_parts()->set_dim(4);
    return request;
  }
  AcquireWorkRequest Ask(bool live, uint64_t order = 0) {
    AcquireWorkRequest request;
    request.set_incarnation(worker);
    request.set_live(live);
    request.set_order(order);
    return request;
  }
};

TEST_CASE("a repeated join gets the same incarnation, another process the next, and both are stored") {
  Core core;
  CHECK(core.Join(WORKER, 9) == 1);
  CHECK(core.effects.persist);
  CHECK(core.Join(WORKER, 9) == 1);
  CHECK(core.Join(WORKER, 10) == 2);
  CHECK(core.state->Durable().last_incarnation() == 2);
}

TEST_CASE("a member of another config is refused with both configs named") {
  Core core;
  JoinRequest request = core.JoinAs(WORKER, 1);
  request.set_config_fingerprint(0xabc);
  const absl::Status status = core.Refusal(request);
  CHECK(absl::IsFailedPrecondition(status));
  CHECK_THAT(std::string(status.message()), Catch::Contains("config 5") && Catch::Contains("abc"));
  request.set_config_fingerprint(5);
  CHECK(core.Get<JoinResponse>(request).incarnation() == 1);
}

TEST_CASE("a member of another version is refused") {
  Core core;
  JoinRequest request = core.JoinAs(WORKER, 1);
  request.set_version("0.0.9");
  CHECK_THAT(std::string(core.Refusal(request).message()), Catch::Contains("0.0.9"));
}

TEST_CASE("a join without role, a server without address are refused; cluster.servers is no maximum") {
  Core core;
  CHECK(absl::IsInvalidArgument(core.Refusal(JoinRequest())));
  JoinRequest server = core.JoinAs(SERVER, 1);
  server.clear_address();
  CHECK(absl::IsInvalidArgument(core.Refusal(server)));
  core.Join(SERVER, 1);
  CHECK(core.Join(SERVER, 3) == 2);
}

TEST_CASE("a server that restarted at its address replaces its old self before the shards are placed") {
  Core core;
  core.Join(SERVER, 1);
  JoinRequest again = core.JoinAs(SERVER, 4);
  again.set_address("h:1");
  CHECK(core.Get<JoinResponse>(again).incarnation() == 2);
  CHECK(core.Get<HeartbeatResponse>(core.Beat(1)).rejoin());
}

TEST_CASE("the first declaration of tables is the job's; another one is refused by its difference") {
  Core core;
  const Incarnation a = core.Join(WORKER, 1), b = core.Join(WORKER, 2);
  core.Get<DeclareTablesResponse>(core.Declare(a));
  CHECK(core.effects.persist);
  core.Get<DeclareTablesResponse>(core.Declare(b));
  DeclareTablesRequest other = core.Declare(b);
  other.mutable_tables(0)->mutable_parts(0)->set_dim(8);
  const absl::Status status = core.Refusal(other);
  CHECK(absl::IsFailedPrecondition(status));
  CHECK_THAT(std::string(status.message()), Catch::Contains("table 0") && Catch::Contains("dim: 8"));
}

TEST_CASE("tables with wrong ids, no tables, and declarations of strangers are refused") {
  Core core;
  const Incarnation a = core.Join(WORKER, 1);
  DeclareTablesRequest request = core.Declare(a);
  request.mutable_tables(0)->set_id(3);
  CHECK(absl::IsInvalidArgument(core.Refusal(request)));
  request.clear_tables();
  CHECK(absl::IsInvalidArgument(core.Refusal(request)));
  CHECK_THAT(std::string(core.Refusal(core.Declare(77)).message()), Catch::Contains("rejoin"));
}

TEST_CASE("a member of another job at this address is told so, and acts for no member of the same number") {
  Core core([](SchedulerOptions* options) { options->generation = 70; });
  core.Train();
  CHECK(core.Get<JoinResponse>(core.JoinAs(WORKER, 2)).generation() == 70);
  HeartbeatRequest beat = core.Beat(core.worker);
  beat.set_generation(69);
  beat.set_fatal_error("of another job");
  const HeartbeatResponse answer = core.Get<HeartbeatResponse>(beat);
  CHECK(answer.rejoin());
  CHECK(answer.generation() == 70);
  DeclareTablesRequest declare = core.Declare(core.worker);
  declare.set_generation(69);
  CHECK_THAT(std::string(core.Refusal(declare).message()), Catch::Contains("rejoin"));
  AcquireWorkRequest ask = core.Ask(true);
  ask.set_generation(69);
  CHECK(core.Get<AcquireWorkResponse>(ask).rejoin());
  LeaveRequest leave;
  leave.set_incarnation(core.worker);
  leave.set_generation(69);
  core.Get<LeaveResponse>(leave);
  CHECK(core.state->Durable().phase() == TRAINING);
  beat.set_generation(70);
  beat.clear_fatal_error();
  CHECK_FALSE(core.Get<HeartbeatResponse>(beat).rejoin());
}

TEST_CASE("the generation of a job is stored: started again it is the same") {
  Core core([](SchedulerOptions* options) { options->generation = 70; });
  SchedulerOptions again = core.options;
  again.generation = 71;
  auto state = *ClusterState::Create(again, core.state->Durable());
  CHECK(state->Durable().generation() == 70);
}

TEST_CASE("names and addresses that are no short line are refused") {
  Core core;
  JoinRequest request = core.JoinAs(WORKER, 1);
  for (const std::string& bad : {std::string("a\nb"), std::string("\x1b[2J"), std::string(5000, 'x')}) {
    request.set_name(bad);
    request.set_address("h:1");
    CHECK(absl::IsInvalidArgument(core.Refusal(request)));
    request.set_name("fine");
    request.set_address(bad);
    CHECK(absl::IsInvalidArgument(core.Refusal(request)));
  }
  request.set_address("h:1");
  CHECK(core.Get<JoinResponse>(request).incarnation() == 1);
}

TEST_CASE("a heartbeat waits for news or the interval") {
  Core core;
  core.Train();
  HeartbeatRequest request = core.Beat(core.worker);
  request.set_routing_epoch(1);
  core.Get<HeartbeatResponse>(request);  // tells the phase
  request.set_no_wait(false);
  const CallToken held = core.Call(request);
  CHECK(core.ReplyTo(held) == nullptr);
  core.effects = core.state->Tick(core.now = 200);
  CHECK(core.ReplyTo(held) == nullptr);
  core.effects = core.state->Tick(core.now = 250);
  CHECK(core.ReplyTo(held) != nullptr);
  const CallToken next = core.Call(request);
  StopJobRequest stop;
  stop.set_reason("enough");
  core.Call(stop);
  REQUIRE(core.ReplyTo(next) != nullptr);
  const auto& response = std::get<HeartbeatResponse>(core.ReplyTo(next)->response);
  CHECK(response.phase() == FAILED);
  CHECK(response.message() == "stopped: enough");
}

TEST_CASE("a newer poll has the older one answered") {
  Core core;
  core.Train();
  HeartbeatRequest request = core.Beat(core.worker);
  request.set_routing_epoch(1);
  core.Get<HeartbeatResponse>(request);
  request.set_no_wait(false);
  const CallToken old = core.Call(request);
  const CallToken newer = core.Call(request);
  CHECK(core.ReplyTo(old) != nullptr);
  CHECK(core.ReplyTo(newer) == nullptr);
}

TEST_CASE("a command is given until it is acknowledged, and its result counts once") {
  Core core;
  core.server = core.Join(SERVER, 1);
  core.worker = core.Join(WORKER, 2);
  core.Get<DeclareTablesResponse>(core.Declare(core.worker));
  HeartbeatRequest beat = core.Beat(core.server);
  CHECK(core.Get<HeartbeatResponse>(beat).commands(0).id() == 1);
  CHECK(core.Get<HeartbeatResponse>(beat).commands(0).id() == 1);
  beat.set_last_command(1);
  CHECK(core.Get<HeartbeatResponse>(beat).commands_size() == 0);
  CHECK(core.state->Durable().phase() == STARTING);
  beat.add_results()->set_id(1);
  core.Get<HeartbeatResponse>(beat);
  CHECK(core.state->Durable().phase() == TRAINING);
  core.Get<HeartbeatResponse>(beat);
  CHECK(core.state->Durable().epoch() == 1);
}

TEST_CASE("a command that a server cannot do fails the job with the server's reason") {
  Core core;
  core.server = core.Join(SERVER, 1);
  core.worker = core.Join(WORKER, 2);
  core.Get<DeclareTablesResponse>(core.Declare(core.worker));
  HeartbeatRequest beat = core.Beat(core.server);
  CommandResult* result = beat.add_results();
  result->set_id(1);
  result->set_code(8);
  result->set_error("out of memory");
  CHECK(core.Get<HeartbeatResponse>(beat).phase() == FAILED);
  CHECK_THAT(core.state->Durable().message(), Catch::Contains("open the tables: out of memory"));
}

TEST_CASE("a worker is announced, leased, and asked again gets the same lease") {
  Core core;
  core.Train();
  CHECK(core.Get<AcquireWorkResponse>(core.Ask(false, 1)).has_announce());
  CHECK(core.Get<AcquireWorkResponse>(core.Ask(false, 1)).has_announce());  // a retry
  const auto first = core.Get<AcquireWorkResponse>(core.Ask(true, 2));
  CHECK(core.effects.persist);
  CHECK(core.Get<AcquireWorkResponse>(core.Ask(true, 2)).work().lease() == first.work().lease());
  CHECK(core.Get<AcquireWorkResponse>(core.Ask(true, 3)).work().lease() == first.work().lease());
  CHECK(core.Get<AcquireWorkResponse>(core.Ask(false, 1)).has_wait());  // late
  CHECK(core.state->Durable().current().leases_size() == 1);
}

TEST_CASE("a late AcquireWork does not bring a parked worker back to life") {
  Core core;
  core.Train();
  AcquireWorkRequest done = core.Ask(true, 2);
  for (int i = 0; i < 2; ++i) {
    done.set_order(done.order() + 1);
    const auto response = core.Get<AcquireWorkResponse>(done);
    done.clear_done();
    done.add_done()->set_lease(response.work().lease());
    done.mutable_done(0)->set_samples(7);
  }
  const Incarnation other = core.Join(WORKER, 3);
  CHECK(core.state->Durable().current().done_size() == 1);
  core.Call(core.Ask(false, 9));
  CHECK(core.Get<AcquireWorkResponse>(core.Ask(true, 8)).has_wait());
  CHECK(core.Get<AcquireWorkResponse>(core.Ask(false, 10)).has_announce());  // has a lease to do
  CHECK(other != 0);
}

TEST_CASE("results of a lease that is not held change nothing") {
  Core core;
  core.Train();
  AcquireWorkRequest request = core.Ask(true, 1);
  request.add_done()->set_lease(12345);
  request.mutable_done(0)->set_samples(1000);
  request.mutable_done(0)->set_bad_lines(1000);
  core.Get<AcquireWorkResponse>(request);
  CHECK(core.state->Durable().phase() == TRAINING);
  CHECK(core.state->Durable().current().samples() == 0);
}

TEST_CASE("more bad lines than allowed end the job with an example") {
  Core core;
  core.Train();
  const auto work = core.Get<AcquireWorkResponse>(core.Ask(true, 1));
  AcquireWorkRequest request = core.Ask(true, 2);
  WorkDone* done = request.add_done();
  done->set_lease(work.work().lease());
  done->set_samples(10);
  done->set_bad_lines(4);
  done->set_bad_line_example("x.txt:7: no label");
  const auto answer = core.Get<AcquireWorkResponse>(request);
  CHECK(answer.finish().failed());
  CHECK_THAT(answer.finish().message(), Catch::Contains("4 bad lines") && Catch::Contains("x.txt:7"));
}

TEST_CASE("a member that gives up fails the job with its words") {
  Core core;
  core.Train();
  HeartbeatRequest beat = core.Beat(core.worker);
  beat.set_fatal_error("cannot read train.txt");
  CHECK(core.Get<HeartbeatResponse>(beat).phase() == FAILED);
  CHECK_THAT(core.state->Durable().message(), Catch::Contains("worker 2") && Catch::Contains("train.txt"));
  CHECK(core.Get<AcquireWorkResponse>(core.Ask(false)).finish().failed());
}

TEST_CASE("a worker that leaves gives its work back at once; it must rejoin to go on") {
  Core core;
  core.Train();
  core.Get<AcquireWorkResponse>(core.Ask(true, 1));
  LeaveRequest leave;
  leave.set_incarnation(core.worker);
  leave.set_reason("signal 15");
  core.Get<LeaveResponse>(leave);
  CHECK(core.state->Durable().current().leases_size() == 0);
  CHECK(core.Get<AcquireWorkResponse>(core.Ask(true, 2)).rejoin());
  core.Get<LeaveResponse>(leave);  // again
  const WorkerSet set = core.Get<HeartbeatResponse>(core.Beat(core.server)).workers();
  CHECK(set.last_incarnation() == 2);
  CHECK(set.live_size() == 0);
}

TEST_CASE("a server that leaves a running job fails it; after the end it just leaves") {
  Core core;
  core.Train();
  LeaveRequest leave;
  leave.set_incarnation(core.server);
  core.Get<LeaveResponse>(leave);
  CHECK(core.state->Durable().phase() == FAILED);
  CHECK_FALSE(core.state->Drained());
  leave.set_incarnation(core.worker);
  core.Get<LeaveResponse>(leave);
  CHECK(core.state->Drained());
}

TEST_CASE("routing is given when newer, with the tables") {
  Core core;
  core.Train();
  GetRoutingRequest request;
  const auto response = core.Get<GetRoutingResponse>(request);
  CHECK(response.routing().epoch() == 1);
  CHECK(response.routing().primary_size() == 64);
  CHECK(response.tables_size() == 1);
  request.set_newer_than(1);
  CHECK_FALSE(core.Get<GetRoutingResponse>(request).has_routing());
}

TEST_CASE("status says what a job that has not started waits for") {
  Core core;
  const auto message = [&] { return core.Get<GetStatusResponse>(GetStatusRequest()).message(); };
  CHECK(message() == "waits for 1 more server and 1 more worker");
  core.Join(SERVER, 1);
  CHECK(message() == "waits for 1 more worker");
  core.Join(WORKER, 2);
  CHECK(message() == "waits for the tables");
}

TEST_CASE("status shows members, progress, rate and staleness") {
  Core core;
  core.Train();
  HeartbeatRequest server = core.Beat(core.server);
  server.mutable_server_load()->set_rows(5);
  server.mutable_server_load()->add_staleness_histogram(3);
  core.Get<HeartbeatResponse>(server);
  const auto work = core.Get<AcquireWorkResponse>(core.Ask(true, 1));
  for (uint64_t samples : {0u, 500u, 1000u}) {
    HeartbeatRequest beat = core.Beat(core.worker);
    beat.mutable_worker_load()->set_samples_total(samples);
    WorkDone* progress = beat.add_progress();
    progress->set_lease(work.work().lease());
    progress->set_samples(samples);
    core.Get<HeartbeatResponse>(beat);
    core.now += 500;
  }
  const GetStatusResponse status = core.Get<GetStatusResponse>(GetStatusRequest());
  CHECK(status.phase() == TRAINING);
  CHECK(status.samples_total() == 1000);
  CHECK(status.samples_per_second() == 1000);
  CHECK(status.seconds() == 1.5);
  CHECK(status.splits_total() == 2);
  REQUIRE(status.members_size() == 2);
  CHECK(status.members(0).server_load().rows() == 5);
  CHECK(status.members(0).shards() == 64);
  CHECK(status.members(1).state() == "live");
  CHECK(status.staleness_histogram(0) == 3);
}

TEST_CASE("a stored state of another job, of a newer format or of other data is refused") {
  Core core;
  core.Train();
  core.Get<AcquireWorkResponse>(core.Ask(true, 1));
  const SchedulerState stored = core.state->Durable();
  const auto why = [&](SchedulerOptions options, SchedulerState state) {
    const auto created = ClusterState::Create(std::move(options), std::move(state));
    REQUIRE(absl::IsFailedPrecondition(created.status()));
    return std::string(created.status().message());
  };
  SchedulerOptions other = core.options;
  other.config_fingerprint = 6;
  CHECK_THAT(why(other, stored), Catch::Contains("\"mine\"") && Catch::Contains("config 5"));
  SchedulerState newer = stored;
  newer.set_format(2);
  CHECK_THAT(why(core.options, newer), Catch::Contains("format 2"));
  SchedulerOptions fewer = core.options;
  fewer.train_splits.clear();
  CHECK_THAT(why(fewer, stored), Catch::Contains("data.train"));
  CHECK(ClusterState::Create(core.options, stored).ok());
}

TEST_CASE("leases of one term are never numbered like those of another") {
  Core core;
  core.Train();
  const auto work = core.Get<AcquireWorkResponse>(core.Ask(true, 1));
  core.state = *ClusterState::Create(core.options, core.state->Durable());
  core.state->Start(0);
  CHECK(core.Get<AcquireWorkResponse>(core.Ask(true, 2)).work().lease() == work.work().lease());
  AcquireWorkRequest done = core.Ask(true, 3);
  done.add_done()->set_lease(work.work().lease());
  CHECK((core.Get<AcquireWorkResponse>(done).work().lease() >> 32) == 2);
}

}  // namespace
}  // namespace tidegate
