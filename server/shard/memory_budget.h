#pragma once
// What the tables of one server may use, shared by its strands: --memory_limit_bytes. Each strand
// reports the change of its own use after every push and sweep, so that strands which check at the same
// time may go over by a message each. Thread-safe.

#include <atomic>
#include <cstdint>

namespace tidegate {

class MemoryBudget {
 public:
  // 0: no limit.
  explicit MemoryBudget(uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  uint64_t limit_bytes() const { return limit_bytes_; }
  uint64_t used_bytes() const {
    const int64_t used = used_bytes_.load(std::memory_order_relaxed);
    return used < 0 ? 0 : static_cast<uint64_t>(used);
  }
  bool Allows(uint64_t more_bytes) const {
    if (limit_bytes_ == 0) return true;
    const uint64_t used = used_bytes();
    return used <= limit_bytes_ && more_bytes <= limit_bytes_ - used;
  }
  void Add(int64_t delta_bytes) { used_bytes_.fetch_add(delta_bytes, std::memory_order_relaxed); }

 private:
  const uint64_t limit_bytes_;
  std::atomic<int64_t> used_bytes_{0};
};

}  // namespace tidegate
