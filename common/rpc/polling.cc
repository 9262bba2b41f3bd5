#include "common/rpc/polling.h"

#include <cstdlib>

#include "absl/synchronization/mutex.h"

namespace tidegate {

void PollOnOwnThreads() { setenv("GRPC_POLL_STRATEGY", "poll,epoll1", /*overwrite=*/0); }

void IgnoreLockCycles() { absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore); }

}  // namespace tidegate
