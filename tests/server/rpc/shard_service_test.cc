#include "server/rpc/shard_service.h"

#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/rpc/channel.h"
#include "proto/shard_service.grpc.pb.h"

namespace tidegate {
namespace {

constexpr uint64_t kGeneration = 9;
constexpr Incarnation kServer = 3;
constexpr uint32_t kDim = 4;
constexpr float kLearningRate = 0.5f;

template <typename T>
std::string Pack(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}
std::vector<float> Floats(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

TableSpec SgdTable() {
  TableSpec spec;
  spec.set_id(0);
  spec.set_name("emb");
  PartSpec* part = spec.add_parts();
  part->set_name("v");
  part->set_dim(kDim);
  part->mutable_optimizer()->mutable_sgd()->set_lr(kLearningRate);
  return spec;
}

RoutingTable AllOn(Incarnation server, uint32_t shards, Epoch epoch) {
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

PushRequest GuestPush(const std::vector<Key>& keys, const std::vector<float>& values,
                      double weight = 1) {
  PushRequest request;
  request.set_weight(weight);
  TableGradients* table = request.add_tables();
  table->set_keys(Pack(keys));
  table->set_values(Pack(values));
  return request;
}
PushRequest WorkerPush(Incarnation worker, Sequence sequence, Clock clock,
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
PullRequest WorkerPull(Incarnation worker, Clock clock, Clock bound, const std::vector<Key>& keys) {
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

}  // namespace

TEST_CASE("a guest's push changes rows exactly as SGD says, on any number of executors") {
  for (int executors : {1, 3}) {
    Cluster cluster({.executors = executors});
    std::vector<Key> keys;
    std::vector<float> gradients;
    for (Key k = 0; k < 500; ++k) {
      keys.push_back(k * 7919);
      for (uint32_t i = 0; i < kDim; ++i) gradients.push_back(static_cast<float>(k) + 0.25f * i);
    }
    REQUIRE(cluster.Push(GuestPush(keys, gradients, 2)).ok());
    keys.push_back(123456789);  // absent: the initialiser
    const std::vector<float> rows = cluster.RowsOf(keys);
    REQUIRE(rows.size() == keys.size() * kDim);
    for (size_t i = 0; i < gradients.size(); ++i) {
      REQUIRE(rows[i] == 0.0f - kLearningRate * (gradients[i] * 0.5f));
    }
    for (size_t i = gradients.size(); i < rows.size(); ++i) CHECK(rows[i] == 0);
    CHECK(cluster.engine.Collect().tables.at(0).rows == 500);
  }
}

TEST_CASE("a worker's repeated push is applied once") {
  Cluster cluster({.executors = 2});
  cluster.Announce(11, 0);
  const PushRequest push = WorkerPush(11, 1, 0, {1, 2, 3}, std::vector<float>(12, 1.0f));
  PushResponse response;
  REQUIRE(cluster.Push(push, &response).ok());
  CHECK(response.duplicate_rows() == 0);
  REQUIRE(cluster.Push(push, &response).ok());
  CHECK(response.duplicate_rows() == 3);
  CHECK(cluster.RowsOf({1})[0] == -kLearningRate);
}

TEST_CASE("a refused message changes nothing, and says why") {
  Cluster cluster({.executors = 2});
  REQUIRE(cluster.Push(GuestPush({1}, {1, 1, 1, 1})).ok());
  const float nan = std::numeric_limits<float>::quiet_NaN();

  PushRequest request = GuestPush({1, 2}, {1, 1, 1, 1, 1, nan, 1, 1});
  CHECK(cluster.Push(request).error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(cluster.engine.Collect().refused.non_finite == 1);
  request = GuestPush({1, 2}, {1, 1, 1, 1});
  grpc::Status status = cluster.Push(request);
  CHECK(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(status.error_message().find("16") != std::string::npos);  // the bytes that came
  request = GuestPush({1}, {1, 1, 1, 1});
  request.mutable_tables(0)->set_keys("odd");
  CHECK(cluster.Push(request).error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  request = GuestPush({1}, {1, 1, 1, 1});
  request.mutable_tables(0)->set_table(7);
  CHECK(cluster.Push(request).error_code() == grpc::StatusCode::NOT_FOUND);
  request = GuestPush({1}, {1, 1, 1, 1}, -1);
  CHECK(cluster.Push(request).error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  request = GuestPush({1}, {1, 1, 1, 1});
  request.mutable_stamp()->set_generation(kGeneration + 1);
  status = cluster.Push(request);
  CHECK(status.error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(status.error_message().find("generation") != std::string::npos);

  PullRequest pull;
  pull.set_mode(EVAL);
  pull.add_tables()->set_table(3);
  PullResponse response;
  CHECK(cluster.Pull(pull, &response).error_code() == grpc::StatusCode::NOT_FOUND);

  CHECK(cluster.RowsOf({1, 2}) ==
        std::vector<float>{-kLearningRate, -kLearningRate, -kLearningRate, -kLearningRate, 0, 0, 0, 0});
  CHECK(cluster.engine.Collect().refused.pushes >= 4);
  CHECK(cluster.engine.Collect().shards.pushes_refused_generation == 1);
  request.mutable_tables(0)->set_keys(Pack<Key>({1, 2, 3, 4, 5, 6, 7, 8}));
  request.mutable_tables(0)->set_values(std::string(8 * 16, '\0'));
  CHECK(cluster.Push(request).error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(cluster.engine.Collect().shards.pushes_refused_generation == 2);
}

TEST_CASE("messages above the limit are refused, by stream with their call number") {
  Cluster cluster({.message_limit_bytes = 4096});
  const std::vector<Key> keys(1000, 1);
  const grpc::Status status = cluster.Push(GuestPush(keys, std::vector<float>(4000)));
  CHECK(status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  CHECK(status.error_message().find("4096") != std::string::npos);
  StreamClient stream(cluster.stub.get());
  stream.Send(77, [&](StreamRequest* r) {
    *r->mutable_push() = GuestPush(keys, std::vector<float>(4000));
  });
  const StreamResponse answer = stream.Receive();
  CHECK(answer.call() == 77);
  CHECK(answer.code() == static_cast<uint32_t>(grpc::StatusCode::RESOURCE_EXHAUSTED));
  // A small request can ask for a large answer, too.
  std::vector<Key> many(400);
  for (Key k = 0; k < many.size(); ++k) many[k] = k;
  PullRequest pull;
  pull.set_mode(EVAL);
  pull.add_tables()->set_keys(Pack(many));
  PullResponse response;
  CHECK(cluster.Pull(pull, &response).error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  CHECK(cluster.engine.Collect().refused.too_large == 2);
}

TEST_CASE("a newer epoch sets off a fetch of the routing table, an older one is served") {
  Cluster cluster({});
  cluster.Announce(11, 0);
  PullResponse response;
  PullRequest pull = WorkerPull(11, 0, -1, {1});
  pull.mutable_stamp()->set_epoch(4);
  CHECK(cluster.Pull(pull, &response).ok());
  CHECK(response.epoch() == 5);
  CHECK(cluster.newest_epoch_seen == 0);
  pull.mutable_stamp()->set_epoch(6);
  CHECK(cluster.Pull(pull, &response).error_code() == grpc::StatusCode::UNAVAILABLE);
  CHECK(cluster.newest_epoch_seen == 6);
}

TEST_CASE("before it has joined and opened tables a server asks to try again") {
  Cluster cluster({.open = false});
  PullRequest pull;
  pull.add_tables()->set_keys(Pack<Key>({1}));
  PullResponse response;
  CHECK(cluster.Pull(pull, &response).error_code() == grpc::StatusCode::UNAVAILABLE);
  cluster.engine.Configure({});
  CHECK(cluster.Pull(pull, &response).error_code() == grpc::StatusCode::UNAVAILABLE);
}

TEST_CASE("the memory limit refuses pushes that need new rows and nothing else") {
  Cluster cluster({.memory_limit_bytes = 1});
  grpc::Status status = cluster.Push(GuestPush({1}, {1, 1, 1, 1}));
  CHECK(status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  CHECK(status.error_message().find("--memory_limit_bytes") != std::string::npos);
  CHECK(cluster.RowsOf({1}) == std::vector<float>(4));
}

TEST_CASE("stream answers come when they are ready, whatever was sent first") {
  for (int executors : {1, 3}) {
    Cluster cluster({.executors = executors});
    CHECK(cluster.Announce(11, 0).min_clock() == -1);
    CHECK(cluster.Announce(12, 0).min_clock() == -1);
    StreamClient stream(cluster.stub.get());
    std::vector<Key> keys(64);
    for (Key k = 0; k < keys.size(); ++k) keys[k] = k + 1;
    stream.Send(1, [&](StreamRequest* r) { *r->mutable_pull() = WorkerPull(11, 1, 0, keys); });
    cluster.WaitForParked(static_cast<uint64_t>(executors));
    stream.Send(2, [&](StreamRequest* r) {
      *r->mutable_push() =
          WorkerPush(11, 1, 0, keys, std::vector<float>(keys.size() * kDim, 2.0f));
    });
    const StreamResponse pushed = stream.Receive();
    CHECK(pushed.call() == 2);
    CHECK(pushed.code() == 0);
    stream.Send(3, [&](StreamRequest* r) { *r->mutable_clock() = Cluster::Announcement(11, 1, 0); });
    CHECK(stream.Receive().call() == 3);
    cluster.WaitForParked(static_cast<uint64_t>(executors));  // worker 12 has not ticked
    cluster.Announce(12, 1, 0);
    const StreamResponse pulled = stream.Receive();
    CHECK(pulled.call() == 1);
    CHECK(pulled.code() == 0);
    CHECK(pulled.pull().min_clock() == 0);
    CHECK(Floats(pulled.pull().tables(0).values()) ==
          std::vector<float>(keys.size() * kDim, -2.0f * kLearningRate));
    stream.io->WritesDone();
    CHECK(stream.io->Finish().ok());
  }
}

TEST_CASE("a stream that is closed after its requests still gets all answers") {
  Cluster cluster({});
  StreamClient stream(cluster.stub.get());
  for (uint64_t call = 1; call <= 50; ++call) {
    stream.Send(call, [&](StreamRequest* r) {
      *r->mutable_push() = GuestPush({call}, {1, 1, 1, 1});
    });
  }
  stream.io->WritesDone();
  uint64_t answers = 0;
  StreamResponse response;
  while (stream.io->Read(&response)) answers += response.code() == 0;
  CHECK(answers == 50);
  CHECK(stream.io->Finish().ok());
}

TEST_CASE("a stream whose peer breaks its credits is ended") {
  SECTION("more unanswered requests than allowed") {
    Cluster cluster({.limits = {.unanswered_max = 8}});
    cluster.Announce(11, 0);
    StreamClient stream(cluster.stub.get());
    for (uint64_t call = 1; call <= 9; ++call) {
      stream.Send(call, [&](StreamRequest* r) {
        *r->mutable_pull() = WorkerPull(11, static_cast<Clock>(call) + 1, static_cast<Clock>(call), {1});
      });
    }
    StreamResponse none;
    CHECK(!stream.io->Read(&none));
    CHECK(stream.io->Finish().error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
    cluster.WaitForParked(0);
  }
  SECTION("answers that nobody reads") {
    Cluster cluster({.message_limit_bytes = 8 << 20, .limits = {.unread_bytes_max = 1 << 20}});
    StreamClient stream(cluster.stub.get());
    std::vector<Key> keys(1 << 16);  // 1 MiB of rows
    for (Key k = 0; k < keys.size(); ++k) keys[k] = k;
    const std::string packed = Pack(keys);
    StreamRequest request;
    request.mutable_pull()->set_mode(EVAL);
    request.mutable_pull()->add_tables()->set_keys(packed);
    for (int sent = 0; sent < 1000 && stream.io->Write(request); ++sent) {
    }
    StreamResponse response;
    while (stream.io->Read(&response)) {
    }
    CHECK(stream.io->Finish().error_code() == grpc::StatusCode::CANCELLED);
  }
}

TEST_CASE("a broken stream takes its parked pulls with it") {
  Cluster cluster({.executors = 2});
  cluster.Announce(11, 0);
  {
    StreamClient stream(cluster.stub.get());
    std::vector<Key> keys(64);
    for (Key k = 0; k < keys.size(); ++k) keys[k] = k;
    stream.Send(1, [&](StreamRequest* r) { *r->mutable_pull() = WorkerPull(11, 5, 4, keys); });
    cluster.WaitForParked(2);
    stream.context.TryCancel();
    CHECK(stream.io->Finish().error_code() == grpc::StatusCode::CANCELLED);
  }
  cluster.WaitForParked(0);
}

TEST_CASE("bytes that are no message are answered, and the stream lives on") {
  Cluster cluster({});
  grpc::GenericStub stub(cluster.channel);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  auto io = stub.PrepareCall(&context, "/tidegate.ShardService/Stream", &queue);
  const auto next = [&] {
    void* tag;
    bool ok = false;
    REQUIRE(queue.Next(&tag, &ok));
    return ok;
  };
  io->StartCall(nullptr);
  REQUIRE(next());
  const auto exchange = [&](const std::string& bytes) {
    grpc::Slice slice(bytes);
    io->Write(grpc::ByteBuffer(&slice, 1), nullptr);
    REQUIRE(next());
    grpc::ByteBuffer in;
    io->Read(&in, nullptr);
    REQUIRE(next());
    grpc::Slice whole;
    REQUIRE(in.DumpToSingleSlice(&whole).ok());
    StreamResponse response;
    REQUIRE(response.ParseFromArray(whole.begin(), static_cast<int>(whole.size())));
    return response;
  };
  CHECK(exchange("\xff\xff\xff").code() == static_cast<uint32_t>(grpc::StatusCode::INVALID_ARGUMENT));
  StreamRequest good;
  good.set_call(5);
  *good.mutable_push() = GuestPush({1}, {1, 1, 1, 1});
  const StreamResponse response = exchange(good.SerializeAsString());
  CHECK(response.call() == 5);
  CHECK(response.code() == 0);
  context.TryCancel();
  grpc::Status status;
  io->Finish(&status, nullptr);
  next();
  queue.Shutdown();
  void* tag;
  bool ok;
  while (queue.Next(&tag, &ok)) {
  }
}

TEST_CASE("at staleness 0 a push is acknowledged when all workers' are in, and applied as one") {
  for (int executors : {1, 3}) {
    Cluster cluster({.executors = executors, .synchronous = true});
    cluster.Announce(11, 0);
    cluster.Announce(12, 0);
    std::atomic<bool> first_done = false;
    grpc::Status first;
    std::thread waiting([&] {
      first = cluster.Push(WorkerPush(11, 1, 0, {1, 2}, {3, 3, 3, 3, 1, 1, 1, 1}, 3));
      first_done = true;
    });
    while (cluster.engine.Collect().held_pushes != static_cast<uint64_t>(executors)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(!first_done);
    CHECK(cluster.RowsOf({1, 2}) == std::vector<float>(8));
    REQUIRE(cluster.Push(WorkerPush(12, 1, 0, {1}, {1, 1, 1, 1}, 1)).ok());
    waiting.join();
    CHECK(first.ok());
    // sum of gradients over sum of weights: (3 + 1) / 4 and 1 / 4.
    const std::vector<float> rows = cluster.RowsOf({1, 2});
    CHECK(rows[0] == -kLearningRate);
    CHECK(rows[4] == -kLearningRate * 0.25f);
    PullResponse response;
    REQUIRE(cluster.Pull(WorkerPull(11, 1, 0, {1}), &response).ok());
    CHECK(response.min_clock() == 0);
  }
}

TEST_CASE("Hello on several strands counts a joiner at the same clock on all of them") {
  Cluster cluster({.executors = 3});
  cluster.Announce(11, 0);
  cluster.Announce(11, 1, 6);
  CHECK(cluster.Announce(12, 0).min_clock() == 6);
  CHECK(cluster.Announce(12, 0).min_clock() == 6);  // repeated: the same answer
  CHECK(cluster.engine.Collect().released_clock == 6);
  cluster.Announce(11, 2, 9);
  CHECK(cluster.engine.Collect().released_clock == 6);  // 12 holds it
}

TEST_CASE("shutting down answers what is parked and ends") {
  Cluster cluster({.executors = 2});
  cluster.Announce(11, 0);
  PullResponse response;
  grpc::Status unary;
  std::thread parked([&] { unary = cluster.Pull(WorkerPull(11, 3, 2, {1}), &response); });
  cluster.WaitForParked(1);
  StreamClient stream(cluster.stub.get());
  stream.Send(1, [&](StreamRequest* r) { *r->mutable_pull() = WorkerPull(11, 4, 3, {2}); });
  cluster.WaitForParked(2);
  cluster.service.Shutdown(cluster.server.get());
  cluster.server.reset();
  parked.join();
  CHECK(unary.error_code() == grpc::StatusCode::UNAVAILABLE);
  StreamResponse none;
  CHECK(!stream.io->Read(&none));
  CHECK(stream.io->Finish().error_code() == grpc::StatusCode::UNAVAILABLE);
}

}  // namespace tidegate
