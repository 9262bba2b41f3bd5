#include "common/rpc/channel.h"

#include <grpcpp/generic/generic_stub.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "common/rpc/byte_buffer.h"
#include "common/rpc/status.h"
#include "proto/shard_service.grpc.pb.h"

namespace tidegate {
namespace {

class EmptyService final : public ShardService::Service {};

struct Served {
  EmptyService service;
  absl::StatusOr<Listening> listening;
  explicit Served(ListenOptions options = {})
      : listening(Listen(options, [this](grpc::ServerBuilder& b) { b.RegisterService(&service); })) {}
  ~Served() {
    if (listening.ok()) listening->server->Shutdown(std::chrono::system_clock::now());
  }
};

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

// One exchange with any method, by bytes.
std::string Exchange(const std::string& address, const std::string& method,
                     const std::string& request) {
  grpc::GenericStub stub(MakeControlChannel(address));
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto next = [&] {
    void* tag;
    bool ok = false;
    queue.Next(&tag, &ok);
    return ok;
  };
  auto call = stub.PrepareCall(&context, method, &queue);
  call->StartCall(nullptr);
  REQUIRE(next());
  const grpc::Slice slice(request);
  call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
  REQUIRE(next());
  grpc::ByteBuffer answer;
  call->Read(&answer, nullptr);
  REQUIRE(next());
  const OwnedBytes bytes = ToContiguous(answer);
  std::string out(reinterpret_cast<const char*>(bytes.bytes.data()), bytes.bytes.size());
  context.TryCancel();
  grpc::Status status;
  call->Finish(&status, nullptr);
  next();
  queue.Shutdown();
  while (next()) {
  }
  return out;
}

}  // namespace

TEST_CASE("every server answers health checks and lists its services") {
  Served served;
  REQUIRE(served.listening.ok());
  const std::string& address = served.listening->address;
  CHECK(Exchange(address, "/grpc.health.v1.Health/Check", "") == std::string("\x08\x01"));  // SERVING
  CHECK(Exchange(address, "/grpc.health.v1.Health/Watch", "") == std::string("\x08\x01"));
  CHECK(Exchange(address, "/grpc.health.v1.Health/Watch", std::string("\x0a\x01x", 3)) == std::string("\x08\x03"));  // SERVICE_UNKNOWN
  const std::string list("\x3a\x00", 2);
  CHECK(Exchange(address, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", list)
            .find("tidegate.ShardService") != std::string::npos);
}

TEST_CASE("a taken port is an error that names the flag and the address") {
  Served first;
  REQUIRE(first.listening.ok());
  ListenOptions options;
  options.address = first.listening->address;
  Served second(options);
  CHECK(absl::IsUnavailable(second.listening.status()));
  const std::string message = MessageOf(second.listening.status());
  CHECK(message.find("--listen=" + options.address) != std::string::npos);
  CHECK(message.find("in use") != std::string::npos);
}

TEST_CASE("listening beyond loopback needs --insecure_bind") {
  for (const char* address : {"0.0.0.0:0", "[::]:0"}) {
    ListenOptions options;
    options.address = address;
    Served refused(options);
    CHECK(absl::IsInvalidArgument(refused.listening.status()));
    CHECK(MessageOf(refused.listening.status()).find("--insecure_bind") != std::string::npos);
  }
  ListenOptions options;
  options.address = "0.0.0.0:0";
  options.insecure_bind = true;
  options.advertise = "node7";
  Served allowed(options);
  REQUIRE(allowed.listening.ok());
  CHECK(allowed.listening->address == "node7:" + std::to_string(allowed.listening->port));
}

TEST_CASE("malformed addresses are refused") {
  for (const char* address : {"", "localhost", ":5", "127.0.0.1:x", "127.0.0.1:70000", "::1:5",
                              "no-such-host.invalid:0"}) {
    ListenOptions options;
    options.address = address;
    Served served(options);
    INFO(address);
    CHECK(absl::IsInvalidArgument(served.listening.status()));
  }
}

TEST_CASE("statuses keep code and message both ways") {
  CHECK(ToGrpc(absl::OkStatus()).ok());
  const grpc::Status grpc_status = ToGrpc(absl::FailedPreconditionError("rejoin"));
  CHECK(grpc_status.error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  const absl::Status back = FromGrpc(grpc_status);
  CHECK(back == absl::FailedPreconditionError("rejoin"));
}

TEST_CASE("payloads become slices of the same memory, kept alive until they are gone") {
  auto payload = std::make_shared<std::vector<std::byte>>(100000, std::byte{7});
  const std::weak_ptr<std::vector<std::byte>> watch = payload;
  wire::Pieces pieces;
  pieces.push_back({"head", wire::Bytes(*payload)});
  pieces.push_back({"tail", {}});
  {
    grpc::ByteBuffer buffer = ToByteBuffer(pieces, payload);
    const std::byte* const data = payload->data();
    payload.reset();
    CHECK(!watch.expired());
    std::vector<grpc::Slice> slices;
    REQUIRE(buffer.Dump(&slices).ok());
    REQUIRE(slices.size() == 3);
    CHECK(static_cast<const void*>(slices[1].begin()) == data);
    const OwnedBytes whole = ToContiguous(buffer);
    CHECK(whole.bytes.size() == 100008);
    CHECK(whole.bytes[100007] == std::byte{'l'});
  }
  CHECK(watch.expired());
}

TEST_CASE("a message of one slice is read where it lies") {
  std::string text(5000, 'x');
  grpc::Slice slice(text);
  const grpc::ByteBuffer buffer(&slice, 1);
  const OwnedBytes bytes = ToContiguous(buffer);
  CHECK(static_cast<const void*>(bytes.bytes.data()) == static_cast<const void*>(slice.begin()));
}

TEST_CASE("an empty message is a message") {
  const grpc::ByteBuffer buffer = ToByteBuffer(wire::Pieces{}, nullptr);
  CHECK(buffer.Valid());
  CHECK(buffer.Length() == 0);
}

}  // namespace tidegate
