#include "common/rpc/scheduler_calls.h"

#include <grpcpp/channel.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/host_port.h"
#include "common/rpc/channel.h"

namespace tidegate {
namespace {

constexpr size_t kTargetsMax = 16;
constexpr std::chrono::milliseconds kConnectMax{1000};
constexpr std::chrono::milliseconds kLookEvery{20};

// The leader that a standby named, if any.
std::string LeaderOf(const grpc::ClientContext& context) {
  const auto& metadata = context.GetServerTrailingMetadata();
  const auto found = metadata.find(kLeaderKey);
  if (found == metadata.end()) return "";
  const std::string address(found->second.data(), found->second.size());
  return SplitAddresses(address).ok() ? address : "";
}

}  // namespace

struct SchedulerCalls::Target {
  explicit Target(const std::string& at)
      : address(at), channel(MakeControlChannel(at)), stub(SchedulerService::NewStub(channel)) {}
  const std::string address;
  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<Stub> stub;
};

SchedulerCalls::SchedulerCalls(const std::string& addresses) : addresses_(addresses) {
  const std::vector<std::string> list = absl::StrSplit(addresses, ',');
  for (const std::string& address : list) targets_.push_back(std::make_unique<Target>(address));
}
SchedulerCalls::~SchedulerCalls() = default;

int SchedulerCalls::targets() const {
  std::lock_guard lock(mutex_);
  return static_cast<int>(targets_.size());
}

SchedulerCalls::Stub* SchedulerCalls::StubOf(const Target& target) { return target.stub.get(); }

SchedulerCalls::Stub* SchedulerCalls::CurrentStub() const {
  std::lock_guard lock(mutex_);
  return targets_[current_]->stub.get();
}

absl::StatusOr<SchedulerCalls::Target*> SchedulerCalls::Begin(const Context& context) {
  Target* target;
  bool several;
  {
    std::lock_guard lock(mutex_);
    if (absl::Status ended = Ended(); !ended.ok()) return ended;
    target = targets_[current_].get();
    several = targets_.size() > 1;
    active_.emplace(context, target);
  }
  // A call that waits is what drives the channel's connecting; one that fails at once leaves it lying. But where
  // there are others, a scheduler that is gone is not waited for.
  context->set_wait_for_ready(!several);
  if (!several) return target;
  const auto until = std::chrono::steady_clock::now() + kConnectMax;
  for (;;) {
    const grpc_connectivity_state state = target->channel->GetState(true);
    if (state == GRPC_CHANNEL_READY) return target;
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || std::chrono::steady_clock::now() >= until) break;
    target->channel->WaitForStateChange(state, std::chrono::system_clock::now() + kLookEvery);
    std::lock_guard lock(mutex_);
    if (absl::Status ended = Ended(); !ended.ok()) {
      active_.erase(context);
      return ended;
    }
  }
  std::lock_guard lock(mutex_);
  active_.erase(context);
  Leave(target, "");
  return absl::UnavailableError(absl::StrCat("cannot connect to ", target->address));
}

void SchedulerCalls::Finish(Target* target, const Context& context, const absl::Status& status) {
  std::vector<Context> elsewhere;
  {
    std::lock_guard lock(mutex_);
    active_.erase(context);
    if (status.ok()) {
      // Another one leads now: what waits at the old one goes there too.
      if (answered_ != target) {
        for (const auto& [other, at] : active_) {
          if (at != target) elsewhere.push_back(other);
        }
      }
      answered_ = target;
    } else if (IsRetryable(status) && !absl::IsCancelled(status)) {
      Leave(target, LeaderOf(*context));
    }
  }
  for (const Context& other : elsewhere) other->TryCancel();
}

void SchedulerCalls::Leave(const Target* target, const std::string& leader) {
  if (targets_[current_].get() != target) return;  // another call has moved on already
  if (leader.empty() || leader == target->address) {
    current_ = next_ = (next_ + 1) % targets_.size();
    return;
  }
  for (size_t i = 0; i < targets_.size(); ++i) {
    if (targets_[i]->address == leader) {
      current_ = i;
      return;
    }
  }
  if (targets_.size() < kTargetsMax) targets_.push_back(std::make_unique<Target>(leader));
  current_ = targets_.size() - 1;
}

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
  std::map<Context, const Target*> active;
  {
    std::lock_guard lock(mutex_);
    if (flag != nullptr) *flag = true;
    if (abandoned_.ok()) abandoned_ = std::move(status);
    active = active_;
  }
  changed_.notify_all();
  for (const auto& [context, target] : active) context->TryCancel();
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
