#pragma once
// How this project's processes reach each other: the one place that makes channels and starts servers,
// so that limits, keep-alives and refusals are the same everywhere.

#include <grpcpp/channel.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace tidegate {

// Messages that carry control and status; data messages are limited by the job's config.
inline constexpr int kControlMessageLimitBytes = 256 << 20;

// Connects lazily and again after failures, within about a second.
std::shared_ptr<grpc::Channel> MakeControlChannel(const std::string& address);
// For ShardService: own connection per channel, tuned for large messages (docs/performance.md).
std::shared_ptr<grpc::Channel> MakeDataChannel(const std::string& address, int message_limit_bytes);

struct ListenOptions {
  std::string address = "127.0.0.1:0";  // host:port; port 0: any free one
  std::string flag = "--listen";        // named in errors
  bool insecure_bind = false;           // allow other interfaces than loopback without TLS
  int message_limit_bytes = kControlMessageLimitBytes;
  std::string advertise;                // host or host:port that others use; empty: as listened
};

struct Listening {
  std::unique_ptr<grpc::Server> server;
  int port = 0;
  std::string address;  // for others: the advertised host with the real port
};

// Starts a server with health checking and reflection. `configure` registers services and queues.
// INVALID_ARGUMENT: malformed address, or beyond loopback without insecure_bind. UNAVAILABLE: the port
// is taken or the address is not this machine's. Errors name the flag and the address.
absl::StatusOr<Listening> Listen(const ListenOptions& options,
                                 const std::function<void(grpc::ServerBuilder&)>& configure);

}  // namespace tidegate
