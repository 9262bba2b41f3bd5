#include "common/rpc/stream_link.h"

#include <utility>

namespace tidegate {

StreamLink::StreamLink(const std::shared_ptr<grpc::Channel>& channel, std::string method,
                       grpc::CompletionQueue* queue, Callbacks callbacks)
    : stub_(channel), method_(std::move(method)), queue_(queue), callbacks_(std::move(callbacks)) {}

void StreamLink::Start() {
  self_ = shared_from_this();
  call_ = stub_.PrepareCall(&context_, method_, queue_);
  call_->StartCall(start_.tag());
}

bool StreamLink::Send(grpc::ByteBuffer message) {
  {
    Guard lock(mutex_);
    if (broken_) return false;
    if (!open_ || writing_) {
      outgoing_.push_back(std::move(message));
      return true;
    }
    writing_ = true;
  }
  call_->Write(message, write_.tag());
  return true;
}

void StreamLink::Close() { context_.TryCancel(); }

void StreamLink::Break() {
  std::deque<grpc::ByteBuffer> unsent;
  {
    Guard lock(mutex_);
    broken_ = true;
    unsent.swap(outgoing_);
  }
  context_.TryCancel();  // what is still under way comes back soon
}

// Asks for the status once nothing else is under way.
void StreamLink::MaybeFinish() {
  {
    Guard lock(mutex_);
    if (!broken_ || reading_ || writing_ || finishing_) return;
    finishing_ = true;
  }
  call_->Finish(&status_, finish_.tag());
}

void StreamLink::OnEvent(Kind kind, bool ok) {
  if (kind == Kind::kFinish) {
    callbacks_.broken(status_);
    const std::shared_ptr<StreamLink> last = std::move(self_);
    return;
  }
  if (!ok) Break();
  if (kind == Kind::kRead && ok) {
    callbacks_.message(std::exchange(incoming_, {}));
    call_->Read(&incoming_, read_.tag());
    return;
  }
  bool read = false, write = false;
  grpc::ByteBuffer next;
  {
    Guard lock(mutex_);
    if (kind == Kind::kStart && ok) {
      open_ = true;
      read = reading_ = true;
    }
    if (kind == Kind::kRead) reading_ = false;
    if (kind == Kind::kWrite) writing_ = false;
    if (open_ && !broken_ && !writing_ && !outgoing_.empty()) {
      next = std::move(outgoing_.front());
      outgoing_.pop_front();
      write = writing_ = true;
    }
  }
  if (read) call_->Read(&incoming_, read_.tag());
  if (write) call_->Write(next, write_.tag());
  MaybeFinish();
}

}  // namespace tidegate
