#include "scheduler/rpc/scheduler_loop.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/logging.h"
#include "scheduler/store/state_codec.h"

namespace tidegate {
namespace {

constexpr TimeMs kStoreRetryMs = 250;
constexpr TimeMs kLongWriteMs = 250;

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
    std::unique_lock<std::mutex> lock(mutex_);
    running_ = true;
    tick_ms_ = tick_ms;
    Call(&ready, [&] { return core_->Start(CoreNow()); });
    Flush(&lock, &ready);
    if (!store_error_.ok() || !health_.ok()) {
      running_ = false;
      return !store_error_.ok() ? store_error_ : health_;
    }
  }
  Deliver(std::move(ready));
  thread_ = std::thread([this] { Run(); });
  return absl::OkStatus();
}

void SchedulerLoop::Stop() {
  std::vector<Ready> ready;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    running_ = false;
    for (auto& [token, answer] : waiting_) {
      ready.push_back({std::move(answer), absl::UnavailableError("the scheduler is stopping"), {}});
    }
    waiting_.clear();
    wake_.notify_all();
    written_.wait(lock, [this] { return !commit_.writing(); });
  }
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
  const TimeMs now = CoreNow();
  if (!next.ok()) return Apply(core_->RestoreFailed(now, next.status()), ready);
  core_ = *next;
  manifests_.clear();
  commit_.Drop();
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

SchedulerLoop::Times SchedulerLoop::Now() {
  timespec clock, cpu;
  clock_gettime(CLOCK_MONOTONIC, &clock);
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
  const auto ms = [](const timespec& t) { return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6; };
  return {ms(clock), ms(cpu)};
}

void SchedulerLoop::Apply(SchedulerEffects effects, std::vector<Ready>* ready) {
  if (core_->WantsRestore()) Restore(&effects, ready);
  commit_.Add(std::move(effects));
}

void SchedulerLoop::Flush(std::unique_lock<std::mutex>* lock, std::vector<Ready>* ready) {
  if (commit_.NeedsWrite()) Write(lock);
  // Also after a write of another one's: that one leads no more either.
  if (store_error_.ok() && health_.ok() && hooks_.leads) health_ = hooks_.leads();
  if (!health_.ok()) return;
  for (SchedulerEffects& stored : commit_.Take()) Release(std::move(stored), ready);
  if (WriteIsDue()) wake_.notify_all();
}

void SchedulerLoop::Write(std::unique_lock<std::mutex>* lock) {
  const TimeMs now = clock_->NowMs();
  if (!health_.ok() || now < retry_at_) return;
  const std::string state = EncodeState(core_->Durable());
  commit_.BeginWrite();
  write_began_ = now;
  lock->unlock();
  const absl::Status status = store_->Write(state);
  lock->lock();
  commit_.EndWrite(status.ok());
  NoteWritten(now, state.size(), status);
  written_.notify_all();
}

void SchedulerLoop::NoteWritten(TimeMs began, size_t bytes, const absl::Status& status) {
  if (status.ok()) {
    if (!store_error_.ok()) {
      TG_LOG(WARNING) << "the state is stored again, after " << began - failing_since_ << " ms";
    }
    store_error_ = status;
    ++statistics_.writes;
    statistics_.state_bytes = bytes;
    return;
  }
  if (store_error_.ok()) failing_since_ = began;
  if (store_error_.ok() && !absl::IsAborted(status)) {
    TG_LOG(ERROR) << "the state cannot be stored, so nothing is answered; trying again for "
                  << store_patience_ms_ / 1000 << " s: " << status.message();
  }
  store_error_ = status;
  retry_at_ = clock_->NowMs() + kStoreRetryMs;
  if (began - failing_since_ >= store_patience_ms_ || absl::IsAborted(status)) health_ = status;
}

bool SchedulerLoop::Stalled(TimeMs now) const {
  return !store_error_.ok() || !health_.ok() || (commit_.writing() && now - write_began_ > kLongWriteMs);
}

// Stands still while the loop is stalled: what members wait for then is no silence of theirs.
TimeMs SchedulerLoop::CoreNow() {
  const TimeMs now = clock_->NowMs();
  if (!Stalled(now)) core_now_ = std::max(core_now_, now);
  return core_now_;
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
    Call(ready, [&] { return core_->ManifestWritten(CoreNow(), status); });
  }
  const TimeMs now = clock_->NowMs();
  if (now < next_tick_ || Stalled(now)) return;
  next_tick_ = now + tick_ms_;
  Call(ready, [&] { return core_->Tick(CoreNow()); });
}

void SchedulerLoop::Run() {
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
    if (!running_) break;
    CallCore(core, written, &ready);
    Flush(&lock, &ready);
    lock.unlock();
    Deliver(std::move(ready));
    lock.lock();
    const TimeMs now = clock_->NowMs();
    const TimeMs rest = Stalled(now) ? tick_ms_ : std::clamp<TimeMs>(next_tick_ - now, 1, tick_ms_);
    wake_.wait_for(lock, std::chrono::milliseconds(rest), [this] {
      return !running_ || !manifests_.empty() || !removals_.empty() || WriteIsDue();
    });
  }
}

GetStatusResponse SchedulerLoop::Status() {
  std::lock_guard<std::mutex> lock(mutex_);
  return core_->Status(CoreNow());
}
SchedulerState SchedulerLoop::Durable() {
  std::lock_guard<std::mutex> lock(mutex_);
  return core_->Durable();
}
bool SchedulerLoop::Ended() {
  std::lock_guard<std::mutex> lock(mutex_);
  return commit_.AllStored() && core_->Ended();
}
bool SchedulerLoop::Drained() {
  std::lock_guard<std::mutex> lock(mutex_);
  return commit_.AllStored() && core_->Drained();
}
absl::Status SchedulerLoop::Health() {
  std::lock_guard<std::mutex> lock(mutex_);
  return health_;
}
SchedulerLoop::Statistics SchedulerLoop::statistics() {
  std::lock_guard<std::mutex> lock(mutex_);
  return statistics_;
}

}  // namespace tidegate
