#include "scheduler/rpc/scheduler_loop.h"

#include <chrono>
#include <utility>

#include "common/logging.h"

namespace tidegate {
namespace {

constexpr TimeMs kStoreRetryMs = 250;

}  // namespace

SchedulerLoop::SchedulerLoop(ClusterState* core, StateStore* store, const ClockSource* clock,
                             Hooks hooks, TimeMs store_patience_ms)
    : core_(core),
      store_(store),
      clock_(clock),
      hooks_(std::move(hooks)),
      store_patience_ms_(store_patience_ms) {}

SchedulerLoop::~SchedulerLoop() { Stop(); }

absl::Status SchedulerLoop::Start(TimeMs tick_ms) {
  std::vector<Ready> ready;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    running_ = true;
    Apply(core_->Start(clock_->NowMs()), &ready);
    if (unstored_ || !health_.ok()) {
      running_ = false;
      return unstored_ ? store_error_ : health_;
    }
  }
  Deliver(std::move(ready));
  thread_ = std::thread([this, tick_ms] { Run(tick_ms); });
  return absl::OkStatus();
}

void SchedulerLoop::Stop() {
  std::vector<Ready> ready;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    running_ = false;
    for (auto& [token, answer] : waiting_) {
      ready.push_back({std::move(answer), absl::UnavailableError("the scheduler is stopping"), {}});
    }
    waiting_.clear();
  }
  wake_.notify_all();
  Deliver(std::move(ready));
  if (thread_.joinable()) thread_.join();
}

void SchedulerLoop::Restore(SchedulerEffects* effects, std::vector<Ready>* ready) {
  auto next = hooks_.restore ? hooks_.restore(*core_) : absl::UnimplementedError("this scheduler cannot restore");
  for (SchedulerReply& reply : effects->replies) {
    auto* response = std::get_if<RestoreJobResponse>(&reply.response);
    if (response == nullptr) continue;
    reply.status = next.status();
    if (!next.ok()) continue;
    response->set_folder((*next)->Durable().restored_from());
    response->set_clock((*next)->Durable().restored_clock());
  }
  const TimeMs now = clock_->NowMs();
  if (!next.ok()) return Apply(core_->RestoreFailed(now, next.status()), ready);
  core_ = *next;
  manifests_.clear();
  held_.clear();
  std::unordered_map<CallToken, Answer> answered;
  for (const SchedulerReply& reply : effects->replies) {
    if (auto call = waiting_.extract(reply.token)) answered.insert(std::move(call));
  }
  for (auto& [token, answer] : std::exchange(waiting_, std::move(answered))) {
    ready->push_back({std::move(answer), absl::UnavailableError("the job goes on from a checkpoint: call again"), {}});
  }
  effects->manifest.reset();
  Apply(core_->Start(now), ready);
}

void SchedulerLoop::Apply(SchedulerEffects effects, std::vector<Ready>* ready) {
  if (core_->WantsRestore()) Restore(&effects, ready);
  unstored_ = unstored_ || effects.persist;
  held_.push_back(std::move(effects));
  if (unstored_) Store();
  if (!unstored_ && health_.ok() && hooks_.leads) health_ = hooks_.leads();
  if (unstored_ || !health_.ok()) return;
  for (SchedulerEffects& held : std::exchange(held_, {})) Release(std::move(held), ready);
}

void SchedulerLoop::Store() {
  const TimeMs now = clock_->NowMs();
  if (!health_.ok() || now < retry_at_) return;
  const absl::Status status = store_->Store(core_->Durable());
  if (status.ok()) {
    if (!store_error_.ok()) {
      TG_LOG(WARNING) << "the state is stored again, after " << now - failing_since_ << " ms";
    }
    unstored_ = false;
    store_error_ = status;
    return;
  }
  if (store_error_.ok()) failing_since_ = now;
  if (store_error_.ok() && !absl::IsAborted(status)) {
    TG_LOG(ERROR) << "the state cannot be stored, so nothing is answered; trying again for "
                  << store_patience_ms_ / 1000 << " s: " << status.message();
  }
  store_error_ = status;
  retry_at_ = clock_->NowMs() + kStoreRetryMs;
  if (now - failing_since_ >= store_patience_ms_ || absl::IsAborted(status)) health_ = status;
}

void SchedulerLoop::Release(SchedulerEffects effects, std::vector<Ready>* ready) {
  if (effects.manifest) manifests_.push_back(*std::move(effects.manifest));
  removals_.insert(removals_.end(), effects.remove_checkpoints.begin(), effects.remove_checkpoints.end());
  if (!manifests_.empty() || !removals_.empty()) wake_.notify_all();
  for (SchedulerReply& reply : effects.replies) {
    const auto it = waiting_.find(reply.token);
    if (it == waiting_.end()) continue;
    ready->push_back({std::move(it->second), std::move(reply.status), std::move(reply.response)});
    waiting_.erase(it);
  }
  if (hooks_.log) {
    for (const std::string& event : effects.events) hooks_.log(event);
  }
  if (hooks_.metrics) {
    for (const MetricsRecord& record : effects.metrics) hooks_.metrics(record);
  }
}

void SchedulerLoop::Deliver(std::vector<Ready> ready) {
  for (Ready& r : ready) r.answer(r.status, std::move(r.response));
}

void SchedulerLoop::CallCore(const ClusterState* of, const std::vector<absl::Status>& manifests_written,
                             std::vector<Ready>* ready) {
  for (const absl::Status& status : manifests_written) {
    if (core_ != of) break;
    Apply(core_->ManifestWritten(clock_->NowMs(), status), ready);
  }
  if (unstored_) {
    Apply({}, ready);  // tries to store again
  } else {
    Apply(core_->Tick(clock_->NowMs()), ready);
  }
}

void SchedulerLoop::Run(TimeMs tick_ms) {
  std::unique_lock<std::mutex> lock(mutex_);
  while (running_) {
    std::vector<Ready> ready;
    const ClusterState* const core = core_;
    std::vector<ManifestOrder> manifests = std::exchange(manifests_, {});
    const std::vector<std::string> removals = std::exchange(removals_, {});
    lock.unlock();
    for (const std::string& folder : removals) {
      if (hooks_.remove_checkpoint) hooks_.remove_checkpoint(folder);
    }
    std::vector<absl::Status> written;
    for (const ManifestOrder& order : manifests) written.push_back(hooks_.write_manifest(order));
    lock.lock();
    CallCore(core, written, &ready);
    lock.unlock();
    Deliver(std::move(ready));
    lock.lock();
    wake_.wait_for(lock, std::chrono::milliseconds(tick_ms), [this] {
      return !running_ || !manifests_.empty() || !removals_.empty();
    });
  }
}

GetStatusResponse SchedulerLoop::Status() {
  std::lock_guard<std::mutex> lock(mutex_);
  return core_->Status(clock_->NowMs());
}
SchedulerState SchedulerLoop::Durable() {
  std::lock_guard<std::mutex> lock(mutex_);
  return core_->Durable();
}
bool SchedulerLoop::Ended() {
  std::lock_guard<std::mutex> lock(mutex_);
  return !unstored_ && core_->Ended();
}
bool SchedulerLoop::Drained() {
  std::lock_guard<std::mutex> lock(mutex_);
  return !unstored_ && core_->Drained();
}
absl::Status SchedulerLoop::Health() {
  std::lock_guard<std::mutex> lock(mutex_);
  return health_;
}

}  // namespace tidegate
