#include "worker/client/rpc/cluster_client.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <future>
#include <thread>

#include "tests/worker/client/rpc/fake_shard_server.h"

namespace tidegate {
namespace {

using Fault = FakeShardServer::Fault;

std::shared_ptr<const Routing> RoutingOf(const std::vector<std::string>& addresses) {
  RoutingTable table;
  table.set_epoch(1);
  table.set_shards(8);
  for (size_t i = 0; i < addresses.size(); ++i) {
    Member* m = table.add_servers();
    m->set_incarnation(i + 1);
    m->set_address(addresses[i]);
  }
  for (size_t s = 0; s < 8; ++s) table.add_primary(s % addresses.size() + 1);
  return std::make_shared<const Routing>(Routing::FromProto(table).value());
}

ClusterClient::Options Options() {
  ClusterClient::Options o;
  o.tracker.incarnation = 9;
  o.tracker.attempt_timeout_ms = 300;
  o.tracker.retry = {.backoff_min_ms = 1, .backoff_max_ms = 20, .seed = 1};
  return o;
}

absl::Status PushAll(ClusterClient* client, const std::vector<Key>& keys, float gradient) {
  std::vector<float> g(keys.size(), gradient);
  const TablePush push{0, keys, g, {}};
  std::promise<absl::Status> done;
  client->Push(0, 1, {&push, 1}, [&](ParameterClient::PushResult r) { done.set_value(std::move(r.status)); });
  g.assign(g.size(), -99);
  return done.get_future().get();
}

ParameterClient::PullResult PullAll(ClusterClient* client, const std::vector<Key>& keys,
                                    std::vector<float>* rows) {
  rows->assign(keys.size(), -1);
  const TablePull pull{0, keys, *rows};
  std::promise<ParameterClient::PullResult> done;
  client->Pull(5, 3, {&pull, 1}, [&](ParameterClient::PullResult r) { done.set_value(std::move(r)); });
  return done.get_future().get();
}

// The clock of the newest Tick that the server got; -1: none.
Clock TickOf(FakeShardServer* server) {
  Clock clock = -1;
  for (const ClockRequest& request : server->clocks()) {
    if (request.has_tick()) clock = request.tick().clock();
  }
  return clock;
}

std::vector<Key> Keys(size_t n) {
  std::vector<Key> keys(n);
  for (size_t i = 0; i < n; ++i) keys[i] = 10 + i;
  return keys;
}

}  // namespace

TEST_CASE("pulls and pushes reach the servers of their keys and come back in place") {
  FakeShardServer a, b;
  ClusterClient client(Options());
  client.SetRouting(RoutingOf({a.address(), b.address()}));
  const auto keys = Keys(20'000);
  REQUIRE(PushAll(&client, keys, 0.5f).ok());
  std::vector<float> rows;
  const auto result = PullAll(&client, keys, &rows);
  REQUIRE(result.status.ok());
  CHECK(result.min_clock == 3);
  for (size_t i = 0; i < keys.size(); ++i) REQUIRE(rows[i] == static_cast<float>(keys[i]) - 0.5f);
  CHECK(client.stats().tracker.rows_pulled == keys.size());
  CHECK(client.stats().bytes_sent > keys.size() * 12);
  CHECK(a.streams() == 1);
}

TEST_CASE("whatever happens to a connection, a push is applied once and acknowledged") {
  const auto faults = GENERATE(
      std::vector<Fault>{Fault::kBreakBefore}, std::vector<Fault>{Fault::kBreakAfter},
      std::vector<Fault>{Fault::kUnavailable, Fault::kUnavailable}, std::vector<Fault>{Fault::kSilent},
      std::vector<Fault>{Fault::kBreakAfter, Fault::kSilent, Fault::kBreakBefore});
  FakeShardServer server;
  server.Plan(faults);
  ClusterClient client(Options());
  client.SetRouting(RoutingOf({server.address()}));
  REQUIRE(PushAll(&client, {42}, 2).ok());
  CHECK(server.Row(42) == 40);
  CHECK(client.stats().tracker.retries >= 1);
}

TEST_CASE("a server that is not there yet is waited for") {
  std::string address;
  {
    FakeShardServer probe;
    address = probe.address();
  }
  ClusterClient client(Options());
  client.SetRouting(RoutingOf({address}));
  std::promise<absl::Status> done;
  const std::vector<Key> keys = {1};
  const std::vector<float> g = {1};
  const TablePush push{0, keys, g, {}};
  client.Push(0, 1, {&push, 1}, [&](ParameterClient::PushResult r) { done.set_value(std::move(r.status)); });
  FakeShardServer server(std::stoi(address.substr(address.find(':') + 1)));
  CHECK(done.get_future().get().ok());
  CHECK(server.Row(1) == 0);
}

TEST_CASE("a server that never answers at its address is told by name, once") {
  std::string nowhere;
  {
    FakeShardServer probe;
    nowhere = probe.address();
  }
  std::promise<std::string> told;
  ClusterClient::Options options = Options();
  options.unreachable_after_ms = 1;
  options.unreachable = [&](const std::string& why) { told.set_value(why); };  // a second time would throw
  ClusterClient client(options);
  client.SetRouting(RoutingOf({nowhere}));
  client.Announce([](auto) {});
  const std::string why = told.get_future().get();
  CHECK_THAT(why, Catch::Contains("server 1 cannot be reached at " + nowhere) && Catch::Contains("--advertise"));
  client.Stop();
}

TEST_CASE("a server that is gone is told as unreachable, until it answers again") {
  auto server = std::make_unique<FakeShardServer>();
  const std::string address = server->address();
  std::promise<void> lost;
  ClusterClient::Options options = Options();
  options.lost_server = [&] { lost.set_value(); };  // a second time would throw
  ClusterClient client(options);
  client.SetRouting(RoutingOf({address}));
  REQUIRE(PushAll(&client, {1}, 1).ok());
  CHECK(client.UnreachableServers().empty());
  server.reset();
  const std::vector<Key> keys = {1};
  const std::vector<float> g = {1};
  const TablePush push{0, keys, g, {}};
  std::promise<absl::Status> done;
  client.Push(1, 1, {&push, 1}, [&](ParameterClient::PushResult r) { done.set_value(std::move(r.status)); });
  lost.get_future().get();
  CHECK(client.UnreachableServers() == std::vector<Incarnation>{1});
  server = std::make_unique<FakeShardServer>(std::stoi(address.substr(address.find(':') + 1)));
  CHECK(done.get_future().get().ok());
  CHECK(client.UnreachableServers().empty());
}

TEST_CASE("Stop ends calls under way with CANCELLED, and later ones too") {
  FakeShardServer server;
  server.Plan({Fault::kSilent});
  ClusterClient client(Options());
  client.SetRouting(RoutingOf({server.address()}));
  const std::vector<Key> keys = {1};
  std::vector<float> rows(1);
  const TablePull pull{0, keys, rows};
  std::promise<absl::Status> done, later;
  client.Pull(0, -1, {&pull, 1}, [&](auto r) { done.set_value(r.status); });
  client.Stop();
  CHECK(done.get_future().get().code() == absl::StatusCode::kCancelled);
  client.Pull(0, -1, {&pull, 1}, [&](auto r) { later.set_value(r.status); });
  CHECK(later.get_future().get().code() == absl::StatusCode::kCancelled);
}

TEST_CASE("a client without routing stops too") {
  ClusterClient client(Options());
  std::promise<absl::Status> done;
  const std::vector<Key> keys = {1};
  std::vector<float> rows(1);
  const TablePull pull{0, keys, rows};
  client.Pull(0, -1, {&pull, 1}, [&](auto r) { done.set_value(r.status); });
  client.Stop();
  CHECK(done.get_future().get().code() == absl::StatusCode::kCancelled);
}

TEST_CASE("Announce, ticks and Park reach every server") {
  FakeShardServer a, b;
  ClusterClient client(Options());
  client.SetRouting(RoutingOf({a.address(), b.address()}));
  std::promise<absl::StatusOr<Clock>> announced;
  client.Announce([&](absl::StatusOr<Clock> c) { announced.set_value(std::move(c)); });
  const auto start = announced.get_future().get();
  REQUIRE(start.ok());
  CHECK(*start == 5);
  client.EndClock(5);
  for (FakeShardServer* s : {&a, &b}) {
    while (TickOf(s) < 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // a Park would replace it
  }
  std::promise<absl::Status> parked;
  client.Park([&](absl::Status s) { parked.set_value(std::move(s)); });
  REQUIRE(parked.get_future().get().ok());
  for (FakeShardServer* s : {&a, &b}) {
    const auto clocks = s->clocks();
    REQUIRE(clocks.size() >= 2);
    CHECK(clocks.front().has_hello());
    CHECK(TickOf(s) == 5);
    CHECK(clocks.back().has_park());
    CHECK(clocks.back().stamp().incarnation() == 9);
  }
}

TEST_CASE("a refusal with rejoin fences the client") {
  FakeShardServer server;
  server.Plan({Fault::kRejoin});
  ClusterClient client(Options());
  client.SetRouting(RoutingOf({server.address()}));
  CHECK(PushAll(&client, {1}, 1).code() == absl::StatusCode::kFailedPrecondition);
  CHECK(client.health().code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("calls from several threads, and from callbacks, all complete") {
  FakeShardServer a, b;
  ClusterClient client(Options());
  client.SetRouting(RoutingOf({a.address(), b.address()}));
  const auto keys = Keys(50);
  constexpr int kThreads = 4, kPushes = 50;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kPushes; ++i) {
        std::vector<float> rows(keys.size()), g(keys.size(), 1);
        const TablePull pull{0, keys, rows};
        const TablePush push{0, keys, g, {}};
        std::promise<absl::Status> done;
        client.Pull(0, -1, {&pull, 1}, [&](ParameterClient::PullResult r) {
          if (!r.status.ok()) done.set_value(r.status);
          else client.Push(0, 1, {&push, 1}, [&](ParameterClient::PushResult r) { done.set_value(std::move(r.status)); });
        });
        if (!done.get_future().get().ok()) std::abort();
      }
    });
  }
  for (auto& t : threads) t.join();
  std::vector<float> rows;
  REQUIRE(PullAll(&client, keys, &rows).status.ok());
  for (size_t i = 0; i < keys.size(); ++i) {
    CHECK(rows[i] == static_cast<float>(keys[i]) - kThreads * kPushes);
  }
}

}  // namespace tidegate
