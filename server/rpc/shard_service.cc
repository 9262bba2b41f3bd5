#include "server/rpc/shard_service.h"

#include <grpcpp/support/byte_buffer.h>

#include <chrono>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/rpc/status.h"
#include "proto/shard_service.grpc.pb.h"
#include "server/rpc/completion_tags.h"
#include "server/rpc/connection_acceptor.h"

namespace tidegate {
namespace {

using RawService = ShardService::WithRawMethod_Pull<ShardService::WithRawMethod_Push<
    ShardService::WithRawMethod_Clock<ShardService::WithRawMethod_Stream<ShardService::Service>>>>;

struct Environment {
  // By turns: a connection's calls go to the first queue that asks for one.
  size_t After(size_t queue) const { return (queue + 1) % queues.size(); }

  RawService service;
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues;
  ShardEngine* engine = nullptr;
  ShardServiceHost::Limits limits;
  ActiveCalls active;
};

grpc::Status Exhausted(const std::string& what) {
  return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, what);
}

// ---- unary -----------------------------------------------------------------

class UnaryCall final : public CallSource, public ActiveCall, public std::enable_shared_from_this<UnaryCall> {
 public:
  static void Accept(Environment* env, size_t queue_index, MessageKind kind) {
    if (!env->active.BeginAccept()) return;
    grpc::ServerCompletionQueue* const queue = env->queues[queue_index].get();
    auto call = std::make_shared<UnaryCall>(env, queue_index, kind);
    call->context_.AsyncNotifyWhenDone(call->done_.Begin(call));
    Tag* tag = call->accepted_.Begin(call);
    auto& service = env->service;
    if (kind == MessageKind::kPull) {
      service.RequestPull(&call->context_, &call->in_, &call->writer_, queue, queue, tag);
    } else if (kind == MessageKind::kPush) {
      service.RequestPush(&call->context_, &call->in_, &call->writer_, queue, queue, tag);
    } else {
      service.RequestClock(&call->context_, &call->in_, &call->writer_, queue, queue, tag);
    }
  }

  UnaryCall(Environment* env, size_t queue, MessageKind kind) : env_(env), queue_(queue), kind_(kind) {}

  void Answer(const ShardCall&, const wire::Response& response,
              std::span<const SliceBuffer> rows) override {
    if (!TakeRight()) return;
    if (const auto* status = std::get_if<absl::Status>(&response)) {
      writer_.FinishWithError(ToGrpc(*status), finished_.Begin(shared_from_this()));
      return;
    }
    writer_.Finish(ToByteBuffer(wire::EncodeResponse(response), rows), grpc::Status::OK,
                   finished_.Begin(shared_from_this()));
  }

  void Close(const grpc::Status& status) override {
    std::shared_ptr<ShardCall> call;
    {
      std::lock_guard lock(mutex_);
      call = call_;
    }
    if (call != nullptr) env_->engine->Cancel(call);
    if (TakeRight()) writer_.FinishWithError(status, finished_.Begin(shared_from_this()));
  }

 private:
  // The first of Answer and Close finishes the call.
  bool TakeRight() {
    std::lock_guard lock(mutex_);
    call_.reset();
    return !std::exchange(answered_, true);
  }
  void OnAccepted(bool ok) {
    if (ok) {
      Accept(env_, env_->After(queue_), kind_);
      Begin();
    } else {
      done_.Forget();
    }
    env_->active.EndAccept();
  }
  void Begin() {
    auto call = std::make_shared<ShardCall>(shared_from_this(), ToContiguous(in_));
    in_.Clear();
    {
      std::lock_guard lock(mutex_);
      call_ = call;
    }
    if (!env_->active.Add(shared_from_this())) {
      Close(ShuttingDown());
      return;
    }
    env_->engine->Handle(std::move(call), kind_);
  }
  void OnFinished(bool) { env_->active.Remove(shared_from_this()); }
  void OnDone(bool) {
    if (context_.IsCancelled()) Close(grpc::Status::CANCELLED);
  }

  Environment* const env_;
  const size_t queue_;
  const MessageKind kind_;
  grpc::ServerContext context_;
  grpc::ByteBuffer in_;
  grpc::ServerAsyncResponseWriter<grpc::ByteBuffer> writer_{&context_};
  Operation<UnaryCall> accepted_{&UnaryCall::OnAccepted};
  Operation<UnaryCall> finished_{&UnaryCall::OnFinished};
  Operation<UnaryCall> done_{&UnaryCall::OnDone};

  std::mutex mutex_;
  bool answered_ = false;
  std::shared_ptr<ShardCall> call_;
};

// ---- stream ----------------------------------------------------------------

class StreamCall final : public CallSource, public ActiveCall, public std::enable_shared_from_this<StreamCall> {
 public:
  static void Accept(Environment* env, size_t queue_index) {
    if (!env->active.BeginAccept()) return;
    grpc::ServerCompletionQueue* const queue = env->queues[queue_index].get();
    auto call = std::make_shared<StreamCall>(env, queue_index);
    call->context_.AsyncNotifyWhenDone(call->done_.Begin(call));
    env->service.RequestStream(&call->context_, &call->io_, queue, queue,
                               call->accepted_.Begin(call));
  }

  StreamCall(Environment* env, size_t queue) : env_(env), queue_(queue) {}

  void Answer(const ShardCall& call, const wire::Response& response,
              std::span<const SliceBuffer> rows) override {
    grpc::ByteBuffer out = ToByteBuffer(wire::EncodeStreamResponse(call.number, response), rows);
    bool queued;
    size_t unread_bytes;
    {
      std::lock_guard lock(mutex_);
      if (unanswered_.erase(&call) == 0 || closing_) return;
      queued = std::exchange(writing_, true);
      if (queued) {
        unread_bytes_ += out.Length();
        queue_out_.push_back(std::move(out));
      }
      unread_bytes = unread_bytes_;
    }
    if (!queued) {
      io_.Write(out, written_.Begin(shared_from_this()));
    } else if (unread_bytes > env_->limits.unread_bytes_max) {
      TG_LOG(WARNING) << "ends the stream of " << context_.peer() << ": it does not read its answers, "
                      << unread_bytes << " bytes wait";
      Close(Exhausted("answers are not read"));
      context_.TryCancel();  // or the write in progress would never end
    }
  }

  void Close(const grpc::Status& status) override {
    absl::flat_hash_map<const ShardCall*, std::shared_ptr<ShardCall>> unanswered;
    {
      std::lock_guard lock(mutex_);
      if (!closing_) final_status_ = status;
      closing_ = true;
      unanswered.swap(unanswered_);
      queue_out_.clear();
      unread_bytes_ = 0;
    }
    for (const auto& [address, call] : unanswered) env_->engine->Cancel(call);
    FinishIfIdle();
  }

 private:
  void OnAccepted(bool ok) {
    if (ok) {
      Accept(env_, env_->After(queue_));
      Begin();
    } else {
      done_.Forget();
    }
    env_->active.EndAccept();
  }
  void Begin() {
    if (!env_->active.Add(shared_from_this())) {
      Close(ShuttingDown());
      return;
    }
    io_.Read(&in_, read_.Begin(shared_from_this()));
  }

  void OnRead(bool ok) {
    if (!ok) {  // the peer has sent its last, or is gone: then OnDone closes
      {
        std::lock_guard lock(mutex_);
        half_closed_ = true;
      }
      FinishIfIdle();
      return;
    }
    auto call = std::make_shared<ShardCall>(shared_from_this(), ToContiguous(in_));
    in_.Clear();
    size_t unanswered;
    {
      std::lock_guard lock(mutex_);
      if (closing_) return;
      unanswered_.emplace(call.get(), call);
      unanswered = unanswered_.size();
    }
    if (unanswered > env_->limits.unanswered_max) {
      Close(Exhausted(absl::StrCat(unanswered, " requests of this stream are unanswered")));
      return;
    }
    env_->engine->Handle(std::move(call), MessageKind::kStream);
    io_.Read(&in_, read_.Begin(shared_from_this()));
  }

  void OnWritten(bool ok) {
    grpc::ByteBuffer out;
    {
      std::lock_guard lock(mutex_);
      if (!ok) {
        queue_out_.clear();
        unread_bytes_ = 0;
      }
      writing_ = !queue_out_.empty();
      if (writing_) {
        out = std::move(queue_out_.front());
        queue_out_.pop_front();
        unread_bytes_ -= out.Length();
      }
    }
    if (out.Valid()) {
      io_.Write(out, written_.Begin(shared_from_this()));
    } else {
      FinishIfIdle();
    }
  }

  // gRPC takes Finish once, and not while a write is out.
  void FinishIfIdle() {
    grpc::Status status;
    {
      std::lock_guard lock(mutex_);
      const bool over = closing_ || (half_closed_ && unanswered_.empty());
      if (!over || writing_ || finished_begun_) return;
      finished_begun_ = true;
      closing_ = true;
      status = final_status_;
    }
    io_.Finish(status, finished_.Begin(shared_from_this()));
  }

  void OnFinished(bool) { env_->active.Remove(shared_from_this()); }
  void OnDone(bool) {
    if (context_.IsCancelled()) Close(grpc::Status::CANCELLED);
  }

  Environment* const env_;
  const size_t queue_;
  grpc::ServerContext context_;
  grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer> io_{&context_};
  grpc::ByteBuffer in_;
  Operation<StreamCall> accepted_{&StreamCall::OnAccepted};
  Operation<StreamCall> read_{&StreamCall::OnRead};
  Operation<StreamCall> written_{&StreamCall::OnWritten};
  Operation<StreamCall> finished_{&StreamCall::OnFinished};
  Operation<StreamCall> done_{&StreamCall::OnDone};

  std::mutex mutex_;
  absl::flat_hash_map<const ShardCall*, std::shared_ptr<ShardCall>> unanswered_;
  std::deque<grpc::ByteBuffer> queue_out_;
  size_t unread_bytes_ = 0;  // of queue_out_
  bool writing_ = false;
  bool half_closed_ = false;
  bool closing_ = false;
  bool finished_begun_ = false;
  grpc::Status final_status_;
};

}  // namespace

class ShardServiceHost::Impl {
 public:
  Impl(ShardEngine* engine, int executors, const Limits& limits) : executors_(executors) {
    env_.engine = engine;
    env_.limits = limits;
  }

  ~Impl() { Join(); }

  void Register(grpc::ServerBuilder& builder) {
    acceptor_.Register(builder);
    builder.RegisterService(&env_.service);
    for (int i = 0; i < executors_; ++i) env_.queues.push_back(builder.AddCompletionQueue(/*is_frequently_polled=*/false));
  }

  void Start() {
    for (size_t queue = 0; queue < env_.queues.size(); ++queue) {
      StreamCall::Accept(&env_, queue);
      for (MessageKind kind : {MessageKind::kPull, MessageKind::kPush, MessageKind::kClock}) {
        UnaryCall::Accept(&env_, queue, kind);
      }
      threads_.emplace_back(ProceedUntilShutdown, env_.queues[queue].get());
    }
    acceptor_.Start();
  }

  void Shutdown(grpc::Server* server) {
    env_.active.CloseAll(ShuttingDown());
    server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
    env_.active.WaitUntilNone();
  }
  std::vector<grpc::ServerCompletionQueue*> queues() const {
    std::vector<grpc::ServerCompletionQueue*> out;
    for (const auto& queue : env_.queues) out.push_back(queue.get());
    return out;
  }
  void Join() {
    acceptor_.Stop();
    if (threads_.empty()) return;
    for (const auto& queue : env_.queues) queue->Shutdown();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  const int executors_;
  Environment env_;
  ConnectionAcceptor acceptor_;
  std::vector<std::thread> threads_;
};

ShardServiceHost::ShardServiceHost(ShardEngine* engine, int executors, const Limits& limits)
    : impl_(std::make_unique<Impl>(engine, executors, limits)) {}
ShardServiceHost::~ShardServiceHost() = default;
void ShardServiceHost::Register(grpc::ServerBuilder& builder) { impl_->Register(builder); }
void ShardServiceHost::Start() { impl_->Start(); }
std::vector<grpc::ServerCompletionQueue*> ShardServiceHost::queues() const { return impl_->queues(); }
void ShardServiceHost::Shutdown(grpc::Server* server) { impl_->Shutdown(server); }
void ShardServiceHost::Join() { impl_->Join(); }

}  // namespace tidegate
