#pragma once
// One call of a method with streams both ways, on raw messages: out in order, in, until it breaks; then a new
// one is made. Lives until its last operation has come back from the completion queue.
//
// Send and Close from any thread; its events, CompletionTags, from the queue's one thread only. Calls back from that
// thread alone. No lock is held across gRPC.

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "common/rpc/completion_tag.h"

namespace tidegate {

class StreamLink : public std::enable_shared_from_this<StreamLink> {
 public:
  struct Callbacks {
    std::function<void(grpc::ByteBuffer)> message;
    // Once: the call has ended, nothing more comes of it. Messages not answered may be lost.
    std::function<void(const grpc::Status&)> broken;
  };
  // `method`: "/package.Service/Method".
  StreamLink(const std::shared_ptr<grpc::Channel>& channel, std::string method, grpc::CompletionQueue* queue,
             Callbacks callbacks);

  void Start();  // once
  // False if the call has broken: then nothing was taken.
  bool Send(grpc::ByteBuffer message);
  void Close();

 private:
  enum class Kind { kStart, kRead, kWrite, kFinish };
  struct Event final : CompletionTag {
    Event(StreamLink* of, Kind what) : link(of), kind(what) {}
    void Proceed(bool ok) override { link->OnEvent(kind, ok); }
    CompletionTag* tag() { return this; }
    StreamLink* const link;
    const Kind kind;
  };
  using Guard = std::unique_lock<std::mutex>;
  // May delete the link.
  void OnEvent(Kind kind, bool ok);
  void Break();
  void MaybeFinish();

  grpc::GenericStub stub_;
  const std::string method_;
  grpc::CompletionQueue* const queue_;
  const Callbacks callbacks_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  Event start_{this, Kind::kStart};
  Event read_{this, Kind::kRead};
  Event write_{this, Kind::kWrite};
  Event finish_{this, Kind::kFinish};
  grpc::ByteBuffer incoming_;
  grpc::Status status_;
  std::shared_ptr<StreamLink> self_;  // while operations are under way

  std::mutex mutex_;
  std::deque<grpc::ByteBuffer> outgoing_;
  bool open_ = false;
  bool writing_ = false;
  bool reading_ = false;
  bool broken_ = false;
  bool finishing_ = false;
};

}  // namespace tidegate
