#include "server/rpc/replica_links.h"

#include <grpcpp/server.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "common/clock.h"
#include "common/rpc/channel.h"
#include "common/wire/replica_wire.h"
#include "server/rpc/connection_acceptor.h"
#include "server/rpc/replica_service.h"

namespace tidegate {
namespace {

constexpr Incarnation kSelf = 3, kFollower = 4;

OutRecord RecordOf(uint64_t index) {
  OutRecord record;
  record.follower = kFollower;
  record.index = index;
  record.body = wire::SweepRecord{0, 1, {0}};
  record.bytes = 100;
  record.epoch = 5;
  return record;
}

}  // namespace

TEST_CASE("a log whose stream is silent is sent on a new one, and a follower that grants is no less reachable") {
  std::mutex mutex;
  std::set<std::shared_ptr<ReplicaPeer>> log_streams;
  ReplicaServiceHost follower([&](const std::shared_ptr<ReplicaPeer>& peer, OwnedBytes message) {
    auto request = wire::ParseReplicaRequest(message.bytes);
    REQUIRE(request.ok());
    ReplicaResponse answer;
    answer.set_epoch(5);
    if (request->index == 0) {
      answer.set_grant(true);
      answer.set_sent_ms(static_cast<uint64_t>(request->sent_ms));
      peer->Answer(answer);
      return;
    }
    std::lock_guard lock(mutex);
    log_streams.insert(peer);
    if (log_streams.size() < 3) return;  // lost
    ReplicaAck* ack = answer.add_acks();
    ack->set_lane(request->lane);
    ack->set_index(request->index);
    peer->Answer(answer);
  });
  ConnectionAcceptor acceptor;
  auto listening = Listen({}, [&](grpc::ServerBuilder& b) {
    acceptor.Register(b);
    follower.Register(b);
  });
  REQUIRE(listening.ok());
  acceptor.Start();
  follower.Start({});
  const RealClock clock;
  std::atomic<uint64_t> acknowledged{0};
  std::atomic<int> unreachable{0};
  {
    ReplicaLinks::Options options;
    options.self = kSelf;
    options.grant_ms = 2000;
    options.log_silent_ms = 300;
    options.message_limit_bytes = 1 << 20;
    options.clock = &clock;
    ReplicaLinks::Callbacks callbacks;
    callbacks.acknowledged = [&](Incarnation, uint32_t, uint64_t index, bool by_executor) {
      CHECK_FALSE(by_executor);
      acknowledged = index;
    };
    callbacks.granted = [](Incarnation, TimeMs) {};
    callbacks.newer_epoch = [](Epoch) {};
    callbacks.unreachable_changed = [&] { ++unreachable; };
    callbacks.tick = [](TimeMs) {};
    ReplicaLinks links(options, callbacks);
    links.Append(0, RecordOf(1));
    links.Append(0, RecordOf(2));
    links.SetRouting(5, {{{kFollower, listening->address}, 1}});
    for (int i = 0; acknowledged < 2; ++i) {
      REQUIRE(i < 4000);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    CHECK(links.Unreachable().empty());
    CHECK(links.Collect().unacknowledged_records == 0);
  }
  CHECK(unreachable == 0);
  log_streams.clear();
  follower.CloseStreams();
  listening->server->Shutdown();
  acceptor.Stop();
  follower.Join();
}

}  // namespace tidegate
