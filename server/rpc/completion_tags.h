#pragma once
// What the asynchronous services of a server share: tags of completion queues that keep their handlers alive, and
// the calls in progress, which a shutdown has to end.

#include <grpcpp/completion_queue.h>
#include <grpcpp/support/status.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "common/rpc/completion_tag.h"

namespace tidegate {

using Tag = CompletionTag;

// A thread's work: until the queue is shut down and empty.
inline void ProceedUntilShutdown(grpc::CompletionQueue* queue) {
  void* tag;
  bool ok;
  while (queue->Next(&tag, &ok)) static_cast<Tag*>(tag)->Proceed(ok);
}

// One kind of operation of a handler, outstanding at most once at a time; keeps the handler alive until
// it has come back.
template <typename Handler>
class Operation final : public Tag {
 public:
  using Method = void (Handler::*)(bool ok);
  explicit Operation(Method method) : method_(method) {}
  Tag* Begin(std::shared_ptr<Handler> handler) {
    handler_ = std::move(handler);
    return this;
  }
  void Forget() { handler_.reset(); }  // it will never come back
  void Proceed(bool ok) override {
    const std::shared_ptr<Handler> handler = std::move(handler_);
    (handler.get()->*method_)(ok);
  }

 private:
  const Method method_;
  std::shared_ptr<Handler> handler_;
};

// A call of a service in progress, for its shutdown.
class ActiveCall {
 public:
  virtual ~ActiveCall() = default;
  virtual void Close(const grpc::Status& status) = 0;
};

// What must come back before the completion queues may be shut down.
class ActiveCalls {
 public:
  // False, and nothing may be begun: shutting down.
  bool BeginAccept() {
    std::lock_guard lock(mutex_);
    if (!closed_) ++accepting_;
    return !closed_;
  }
  // After OnAccepted has begun what it begins.
  void EndAccept() {
    std::lock_guard lock(mutex_);
    --accepting_;
    changed_.notify_all();
  }
  // False: shutting down, but Remove will be called all the same.
  bool Add(const std::shared_ptr<ActiveCall>& call) {
    std::lock_guard lock(mutex_);
    calls_.insert(call);
    return !closed_;
  }
  void Remove(const std::shared_ptr<ActiveCall>& call) {
    std::lock_guard lock(mutex_);
    calls_.erase(call);
    changed_.notify_all();
  }
  void CloseAll(const grpc::Status& status) {
    std::set<std::shared_ptr<ActiveCall>> calls;
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
      calls = calls_;
    }
    for (const auto& call : calls) call->Close(status);
  }
  void WaitUntilNone() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return accepting_ == 0 && calls_.empty(); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  int accepting_ = 0;
  std::set<std::shared_ptr<ActiveCall>> calls_;
};

inline const grpc::Status& ShuttingDown() {
  static const grpc::Status status(grpc::StatusCode::UNAVAILABLE, "this server is shutting down");
  return status;
}

}  // namespace tidegate
