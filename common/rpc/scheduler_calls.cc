#include "common/rpc/scheduler_calls.h"

#include "common/rpc/channel.h"

namespace tidegate {

SchedulerCalls::SchedulerCalls(const std::string& address)
    : address_(address), stub_(SchedulerService::NewStub(MakeControlChannel(address))) {}

bool SchedulerCalls::IsRetryable(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kInternal:
      return true;
    default:
      return false;
  }
}

SchedulerCalls::Context SchedulerCalls::NewContext(int timeout_ms) {
  auto context = std::make_shared<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(timeout_ms));
  return context;
}

absl::Status SchedulerCalls::Ended() const {
  if (stopping_ || cancelled_) return absl::CancelledError("stopped");
  return abandoned_;
}

bool SchedulerCalls::stopped() const {
  std::lock_guard lock(mutex_);
  return !Ended().ok();
}

bool SchedulerCalls::SleepOrStopped(std::chrono::milliseconds delay) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, delay, [this] { return !Ended().ok(); });
}

void SchedulerCalls::Open() {
  std::lock_guard lock(mutex_);
  stopping_ = false;
}

void SchedulerCalls::End(bool* flag, absl::Status status) {
  std::set<Context> active;
  {
    std::lock_guard lock(mutex_);
    if (flag != nullptr) *flag = true;
    if (abandoned_.ok()) abandoned_ = std::move(status);
    active = active_;
  }
  changed_.notify_all();
  for (const Context& context : active) context->TryCancel();
}

void SchedulerCalls::Stop() { End(&stopping_, absl::OkStatus()); }
void SchedulerCalls::Cancel() { End(&cancelled_, absl::OkStatus()); }
void SchedulerCalls::Abandon(absl::Status status) { End(nullptr, std::move(status)); }

bool SchedulerCalls::AcceptTerm(uint64_t term) {
  std::lock_guard lock(mutex_);
  if (term < term_) return false;
  term_ = term;
  return true;
}

uint64_t SchedulerCalls::term() const {
  std::lock_guard lock(mutex_);
  return term_;
}

void SchedulerCalls::ForgetTerm() {
  std::lock_guard lock(mutex_);
  term_ = 0;
}

}  // namespace tidegate
