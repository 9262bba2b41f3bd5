#pragma once
// ShardService over gRPC's completion queues, on raw messages: one queue and one thread per executor.
// Streams and unary methods hand the same messages to a ShardEngine. A stream is read always; its answers
// are queued and written in the order they come; what a peer may have unanswered or unread is bounded.
//
//   ShardServiceHost service(&engine, executors);
//   Listen(options, [&](auto& builder) { service.Register(builder); });
//   service.Start();
//   ...
//   service.Shutdown(server);  // ends calls (UNAVAILABLE), then the server
//   service.Join();            // the threads

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "server/rpc/shard_engine.h"

namespace tidegate {

class ShardServiceHost {
 public:
  // Of one stream; a peer beyond them breaks its own credits, and its stream ends: RESOURCE_EXHAUSTED,
  // or CANCELLED where it does not read.
  struct Limits {
    size_t unanswered_max = 4096;
    size_t unread_bytes_max = size_t{1} << 30;  // answers that the peer does not take
  };

  // `engine` outlives this.
  ShardServiceHost(ShardEngine* engine, int executors, const Limits& limits);
  ShardServiceHost(ShardEngine* engine, int executors) : ShardServiceHost(engine, executors, Limits{}) {}
  ~ShardServiceHost();

  void Register(grpc::ServerBuilder& builder);
  void Start();
  // Of the executors, for other services' and clients' calls too; from Register on. Each has one thread, which does
  // what ProceedUntilShutdown does.
  std::vector<grpc::ServerCompletionQueue*> queues() const;
  // Once, from no thread of the service. Then whatever else uses the queues ends, then Join (or the destructor).
  void Shutdown(grpc::Server* server);
  void Join();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidegate
