#include "worker/data/prefetch.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace tidegate {
namespace {
constexpr std::chrono::milliseconds kLookAtStop(100);
}  // namespace

Prefetcher::Prefetcher(BatchSource* source, size_t max_rows, size_t depth,
                       const std::atomic<bool>* stop)
    : source_(source), max_rows_(max_rows), stopped_(stop), ring_(std::max<size_t>(1, depth)) {
  thread_ = std::thread([this] { Run(); });
}

Prefetcher::~Prefetcher() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    if (!done_) source_->Cancel();
  }
  changed_.notify_all();
  thread_.join();
}

void Prefetcher::Run() {
  for (;;) {
    Batch* slot;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return stop_ || read_ - taken_ < ring_.size(); });
      if (stop_) return;
      slot = &ring_[read_ % ring_.size()];
    }
    absl::StatusOr<bool> more = source_->Next(max_rows_, slot);
    std::lock_guard<std::mutex> lock(mutex_);
    if (more.ok() && *more) {
      ++read_;
    } else {
      status_ = more.status();
      done_ = true;
    }
    changed_.notify_all();
    if (done_) return;
  }
}

absl::StatusOr<bool> Prefetcher::Next(Batch* batch) {
  Batch* slot;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (read_ == taken_ && !done_) {
      const auto ready = [this] { return read_ > taken_ || done_; };
      while (!changed_.wait_for(lock, kLookAtStop, ready)) {
        if (stopped_ == nullptr || !stopped_->load(std::memory_order_relaxed)) continue;
        batch->Clear();
        return absl::CancelledError("stopped while waiting for data");
      }
    }
    if (read_ == taken_) {
      batch->Clear();
      if (!status_.ok()) return status_;
      return false;
    }
    slot = &ring_[taken_ % ring_.size()];
  }
  std::swap(*slot, *batch);  // a full slot is the taker's until taken_ moves on
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ++taken_;
  }
  changed_.notify_all();
  return true;
}

}  // namespace tidegate
