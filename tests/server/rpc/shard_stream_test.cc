// Streams: order, credits, ends.
#include <grpcpp/generic/generic_stub.h>

#include <catch2/catch.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/server/rpc/shard_rig.h"

namespace tidegate {

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
