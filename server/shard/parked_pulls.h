#pragma once
// Pulls that wait for a clock. Bounded per worker; a retry of a pull (same worker, clock, mode and
// keys) takes the place of the one that waits. A core without I/O; not thread-safe.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "common/types.h"
#include "server/shard/shard_messages.h"

namespace tidegate {

class ParkedPulls {
 public:
  explicit ParkedPulls(size_t max_per_worker) : max_per_worker_(max_per_worker) {}

  // Keeps the call until its bound. The token of the call that it replaces, if any (the caller answers
  // it). UNAVAILABLE: the worker has the greatest number parked already; the call is not kept.
  absl::StatusOr<std::optional<CallToken>> Park(PullCall call);

  // True while a pull with this bound has to wait.
  static bool MustWait(Clock bound, Clock released) { return bound > released; }
  // Takes out those that need not wait any more: by bound, then in the order they came.
  std::vector<PullCall> TakeReleased(Clock released);
  std::vector<PullCall> TakeIf(const std::function<bool(const PullCall&)>& condition);
  // False: no such call is parked.
  bool Cancel(CallToken token);

  size_t size() const { return parked_.size(); }

 private:
  struct Parked {
    PullCall call;
    uint64_t fingerprint;  // of the keys
  };
  const size_t max_per_worker_;
  std::multimap<Clock, Parked> parked_;  // by bound; equal bounds in order of arrival
};

}  // namespace tidegate
