// The threads around the core, without gRPC; run under ThreadSanitizer too.
#include "scheduler/rpc/scheduler_loop.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>
#include <set>
#include <thread>

#include "scheduler/store/state_codec.h"

namespace tidegate {
namespace {

class FakeStore final : public StateStore {
 public:
  absl::StatusOr<SchedulerState> Load() override { return SchedulerState(); }
  absl::Status Write(const std::string& bytes) override {
    {
      std::unique_lock lock(mutex);
      ++begun;
      changed.notify_all();
      changed.wait(lock, [this] { return !slow || may_end > 0; });
      if (slow) --may_end;
    }
    if (deposed) return absl::AbortedError("another one leads");
    if (broken) return absl::InternalError("disk is full");
    const auto state = DecodeState(bytes, "state");
    last_incarnation = state->last_incarnation();
    generation = state->generation();
    return absl::OkStatus();
  }
  // From now on a write ends when it may.
  void SlowDown() {
    std::lock_guard lock(mutex);
    slow = true;
    begun = 0;
  }
  void AwaitWrite(int number) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return begun >= number; });
  }
  void EndWrite() {
    std::lock_guard lock(mutex);
    ++may_end;
    changed.notify_all();
  }
  void SpeedUp() {
    std::lock_guard lock(mutex);
    slow = false;
    changed.notify_all();
  }
  std::mutex mutex;
  std::condition_variable changed;
  bool slow = false;
  int begun = 0, may_end = 0;
  std::atomic<bool> broken{false};
  std::atomic<bool> deposed{false};
  std::atomic<uint64_t> last_incarnation{0};
  std::atomic<uint64_t> generation{0};
};

struct Fixture {
  FakeStore store;
  std::atomic<bool> leads{true};
  RealClock clock;
  std::unique_ptr<ClusterState> core;
  std::unique_ptr<SchedulerLoop> loop;

  explicit Fixture(TimeMs store_patience_ms = 60'000, TimeMs lease_ms = 60'000) {
    SchedulerOptions options;
    options.synchronous = false;
    options.train_splits.resize(1);
    options.train_splits[0].set_end(1);
    options.heartbeat_interval_ms = 10;
    options.lease_ms = lease_ms;
    core = *ClusterState::Create(options, SchedulerState());
    SchedulerLoop::Hooks hooks;
    hooks.write_manifest = [](const ManifestOrder&) { return absl::OkStatus(); };
    hooks.leads = [this] { return leads ? absl::OkStatus() : absl::AbortedError("another one leads"); };
    loop = std::make_unique<SchedulerLoop>(core.get(), &store, &clock, hooks, store_patience_ms);
  }
  template <typename Response, typename Request>
  std::pair<absl::Status, Response> Call(const Request& request) {
    std::promise<std::pair<absl::Status, Response>> promise;
    loop->Submit(request, [&](const absl::Status& status, SchedulerResponse response) {
      promise.set_value({status, status.ok() ? std::get<Response>(response) : Response()});
    });
    return promise.get_future().get();
  }
};

JoinRequest Worker(uint64_t nonce) {
  JoinRequest request;
  request.set_role(WORKER);
  request.set_nonce(nonce);
  return request;
}

TEST_CASE("many threads join and poll; each is answered, and only with what is stored") {
  Fixture f;
  REQUIRE(f.loop->Start(2).ok());
  std::mutex mutex;
  std::set<uint64_t> incarnations;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 1; i <= 20; ++i) {
        const auto [status, joined] = f.Call<JoinResponse>(Worker(1000u * (t + 1) + i));
        const bool stored = f.store.last_incarnation >= joined.incarnation();
        HeartbeatRequest beat;
        beat.set_incarnation(joined.incarnation());
        beat.set_seen_term(1);
        const auto [beaten, response] = f.Call<HeartbeatResponse>(beat);
        std::lock_guard<std::mutex> lock(mutex);
        CHECK(status.ok());
        CHECK(stored);
        CHECK(beaten.ok());
        CHECK_FALSE(response.rejoin());
        CHECK(incarnations.insert(joined.incarnation()).second);
      }
    });
  }
  for (int i = 0; i < 50; ++i) f.loop->Status();
  for (std::thread& thread : threads) thread.join();
  CHECK(incarnations.size() == 80);
  CHECK(f.loop->Status().members_size() == 80);
}

TEST_CASE("a scheduler that leads no more answers nothing, not even what it has stored, and says so at once") {
  Fixture f;
  REQUIRE(f.loop->Start(2).ok());
  REQUIRE(f.Call<JoinResponse>(Worker(1)).first.ok());
  SECTION("by its own clock") { f.leads = false; }
  SECTION("by the store's word") { f.store.deposed = true; }
  std::promise<absl::Status> answer;
  f.loop->Submit(Worker(2), [&](const absl::Status& status, SchedulerResponse) { answer.set_value(status); });
  CHECK(absl::IsAborted(f.loop->Health()));
  f.leads = true;
  f.store.deposed = false;
  std::promise<absl::Status> later;
  f.loop->Submit(GetStatusRequest(), [&](const absl::Status& status, SchedulerResponse) { later.set_value(status); });
  CHECK(absl::IsAborted(f.loop->Health()));
  f.loop->Stop();
  CHECK(absl::IsUnavailable(answer.get_future().get()));
  CHECK(absl::IsUnavailable(later.get_future().get()));
}

TEST_CASE("stopping answers what waits, and all that comes later, as unavailable") {
  Fixture f;
  CHECK(absl::IsUnavailable(f.Call<JoinResponse>(Worker(1)).first));  // before the start
  REQUIRE(f.loop->Start(60'000).ok());
  const auto [status, joined] = f.Call<JoinResponse>(Worker(1));
  REQUIRE(status.ok());
  AcquireWorkRequest ask;
  ask.set_incarnation(joined.incarnation());
  std::promise<absl::Status> answer;
  f.loop->Submit(ask, [&](const absl::Status& s, SchedulerResponse) { answer.set_value(s); });
  f.loop->Stop();
  CHECK(absl::IsUnavailable(answer.get_future().get()));
  CHECK(absl::IsUnavailable(f.Call<JoinResponse>(Worker(2)).first));
}

TEST_CASE("what waits for the state to be stored leaves once it is, in order") {
  Fixture f;
  REQUIRE(f.loop->Start(2).ok());
  f.store.broken = true;
  std::vector<std::promise<uint64_t>> joined(3);
  for (uint64_t i = 0; i < joined.size(); ++i) {
    f.loop->Submit(Worker(i + 1), [&joined, i](const absl::Status& s, SchedulerResponse response) {
      joined[i].set_value(s.ok() ? std::get<JoinResponse>(response).incarnation() : 0);
    });
  }
  // Also what follows from nothing new: it might speak of what is not stored.
  std::promise<int> members;
  f.loop->Submit(GetStatusRequest(), [&](const absl::Status&, SchedulerResponse response) {
    members.set_value(std::get<GetStatusResponse>(response).members_size());
  });
  auto told = members.get_future();
  CHECK(told.wait_for(std::chrono::milliseconds(300)) == std::future_status::timeout);
  CHECK(f.loop->Health().ok());
  CHECK(f.store.last_incarnation == 0);
  f.store.broken = false;
  for (uint64_t i = 0; i < joined.size(); ++i) CHECK(joined[i].get_future().get() == i + 1);
  CHECK(told.get() == 3);
  CHECK(f.store.last_incarnation == 3);
}

TEST_CASE("a member is not dead for what it said while the state could not be stored") {
  Fixture f(60'000, 400);
  REQUIRE(f.loop->Start(2).ok());
  const auto [status, joined] = f.Call<JoinResponse>(Worker(1));
  REQUIRE(status.ok());
  f.store.broken = true;
  std::promise<void> stored;
  f.loop->Submit(Worker(2), [&](const absl::Status&, SchedulerResponse) { stored.set_value(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(700));  // more than the lease
  f.store.broken = false;
  stored.get_future().get();
  for (int i = 0; i < 5; ++i) CHECK(f.loop->Status().members(0).alive());
}

TEST_CASE("what is decided while the state is written shares the next write, and waits for that one") {
  Fixture f;
  REQUIRE(f.loop->Start(2).ok());
  f.store.SlowDown();
  std::vector<std::promise<uint64_t>> joined(20);
  const auto join = [&](uint64_t i) {
    f.loop->Submit(Worker(i + 1), [&joined, i](const absl::Status& s, SchedulerResponse response) {
      joined[i].set_value(s.ok() ? std::get<JoinResponse>(response).incarnation() : 0);
    });
  };
  std::thread first(join, 0);
  f.store.AwaitWrite(1);
  for (uint64_t i = 1; i < joined.size(); ++i) join(i);  // returns, though the write goes on
  CHECK(f.loop->Status().members_size() == 20);
  auto told = joined[1].get_future();
  f.store.EndWrite();
  CHECK(joined[0].get_future().get() == 1);
  f.store.AwaitWrite(2);
  CHECK(f.store.last_incarnation == 1);
  CHECK(told.wait_for(std::chrono::milliseconds(100)) == std::future_status::timeout);
  f.store.EndWrite();
  CHECK(told.get() == 2);
  for (uint64_t i = 2; i < joined.size(); ++i) CHECK(joined[i].get_future().get() == i + 1);
  CHECK(f.store.last_incarnation == 20);
  CHECK(f.loop->statistics().writes == 3);  // the term's; the first; all others
  first.join();
}

TEST_CASE("nobody is dead for being unheard while a write takes long") {
  Fixture f(60'000, 400);
  REQUIRE(f.loop->Start(2).ok());
  for (uint64_t i = 1; i <= 7; ++i) REQUIRE(f.Call<JoinResponse>(Worker(i)).first.ok());
  f.store.SlowDown();
  std::promise<absl::Status> second;
  std::thread writer([&] { f.loop->Submit(Worker(8), [&](const absl::Status& s, SchedulerResponse) { second.set_value(s); }); });
  f.store.AwaitWrite(1);
  for (uint64_t i = 2; i <= 7; ++i) {  // more than two leases; who leaves has others looked at
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    LeaveRequest leave;
    leave.set_incarnation(i);
    f.loop->Submit(leave, [](const absl::Status&, SchedulerResponse) {});
    CHECK(f.loop->Status().members(0).alive());
  }
  f.store.SpeedUp();
  CHECK(second.get_future().get().ok());
  CHECK(f.loop->Status().members(0).alive());
  writer.join();
}

TEST_CASE("stopping waits for the write that is under way") {
  Fixture f;
  REQUIRE(f.loop->Start(2).ok());
  f.store.SlowDown();
  std::promise<absl::Status> answer;
  std::thread writer([&] { f.loop->Submit(Worker(1), [&](const absl::Status& s, SchedulerResponse) { answer.set_value(s); }); });
  f.store.AwaitWrite(1);
  auto stopped = std::async(std::launch::async, [&] { f.loop->Stop(); });
  CHECK(stopped.wait_for(std::chrono::milliseconds(100)) == std::future_status::timeout);
  f.store.EndWrite();
  stopped.get();
  CHECK(absl::IsUnavailable(answer.get_future().get()));
  writer.join();
}

TEST_CASE("a write that fails keeps all back that shared it, and that came since, until the next is done") {
  Fixture f;
  REQUIRE(f.loop->Start(2).ok());
  f.store.SlowDown();
  std::vector<std::promise<uint64_t>> joined(3);
  const auto join = [&](uint64_t i) {
    f.loop->Submit(Worker(i + 1), [&joined, i](const absl::Status& s, SchedulerResponse response) {
      joined[i].set_value(s.ok() ? std::get<JoinResponse>(response).incarnation() : 0);
    });
  };
  std::thread first(join, 0);
  f.store.AwaitWrite(1);
  join(1);
  f.store.broken = true;
  f.store.EndWrite();
  first.join();
  join(2);
  CHECK(f.store.last_incarnation == 0);
  f.store.broken = false;
  f.store.SpeedUp();
  for (uint64_t i = 0; i < joined.size(); ++i) CHECK(joined[i].get_future().get() == i + 1);
  CHECK(f.store.last_incarnation == 3);
}

TEST_CASE("when storing is given up nothing is answered any more") {
  Fixture f(0);
  REQUIRE(f.loop->Start(2).ok());
  f.store.broken = true;
  std::promise<absl::Status> answer;
  f.loop->Submit(Worker(1), [&](const absl::Status& s, SchedulerResponse) { answer.set_value(s); });
  CHECK_FALSE(f.loop->Health().ok());
  f.store.broken = false;
  std::promise<absl::Status> later;
  f.loop->Submit(Worker(1), [&](const absl::Status& s, SchedulerResponse) { later.set_value(s); });
  f.loop->Stop();
  CHECK(absl::IsUnavailable(answer.get_future().get()));
  CHECK(absl::IsUnavailable(later.get_future().get()));
  CHECK(f.store.last_incarnation == 0);
}

TEST_CASE("a store that fails at the start keeps the loop from starting") {
  Fixture f;
  f.store.broken = true;
  CHECK_FALSE(f.loop->Start().ok());
}

// A job of one server, with a checkpoint.
SchedulerState OneServer() {
  SchedulerState state;
  state.set_format(1);
  state.set_generation(5);
  state.set_lr_scale(1);
  state.set_phase(TRAINING);
  state.set_epoch(1);
  state.set_last_incarnation(1);
  Member* server = state.add_members()->mutable_member();
  server->set_role(SERVER);
  server->set_incarnation(1);
  server->set_address("host:1");
  RoutingTable* table = state.mutable_routing();
  table->set_epoch(1);
  table->set_shards(1);
  table->add_primary(1);
  table->add_shard_epoch(1);
  *table->add_servers() = *server;
  CheckpointRecord* checkpoint = state.add_checkpoints();
  checkpoint->set_number(1);
  checkpoint->set_folder("ck/clock-000000000004");
  checkpoint->set_clock(3);
  return state;
}

TEST_CASE("a core that lost shards is replaced before anything of it is stored or said, or fails with the reason") {
  const bool restores = GENERATE(true, false);
  FakeStore store;
  RealClock clock;
  SchedulerOptions options;
  options.synchronous = false;
  options.train_splits.resize(1);
  options.train_splits[0].set_end(1);
  options.heartbeat_interval_ms = 10'000;
  options.lease_ms = 60'000;
  options.checkpoint_directory = "ck";
  options.job.mutable_cluster()->set_on_data_loss(ClusterConfig::RESTORE);
  auto core = *ClusterState::Create(options, OneServer());
  std::unique_ptr<ClusterState> next;
  SchedulerLoop::Hooks hooks;
  hooks.write_manifest = [](const ManifestOrder&) { return absl::OkStatus(); };
  hooks.restore = [&](const ClusterState& lost) -> absl::StatusOr<ClusterState*> {
    if (!restores) return absl::DataLossError("it is damaged");
    SchedulerOptions with = options;
    with.restored = true;
    SchedulerState state;
    state.set_restores(lost.Durable().restores() + 1);
    state.set_format(1);
    state.set_generation(6);
    state.set_last_incarnation(lost.Durable().last_incarnation());
    state.set_restored_from("ck/clock-000000000004");
    next = *ClusterState::Create(with, state);
    return next.get();
  };
  SchedulerLoop loop(core.get(), &store, &clock, hooks);
  REQUIRE(loop.Start(2).ok());
  const auto ignore = [](const absl::Status&, SchedulerResponse) {};
  loop.Submit(Worker(7), ignore);
  HeartbeatRequest beat;
  beat.set_incarnation(2);
  beat.set_seen_term(1);
  beat.set_generation(5);
  beat.set_routing_epoch(1);
  loop.Submit(beat, ignore);
  std::promise<std::pair<absl::Status, SchedulerResponse>> promise;  // of a call that waits for news
  loop.Submit(beat, [&](const absl::Status& s, SchedulerResponse r) { promise.set_value({s, std::move(r)}); });
  LeaveRequest leave;
  leave.set_incarnation(1);
  loop.Submit(leave, ignore);
  const auto [status, response] = promise.get_future().get();
  if (restores) {
    CHECK(absl::IsUnavailable(status));
    CHECK(loop.Durable().generation() == 6);
    CHECK(loop.Status().restores_total() == 1);
    CHECK(loop.Status().phase() == STARTING);
  } else {
    REQUIRE(status.ok());
    CHECK(std::get<HeartbeatResponse>(response).phase() == FAILED);
    CHECK_THAT(loop.Status().message(), Catch::Contains("it is damaged"));
    CHECK(loop.Durable().generation() == 5);
  }
  CHECK(store.generation == loop.Durable().generation());
  loop.Stop();
}

}  // namespace
}  // namespace tidegate
