#pragma once
// ReplicaService on raw messages: the streams of the primaries that this server follows, logs on the executors' queues,
// keep-alives on a queue of their own. Always read; answers wait for the stream, merged, so that what waits is bounded.

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "common/rpc/byte_buffer.h"
#include "proto/replica_messages.pb.h"

namespace tidegate {

// A primary's stream. Thread-safe; must not be called with a lock held that its messages need.
class ReplicaPeer {
 public:
  virtual ~ReplicaPeer() = default;
  virtual void Answer(ReplicaResponse response) = 0;
  // Ends the stream.
  virtual void End(const absl::Status& status) = 0;
};

class ReplicaServiceHost {
 public:
  // Of one stream in order, from the thread of its queue; must not block.
  using Handler = std::function<void(const std::shared_ptr<ReplicaPeer>&, OwnedBytes message)>;

  explicit ReplicaServiceHost(Handler handler);
  ~ReplicaServiceHost();

  void Register(grpc::ServerBuilder& builder);  // beside a ConnectionAcceptor
  // `log_queues`: whose threads do what ProceedUntilShutdown does; none: its own does it all.
  void Start(const std::vector<grpc::ServerCompletionQueue*>& log_queues);
  // Once: CloseStreams, then the server's own shutdown, then Join, then the log queues' shutdown.
  void CloseStreams();
  void Join();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidegate
