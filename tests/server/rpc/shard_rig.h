#pragma once
// A server without a scheduler, on loopback, and clients of generated stubs. Its job has one table of SGD;
// workers 11 and 12 are members.

#include <grpcpp/client_context.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/rpc/channel.h"
#include "proto/shard_service.grpc.pb.h"
#include "server/rpc/shard_service.h"

namespace tidegate {

inline constexpr uint64_t kGeneration = 9;
inline constexpr Incarnation kServer = 3;
inline constexpr uint32_t kDim = 4;
inline constexpr float kLearningRate = 0.5f;

template <typename T>
std::string Pack(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}
inline std::vector<float> Floats(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

inline TableSpec SgdTable() {
  TableSpec spec;
  spec.set_id(0);
  spec.set_name("emb");
  PartSpec* part = spec.add_parts();
  part->set_name("v");
  part->set_dim(kDim);
  part->mutable_optimizer()->mutable_sgd()->set_lr(kLearningRate);
  return spec;
}

inline RoutingTable AllOn(Incarnation server, uint32_t shards, Epoch epoch) {
  RoutingTable table;
  table.set_epoch(epoch);
  table.set_shards(shards);
  for (uint32_t i = 0; i < shards; ++i) table.add_primary(server);
  Member* member = table.add_servers();
  member->set_incarnation(server);
  member->set_address("127.0.0.1:1");
  return table;
}

// A server without a scheduler, and a client of generated stubs.
struct Cluster {
  struct Settings {
    int executors = 1;
    bool synchronous = false;
    uint64_t message_limit_bytes = 1 << 20;
    uint64_t memory_limit_bytes = 0;
    bool open = true;
    ShardServiceHost::Limits limits = {};
  };

  explicit Cluster(const Settings& settings)
      : engine({settings.executors, settings.memory_limit_bytes,
                [this](Epoch epoch) { newest_epoch_seen = epoch; }}),
        service(&engine, settings.executors, settings.limits) {
    auto listening = Listen({}, [this](grpc::ServerBuilder& b) { service.Register(b); });
    REQUIRE(listening.ok());
    server = std::move(listening->server);
    service.Start();
    channel = MakeDataChannel(listening->address, 1 << 28);
    stub = ShardService::NewStub(channel);
    if (!settings.open) return;
    ShardEngine::JobOptions job;
    job.incarnation = kServer;
    job.generation = kGeneration;
    job.synchronous = settings.synchronous;
    job.message_limit_bytes = settings.message_limit_bytes;
    engine.Configure(job);
    REQUIRE(engine.SetRouting(*Routing::FromProto(AllOn(kServer, 16, 5))).ok());
    WorkerSet workers;
    workers.set_version(1);
    workers.set_last_incarnation(12);
    for (Incarnation worker : {11, 12}) workers.add_live(worker);
    engine.SetWorkers(workers);
    REQUIRE(engine.OpenTables(std::vector<TableSpec>{SgdTable()}).ok());
  }
  ~Cluster() {
    if (server != nullptr) service.Shutdown(server.get());
  }

  grpc::Status Push(const PushRequest& request, PushResponse* response = nullptr) {
    grpc::ClientContext context;
    PushResponse ignored;
    return stub->Push(&context, request, response == nullptr ? &ignored : response);
  }
  grpc::Status Pull(const PullRequest& request, PullResponse* response) {
    grpc::ClientContext context;
    return stub->Pull(&context, request, response);
  }
  std::vector<float> RowsOf(const std::vector<Key>& keys) {
    PullRequest request;
    request.set_mode(EVAL);
    request.add_tables()->set_keys(Pack(keys));
    PullResponse response;
    const grpc::Status status = Pull(request, &response);
    INFO(status.error_message());
    REQUIRE(status.ok());
    REQUIRE(response.tables_size() == 1);
    return Floats(response.tables(0).values());
  }
  ClockResponse Announce(Incarnation worker, uint64_t order, Clock tick = -2) {
    ClockRequest request = Announcement(worker, order, tick);
    ClockResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub->Clock(&context, request, &response);
    INFO(status.error_message());
    REQUIRE(status.ok());
    return response;
  }
  static ClockRequest Announcement(Incarnation worker, uint64_t order, Clock tick) {
    ClockRequest request;
    request.mutable_stamp()->set_generation(kGeneration);
    request.mutable_stamp()->set_epoch(5);
    request.mutable_stamp()->set_incarnation(worker);
    request.set_order(order);
    if (tick == -2) {
      request.mutable_hello();
    } else {
      request.mutable_tick()->set_clock(tick);
    }
    return request;
  }
  void WaitForParked(uint64_t count) {
    for (int i = 0; engine.Collect().parked_pulls != count; ++i) {
      REQUIRE(i < 2000);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  std::atomic<Epoch> newest_epoch_seen{0};
  ShardEngine engine;
  ShardServiceHost service;
  std::unique_ptr<grpc::Server> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<ShardService::Stub> stub;
};

inline PushRequest GuestPush(const std::vector<Key>& keys, const std::vector<float>& values,
                      double weight = 1) {
  PushRequest request;
  request.set_weight(weight);
  TableGradients* table = request.add_tables();
  table->set_keys(Pack(keys));
  table->set_values(Pack(values));
  return request;
}
inline PushRequest WorkerPush(Incarnation worker, Sequence sequence, Clock clock,
                       const std::vector<Key>& keys, const std::vector<float>& values,
                       double weight = 1) {
  PushRequest request = GuestPush(keys, values, weight);
  request.mutable_stamp()->set_generation(kGeneration);
  request.mutable_stamp()->set_epoch(5);
  request.mutable_stamp()->set_incarnation(worker);
  request.set_sequence(sequence);
  request.set_oldest_unacked(sequence);
  request.set_clock(clock);
  request.set_parts(1);
  return request;
}
inline PullRequest WorkerPull(Incarnation worker, Clock clock, Clock bound, const std::vector<Key>& keys) {
  PullRequest request;
  request.mutable_stamp()->set_generation(kGeneration);
  request.mutable_stamp()->set_epoch(5);
  request.mutable_stamp()->set_incarnation(worker);
  request.set_clock(clock);
  request.set_bound(bound);
  request.add_tables()->set_keys(Pack(keys));
  return request;
}

// One end of a Stream, by the generated stub.
struct StreamClient {
  explicit StreamClient(ShardService::Stub* stub) : io(stub->Stream(&context)) {}
  template <typename Fill>
  void Send(uint64_t call, Fill fill) {
    StreamRequest request;
    request.set_call(call);
    fill(&request);
    REQUIRE(io->Write(request));
  }
  StreamResponse Receive() {
    StreamResponse response;
    REQUIRE(io->Read(&response));
    return response;
  }
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<StreamRequest, StreamResponse>> io;
};

}  // namespace tidegate
