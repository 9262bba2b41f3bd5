// What the scheduler's core does otherwise where members are many.
#include <catch2/catch.hpp>

#include "scheduler/cluster_state.h"

namespace tidegate {
namespace {

constexpr TimeMs kIntervalMs = 200;
constexpr TimeMs kLeaseMs = 2800;

struct Core {
  std::unique_ptr<ClusterState> state;
  TimeMs now = 0;
  CallToken tokens = 0;
  std::map<CallToken, SchedulerReply> answered;

  Core() {
    SchedulerOptions options;
    options.config_fingerprint = 5;
    options.job.mutable_cluster()->set_servers(10'000);
    options.job.mutable_cluster()->set_replicas(2);
    options.synchronous = false;
    options.train_splits.resize(1);
    options.train_splits[0].set_end(10);
    options.heartbeat_interval_ms = kIntervalMs;
    options.lease_ms = kLeaseMs;
    state = *ClusterState::Create(options, SchedulerState());
    Take(state->Start(0));
  }
  void Take(SchedulerEffects effects) {
    for (SchedulerReply& reply : effects.replies) answered[reply.token] = std::move(reply);
  }
  template <typename Request>
  CallToken Call(const Request& request) {
    Take(state->Handle(now, ++tokens, request));
    return tokens;
  }
  void TickAt(TimeMs at) { Take(state->Tick(now = at)); }
  template <typename Response>
  Response AnswerTo(CallToken token) {
    REQUIRE(answered.contains(token));
    REQUIRE(answered.at(token).status.ok());
    return std::get<Response>(answered.at(token).response);
  }
  JoinResponse Join(Role role, uint64_t nonce) {
    JoinRequest request;
    request.set_role(role);
    request.set_nonce(nonce);
    if (role == SERVER) request.set_address("h:" + std::to_string(nonce));
    return AnswerTo<JoinResponse>(Call(request));
  }
  HeartbeatRequest Beat(Incarnation member) {
    HeartbeatRequest request;
    request.set_incarnation(member);
    request.set_seen_term(1);
    request.set_worker_set_version(state->Durable().worker_set_version());
    return request;
  }
  // How long a call that has no news is kept; ticks come every 10 ms.
  template <typename Request>
  TimeMs KeptMs(const Request& request) {
    Call(request);  // tells the phase
    TickAt(now + kLeaseMs);
    const TimeMs begin = now;
    const CallToken token = Call(request);
    while (!answered.contains(token)) TickAt(now + 10);
    return now - begin;
  }
};

TEST_CASE("beyond a thousand workers each is asked less often, up to a quarter of a lease; servers are asked as ever") {
  Core core;
  const uint64_t workers = GENERATE(1000u, 2000u, 4000u);
  const Incarnation server = core.Join(SERVER, 1).incarnation();
  Incarnation worker = 0;
  for (uint64_t i = 0; i < workers; ++i) worker = core.Join(WORKER, 10 + i).incarnation();
  const TimeMs kept = workers == 1000 ? 200 : workers == 2000 ? 400 : 700;
  INFO(workers << " workers");
  CHECK(core.KeptMs(core.Beat(worker)) == kept);
  CHECK(core.KeptMs(core.Beat(server)) == kIntervalMs);
  // Who misses a server says so as often as servers speak.
  HeartbeatRequest misses = core.Beat(worker);
  misses.add_unreachable(server);
  CHECK(core.KeptMs(misses) == kIntervalMs);
  AcquireWorkRequest ask;
  ask.set_incarnation(worker);
  CHECK(core.KeptMs(ask) == kept);
}

TEST_CASE("members are told the longest that their calls may be kept") {
  Core core;
  CHECK(core.Join(WORKER, 1).heartbeat_interval_ms() == kLeaseMs / 4);
  CHECK(core.Join(SERVER, 2).heartbeat_interval_ms() == kIntervalMs);
}

TEST_CASE("news reaches a worker at once, however long its calls are kept") {
  Core core;
  for (uint64_t i = 0; i < 2000; ++i) core.Join(WORKER, 10 + i);
  core.Call(core.Beat(1));
  core.TickAt(kLeaseMs);
  const CallToken kept = core.Call(core.Beat(1));
  CHECK_FALSE(core.answered.contains(kept));
  StopJobRequest stop;
  stop.set_reason("enough");
  core.Call(stop);
  CHECK(core.AnswerTo<HeartbeatResponse>(kept).phase() == FAILED);
}

TEST_CASE("many changes of a large set of workers are told together, and all of them are told") {
  Core core;
  for (uint64_t i = 0; i < 100; ++i) core.Join(SERVER, 10 + i);
  for (uint64_t i = 0; i < 2000; ++i) core.Join(WORKER, 1000 + i);  // 100 x 2,000 entries: 10 ms apart
  core.TickAt(10);
  HeartbeatRequest beat = core.Beat(1);
  core.AnswerTo<HeartbeatResponse>(core.Call(beat));  // tells the phase
  const CallToken first = core.Call(beat);
  core.Join(WORKER, 5000);
  REQUIRE_FALSE(core.answered.contains(first));
  core.TickAt(20);
  const auto told = core.AnswerTo<HeartbeatResponse>(first);
  CHECK(told.workers().live_size() == 2001);
  beat.set_worker_set_version(told.workers().version());
  const CallToken second = core.Call(beat);
  core.Join(WORKER, 5001);
  LeaveRequest leave;
  leave.set_incarnation(2101);
  core.Call(leave);
  CHECK_FALSE(core.answered.contains(second));
  core.TickAt(29);
  CHECK_FALSE(core.answered.contains(second));
  core.TickAt(30);
  const auto later = core.AnswerTo<HeartbeatResponse>(second);
  CHECK(later.workers().live_size() == 2001);
  CHECK(later.workers().version() == core.state->Durable().worker_set_version());
}

TEST_CASE("a small set of workers is told at once") {
  Core core;
  core.Join(SERVER, 1);
  core.Join(WORKER, 2);
  HeartbeatRequest beat = core.Beat(1);
  core.Call(beat);
  const CallToken kept = core.Call(beat);
  CHECK_FALSE(core.answered.contains(kept));
  core.Join(WORKER, 3);
  CHECK(core.AnswerTo<HeartbeatResponse>(kept).workers().live_size() == 2);
}

}  // namespace
}  // namespace tidegate
