#include "server/rpc/replica_service.h"

#include <grpcpp/support/byte_buffer.h>

#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "common/logging.h"
#include "common/rpc/status.h"
#include "proto/replica_service.grpc.pb.h"
#include "server/replication/inbox.h"
#include "server/rpc/completion_tags.h"

namespace tidegate {
namespace {

constexpr size_t kUnreadMax = 10000;  // answers that could not be merged

enum class StreamKind { kLog, kKeepAlive };

struct Environment {
  ReplicaService::WithRawMethod_Replicate<ReplicaService::WithRawMethod_Grant<ReplicaService::Service>> service;
  std::vector<grpc::ServerCompletionQueue*> queues;  // of logs
  grpc::ServerCompletionQueue* own_queue = nullptr;
  ReplicaServiceHost::Handler handler;
  ActiveCalls active;
};

grpc::ByteBuffer ToBuffer(const ReplicaResponse& response) {
  const grpc::Slice slice(response.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

class ReplicaCall final : public ReplicaPeer, public ActiveCall, public std::enable_shared_from_this<ReplicaCall> {
 public:
  // `turn`: of the queues of logs.
  static void Accept(Environment* env, StreamKind kind, size_t turn) {
    if (!env->active.BeginAccept()) return;
    auto call = std::make_shared<ReplicaCall>(env, kind, turn);
    call->context_.AsyncNotifyWhenDone(call->done_.Begin(call));
    if (kind == StreamKind::kLog) {
      grpc::ServerCompletionQueue* const queue = env->queues[turn % env->queues.size()];
      env->service.RequestReplicate(&call->context_, &call->io_, queue, queue, call->accepted_.Begin(call));
    } else {
      env->service.RequestGrant(&call->context_, &call->io_, env->own_queue, env->own_queue, call->accepted_.Begin(call));
    }
  }

  ReplicaCall(Environment* env, StreamKind kind, size_t turn) : env_(env), kind_(kind), turn_(turn) {}

  void Answer(ReplicaResponse response) override {
    bool unread = false;
    {
      std::lock_guard lock(mutex_);
      if (closing_) return;
      if (writing_) {
        if (waiting_.empty() || !MergeAnswer(response, &waiting_.back())) waiting_.push_back(std::move(response));
        unread = waiting_.size() > kUnreadMax;
      }
      if (!unread && std::exchange(writing_, true)) return;
    }
    if (unread) return End(absl::ResourceExhaustedError("answers are not read"));
    io_.Write(ToBuffer(response), written_.Begin(shared_from_this()));
  }
  void End(const absl::Status& status) override {
    TG_LOG(INFO) << "ends the replication stream of " << context_.peer() << ": " << status.message();
    Close(ToGrpc(status));
  }
  void Close(const grpc::Status& status) override {
    {
      std::lock_guard lock(mutex_);
      if (!closing_) final_status_ = status;
      closing_ = true;
      waiting_.clear();
    }
    FinishIfIdle();
  }

 private:
  void OnAccepted(bool ok) {
    if (ok) {
      Accept(env_, kind_, turn_ + 1);
      if (env_->active.Add(shared_from_this())) {
        io_.Read(&in_, read_.Begin(shared_from_this()));
      } else {
        Close(ShuttingDown());
      }
    } else {
      done_.Forget();
    }
    env_->active.EndAccept();
  }
  void OnRead(bool ok) {
    if (!ok) return Close(grpc::Status::OK);  // the peer has sent its last, or is gone
    OwnedBytes message = ToContiguous(in_);
    in_.Clear();
    {
      std::lock_guard lock(mutex_);
      if (closing_) return;
    }
    env_->handler(shared_from_this(), std::move(message));
    io_.Read(&in_, read_.Begin(shared_from_this()));
  }
  void OnWritten(bool ok) {
    ReplicaResponse next;
    bool write;
    {
      std::lock_guard lock(mutex_);
      if (!ok) waiting_.clear();
      write = writing_ = !waiting_.empty();
      if (write) {
        next = std::move(waiting_.front());
        waiting_.pop_front();
      }
    }
    if (write) {
      io_.Write(ToBuffer(next), written_.Begin(shared_from_this()));
    } else {
      FinishIfIdle();
    }
  }
  // gRPC takes Finish once, and not while a write is out.
  void FinishIfIdle() {
    grpc::Status status;
    {
      std::lock_guard lock(mutex_);
      if (!closing_ || writing_ || std::exchange(finish_begun_, true)) return;
      status = final_status_;
    }
    io_.Finish(status, finished_.Begin(shared_from_this()));
  }
  void OnFinished(bool) { env_->active.Remove(shared_from_this()); }
  void OnDone(bool) {
    if (context_.IsCancelled()) Close(grpc::Status::CANCELLED);
  }

  Environment* const env_;
  const StreamKind kind_;
  const size_t turn_;
  grpc::ServerContext context_;
  grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer> io_{&context_};
  grpc::ByteBuffer in_;
  Operation<ReplicaCall> accepted_{&ReplicaCall::OnAccepted};
  Operation<ReplicaCall> read_{&ReplicaCall::OnRead};
  Operation<ReplicaCall> written_{&ReplicaCall::OnWritten};
  Operation<ReplicaCall> finished_{&ReplicaCall::OnFinished};
  Operation<ReplicaCall> done_{&ReplicaCall::OnDone};

  std::mutex mutex_;
  std::deque<ReplicaResponse> waiting_;
  bool writing_ = false;
  bool closing_ = false;
  bool finish_begun_ = false;
  grpc::Status final_status_;
};

}  // namespace

class ReplicaServiceHost::Impl {
 public:
  explicit Impl(Handler handler) { env_.handler = std::move(handler); }
  void Register(grpc::ServerBuilder& builder) {
    builder.RegisterService(&env_.service);
    queue_ = builder.AddCompletionQueue(/*is_frequently_polled=*/false);
    env_.own_queue = queue_.get();
  }
  void Start(const std::vector<grpc::ServerCompletionQueue*>& log_queues) {
    env_.queues = log_queues;
    if (log_queues.empty()) env_.queues.push_back(queue_.get());
    ReplicaCall::Accept(&env_, StreamKind::kLog, 0);
    ReplicaCall::Accept(&env_, StreamKind::kKeepAlive, 0);
    reader_ = std::thread(ProceedUntilShutdown, queue_.get());
  }
  void CloseStreams() { env_.active.CloseAll(ShuttingDown()); }
  void Join() {
    env_.active.WaitUntilNone();
    queue_->Shutdown();
    if (reader_.joinable()) reader_.join();
  }

 private:
  Environment env_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::thread reader_;  // never caught in a strand's work
};

ReplicaServiceHost::ReplicaServiceHost(Handler handler) : impl_(std::make_unique<Impl>(std::move(handler))) {}
ReplicaServiceHost::~ReplicaServiceHost() = default;
void ReplicaServiceHost::Register(grpc::ServerBuilder& builder) { impl_->Register(builder); }
void ReplicaServiceHost::Start(const std::vector<grpc::ServerCompletionQueue*>& log_queues) { impl_->Start(log_queues); }
void ReplicaServiceHost::CloseStreams() { impl_->CloseStreams(); }
void ReplicaServiceHost::Join() { impl_->Join(); }

}  // namespace tidegate
