#pragma once
// Lines that could not be read: counted, the first few kept as "file:line: what", and too many are
// an error. One per worker process, used by one source at a time; count() may be read by any
// thread.

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tidegate {

class BadLines {
 public:
  static constexpr size_t kExamples = 5;
  explicit BadLines(uint64_t max_bad_lines) : limit_(max_bad_lines) {}

  // What is wrong with lines, without their texts and numbers: `user: "..." is no number`, `N columns, not N`.
  struct Reason {
    uint64_t count = 0;
    std::string example;  // the first, "file:line: what"
  };
  static constexpr size_t kReasons = 50;

  // INVALID_ARGUMENT, with the examples, once there are more than the limit.
  absl::Status Add(const std::string& where, const std::string& what);

  uint64_t count() const { return count_.load(std::memory_order_relaxed); }
  uint64_t limit() const { return limit_; }
  const std::vector<std::string>& examples() const { return examples_; }
  // The first kReasons; the rest counts as "other reasons". Not while lines are added.
  const std::map<std::string, Reason>& reasons() const { return reasons_; }

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> count_{0};
  std::vector<std::string> examples_;
  std::map<std::string, Reason> reasons_;
};

}  // namespace tidegate
