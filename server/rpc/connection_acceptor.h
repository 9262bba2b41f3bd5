#pragma once
// Takes the connections of a server whose calls are worked on by threads with a completion queue each. gRPC puts every
// new connection into the pollset of a listening queue, and into that of each queue of its calls; two threads that
// wait for one connection wake each other at every message (docs/performance.md). So this queue is the only one that
// listens, no call uses it, and its thread waits for nothing: it looks every few milliseconds. Queues of services:
// builder.AddCompletionQueue(/*is_frequently_polled=*/false).
//
// Register while the server is built, then Start; Stop after the server's Shutdown. Not thread-safe.

#include <grpcpp/server_builder.h>

#include <atomic>
#include <memory>
#include <thread>

namespace tidegate {

class ConnectionAcceptor {
 public:
  ~ConnectionAcceptor() { Stop(); }

  void Register(grpc::ServerBuilder& builder) { queue_ = builder.AddCompletionQueue(/*is_frequently_polled=*/true); }
  void Start();
  void Stop();

 private:
  void Loop();

  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace tidegate
