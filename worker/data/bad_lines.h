#pragma once
// Lines that could not be read: counted, the first few kept as "file:line: what", and too many are
// an error. One per worker process, used by one source at a time; count() may be read by any
// thread.

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tidegate {

class BadLines {
 public:
  static constexpr size_t kExamples = 5;
  explicit BadLines(uint64_t max_bad_lines) : limit_(max_bad_lines) {}

  // INVALID_ARGUMENT, with the examples, once there are more than the limit.
  absl::Status Add(std::string example);

  uint64_t count() const { return count_.load(std::memory_order_relaxed); }
  uint64_t limit() const { return limit_; }
  const std::vector<std::string>& examples() const { return examples_; }

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> count_{0};
  std::vector<std::string> examples_;
};

}  // namespace tidegate
