#pragma once
// Calls of a command that goes on while the job's scheduler is away for a while.

#include <chrono>
#include <thread>

#include "absl/status/status.h"
#include "cli/stop_signals.h"
#include "common/clock.h"

namespace tidegate::cli {

class Patience {
 public:
  explicit Patience(TimeMs timeout_ms) : timeout_ms_(timeout_ms) {}

  // `call` returns a StatusOr. Again and again while no scheduler answers, from the first answer on: before it, the address may
  // be wrong. Until the time is up, or a signal to stop comes.
  template <typename Call>
  auto Until(Call call) -> decltype(call()) {
    const TimeMs until = clock_.NowMs() + timeout_ms_;
    for (;;) {
      auto result = call();
      const bool passing = absl::IsUnavailable(result.status()) || absl::IsDeadlineExceeded(result.status());
      if (result.ok() || !passing || !answered_ || clock_.NowMs() > until || StopSignals() > 0) {
        answered_ = answered_ || result.ok();
        return result;
      }
      std::this_thread::sleep_for(kPoll);
    }
  }

 private:
  static constexpr std::chrono::milliseconds kPoll{200};
  const TimeMs timeout_ms_;
  RealClock clock_;
  bool answered_ = false;
};

}  // namespace tidegate::cli
