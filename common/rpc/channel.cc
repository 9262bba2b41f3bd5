#include "common/rpc/channel.h"

#include <arpa/inet.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "common/host_port.h"
#include "common/rpc/health_service.h"
#include "common/strings.h"

namespace tidegate {
namespace {

// Flow control window of a stream: several messages may be under way without waiting for the reader.
// gRPC's 64 KiB, grown by its probe only, stop a 512 KiB answer eight times.
constexpr int kLookaheadBytes = 4 << 20;

struct Resolved {
  addrinfo* list = nullptr;
  ~Resolved() {
    if (list != nullptr) freeaddrinfo(list);
  }
};

absl::Status Resolve(const HostPort& at, Resolved* out) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  const int rc = getaddrinfo(at.host.c_str(), absl::StrCat(at.port).c_str(), &hints, &out->list);
  if (rc != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot resolve \"", at.host, "\": ", gai_strerror(rc)));
  }
  return absl::OkStatus();
}

bool IsLoopback(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
    return (ntohl(v4->sin_addr.s_addr) >> 24) == 127;
  }
  if (address->sa_family == AF_INET6) {
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
  }
  return false;
}

// Why no address of the list can be listened at; empty where one can. gRPC says only that it failed, and logs it.
std::string WhyNotBound(const addrinfo* list) {
  std::string reason = "unknown reason";
  for (const addrinfo* a = list; a != nullptr; a = a->ai_next) {
    const int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    const bool failed = bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, 1) != 0;
    const int error = errno;
    close(fd);
    if (!failed) return "";
    if (error == EADDRINUSE) return "the port is in use by another process";
    if (error == EADDRNOTAVAIL) return "the address is not one of this machine's";
    reason = std::strerror(error);
  }
  return reason;
}

grpc::ChannelArguments CommonArguments(int message_limit_bytes) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(message_limit_bytes);
  arguments.SetMaxSendMessageSize(message_limit_bytes);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  // Also what one attempt to connect may take: less would break them all on a busy machine.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt("grpc.enable_http_proxy", 0);
  return arguments;
}

}  // namespace

std::shared_ptr<grpc::Channel> MakeControlChannel(const std::string& address) {
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                   CommonArguments(kControlMessageLimitBytes));
}

std::shared_ptr<grpc::Channel> MakeDataChannel(const std::string& address,
                                               int message_limit_bytes) {
  grpc::ChannelArguments arguments = CommonArguments(message_limit_bytes);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kLookaheadBytes);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

absl::StatusOr<Listening> Listen(const ListenOptions& options,
                                 const std::function<void(grpc::ServerBuilder&)>& configure) {
  const std::string what = absl::StrCat(options.flag, "=", options.address, ": ");
  auto at = SplitHostPort(options.address);
  if (!at.ok()) return absl::InvalidArgumentError(absl::StrCat(what, at.status().message(), " (port 0 picks a free one)"));
  Resolved resolved;
  if (absl::Status s = Resolve(*at, &resolved); !s.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(what, s.message()));
  }
  for (const addrinfo* a = resolved.list; a != nullptr && !options.insecure_bind; a = a->ai_next) {
    if (IsLoopback(a->ai_addr)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(what, "not a loopback address, and connections are neither encrypted nor "
                           "authenticated; give --insecure_bind if the network is trusted"));
  }

  if (at->port != 0) {
    const std::string why = WhyNotBound(resolved.list);
    if (!why.empty()) return absl::UnavailableError(absl::StrCat(what, "cannot listen: ", why));
  }

  static std::once_flag once;
  std::call_once(once, [] { grpc::reflection::InitProtoReflectionServerBuilderPlugin(); });
  static HealthService* const health = new HealthService;  // of all servers, for as long as the process lasts
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(options.message_limit_bytes);
  builder.SetMaxSendMessageSize(-1);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kLookaheadBytes);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  Listening out;
  builder.RegisterService(health);
  builder.AddListeningPort(options.address, grpc::InsecureServerCredentials(), &out.port);
  configure(builder);
  out.server = builder.BuildAndStart();
  if (out.server == nullptr || out.port == 0) {
    const std::string why = WhyNotBound(resolved.list);
    return absl::UnavailableError(absl::StrCat(what, "cannot listen: ", why.empty() ? "unknown reason" : why));
  }
  std::string host = at->host;
  if (!options.advertise.empty()) {
    auto advertised = SplitHostPort(options.advertise);
    if (advertised.ok() && advertised->port != 0) {
      out.address = options.advertise;
      return out;
    }
    host = advertised.ok() ? advertised->host : options.advertise;
  }
  out.address = JoinHostPort(host, out.port);
  return out;
}

}  // namespace tidegate
