#pragma once
// How much text was turned into rows, and how long the reading thread worked at it (waiting for a
// stream's bytes included). Written by one thread at a time, read by any.

#include <atomic>
#include <chrono>
#include <cstdint>

namespace tidegate {

struct ReadStats {
  std::atomic<uint64_t> bytes{0};  // of lines that were decoded
  std::atomic<double> seconds{0};

  // Adds the time until its end.
  class Timer {
   public:
    explicit Timer(ReadStats* stats) : stats_(stats), start_(std::chrono::steady_clock::now()) {}
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;
    ~Timer() {
      const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
      stats_->seconds.store(stats_->seconds.load(std::memory_order_relaxed) + s, std::memory_order_relaxed);
    }

   private:
    ReadStats* const stats_;
    const std::chrono::steady_clock::time_point start_;
  };
};

}  // namespace tidegate
