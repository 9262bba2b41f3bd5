#pragma once
// Servers without a scheduler that replicate to each other on loopback; routing tables are made by hand.

#include <functional>
#include <future>

#include "proto/replica_service.grpc.pb.h"
#include "server/rpc/replication.h"
#include "tests/server/rpc/shard_rig.h"

namespace tidegate {

inline constexpr uint32_t kShards = 16;

struct Node {
  struct Settings {
    Incarnation incarnation = 0;
    int executors = 2;
    bool synchronous = false;
    TimeMs grant_ms = 2000;
    TimeMs digest_interval_ms = 0;
  };

  explicit Node(const Settings& settings)
      : incarnation(settings.incarnation),
        engine({settings.executors, 0, [this](Epoch epoch) { newest_epoch_seen = epoch; }}),
        replication(&engine),
        service(&engine, settings.executors),
        replica_service([this](const std::shared_ptr<ReplicaPeer>& peer, OwnedBytes message) {
          replication.Handle(peer, std::move(message));
        }) {
    auto listening = Listen({}, [this](grpc::ServerBuilder& b) {
      service.Register(b);
      replica_service.Register(b);
    });
    REQUIRE(listening.ok());
    server = std::move(listening->server);
    address = listening->address;
    service.Start();
    replica_service.Start(service.queues());
    stub = ShardService::NewStub(MakeDataChannel(address, 1 << 28));
    ShardEngine::JobOptions job;
    job.incarnation = incarnation;
    job.generation = kGeneration;
    job.synchronous = settings.synchronous;
    job.durable = true;
    engine.Configure(job);
    Replication::Options options;
    options.generation = kGeneration;
    options.self = incarnation;
    options.grant_ms = settings.grant_ms;
    options.digest_interval_ms = settings.digest_interval_ms;
    for (grpc::ServerCompletionQueue* queue : service.queues()) options.queues.push_back(queue);
    options.newer_epoch = [this](Epoch epoch) { newest_epoch_seen = epoch; };
    options.report = [this] { ++reports; };
    replication.Configure(options);
  }
  ~Node() {
    replication.CloseLinks();
    replica_service.CloseStreams();
    service.Shutdown(server.get());
    replica_service.Join();
    service.Join();
    replication.Stop();
  }

  void Take(const RoutingTable& table) {
    const absl::Status status = replication.SetRouting(*Routing::FromProto(table));
    INFO(status.ToString());
    REQUIRE(status.ok());
  }
  void Open() {
    WorkerSet workers;
    workers.set_version(1);
    workers.set_last_incarnation(12);
    for (Incarnation worker : {11, 12}) workers.add_live(worker);
    engine.SetWorkers(workers);
    REQUIRE(engine.OpenTables(std::vector<TableSpec>{SgdTable()}).ok());
  }
  grpc::Status Push(const PushRequest& request, PushResponse* response = nullptr) {
    grpc::ClientContext context;
    PushResponse ignored;
    return stub->Push(&context, request, response == nullptr ? &ignored : response);
  }
  // Tried again while it is UNAVAILABLE.
  void PushUntilTaken(const PushRequest& request, PushResponse* response = nullptr) {
    WaitFor([&] {
      const grpc::Status status = Push(request, response);
      INFO(status.error_message());
      REQUIRE((status.ok() || status.error_code() == grpc::StatusCode::UNAVAILABLE));
      return status.ok();
    });
  }
  grpc::Status Pull(const std::vector<Key>& keys, std::vector<float>* rows) {
    PullRequest request;
    request.set_mode(EVAL);
    request.add_tables()->set_keys(Pack(keys));
    PullResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub->Pull(&context, request, &response);
    if (status.ok()) *rows = Floats(response.tables(0).values());
    return status;
  }
  std::vector<float> RowsOf(const std::vector<Key>& keys) {
    std::vector<float> rows;
    WaitFor([&] { return Pull(keys, &rows).ok(); });
    return rows;
  }
  uint64_t Digest(ShardId shard) {
    uint64_t digest = 0;
    REQUIRE(engine.VisitShard(shard, [&](ShardGroup& group) { digest = group.ShardDigest(shard); }).ok());
    return digest;
  }
  size_t HeldPushes() {
    size_t held = 0;
    for (ShardId shard : engine.shards()) {
      REQUIRE(engine.VisitShard(shard, [&](ShardGroup& group) { held += group.log().held(); }).ok());
    }
    return held;
  }
  HeartbeatRequest Heartbeat() {
    HeartbeatRequest request;
    replication.FillHeartbeat(&request);
    return request;
  }
  static void WaitFor(const std::function<bool()>& condition) {
    for (int i = 0; !condition(); ++i) {
      REQUIRE(i < 4000);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  const Incarnation incarnation;
  std::string address;
  std::atomic<Epoch> newest_epoch_seen{0};
  std::atomic<int> reports{0};
  ShardEngine engine;
  Replication replication;
  ShardServiceHost service;
  ReplicaServiceHost replica_service;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<ShardService::Stub> stub;
};

struct Place {
  Incarnation incarnation;
  std::string address;
};
inline Place PlaceOf(const Node& node) { return {node.incarnation, node.address}; }

// All shards: led by the first, followed by the others.
inline RoutingTable Replicated(Epoch epoch, const std::vector<Place>& holders, Incarnation joining = 0,
                               Epoch shard_epoch = 5) {
  RoutingTable table;
  table.set_epoch(epoch);
  table.set_shards(kShards);
  table.set_backup_slots(2);
  table.set_primary_epoch(shard_epoch);
  table.set_worker_set_version(1);
  for (const Place& place : holders) {
    Member* member = table.add_servers();
    member->set_incarnation(place.incarnation);
    member->set_address(place.address);
  }
  for (uint32_t shard = 0; shard < kShards; ++shard) {
    table.add_primary(holders[0].incarnation);
    for (size_t slot = 1; slot <= 2; ++slot) {
      const bool backup = slot < holders.size() && holders[slot].incarnation != joining;
      table.add_backups(backup ? holders[slot].incarnation : 0);
    }
    table.add_joining(joining);
    table.add_shard_epoch(shard_epoch);
  }
  return table;
}

inline std::vector<Key> SomeKeys(Key first = 1) {
  std::vector<Key> keys;
  for (Key key = first; key < first + 40; ++key) keys.push_back(key);
  return keys;
}
inline std::vector<float> Gradients(size_t keys, float value) { return std::vector<float>(keys * kDim, value); }

inline void CheckSame(Node& a, Node& b) {
  for (ShardId shard = 0; shard < kShards; ++shard) CHECK(a.Digest(shard) == b.Digest(shard));
}

}  // namespace tidegate
