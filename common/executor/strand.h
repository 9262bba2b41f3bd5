#pragma once
// A serial executor without a thread of its own: tasks of one strand run one at a time, in the order of
// their Run calls, each happening before the next. The thread that finds the strand idle runs its task
// at once, and then whatever others have queued meanwhile: no wake-up, and no hand-over while one thread
// suffices. Thread-safe.

#include <deque>
#include <mutex>
#include <utility>

#include "absl/functional/any_invocable.h"

namespace tidegate {

class Strand {
 public:
  using Task = absl::AnyInvocable<void()>;

  Strand() = default;
  Strand(const Strand&) = delete;
  Strand& operator=(const Strand&) = delete;

  // Returns when the task has run, or when it was queued behind tasks that another thread (or this one,
  // further up its stack) is running. No lock is held while a task runs.
  template <typename F>
  void Run(F&& task) {
    {
      std::lock_guard lock(mutex_);
      if (running_) {
        queue_.emplace_back(std::forward<F>(task));
        return;
      }
      running_ = true;
    }
    std::forward<F>(task)();
    Drain();
  }

  // Queues the task behind those that are running. False: the strand is idle, and nothing was done.
  template <typename F>
  bool QueueIfBusy(F&& task) {
    std::lock_guard lock(mutex_);
    if (!running_) return false;
    queue_.emplace_back(std::forward<F>(task));
    return true;
  }

 private:
  void Drain();

  std::mutex mutex_;
  bool running_ = false;
  std::deque<Task> queue_;
};

}  // namespace tidegate
