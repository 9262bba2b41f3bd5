#pragma once
// What members say is checked before the core believes any of it: a call with a field out of range is
// refused whole, INVALID_ARGUMENT. Losses may be NaN or infinite: training that diverged says so.

#include "absl/status/status.h"
#include "common/types.h"
#include "proto/scheduler_messages.pb.h"

namespace tidegate {

// `shards` of the job, 0 before they are placed.
absl::Status CheckHeartbeat(const HeartbeatRequest& request, Role role, uint32_t shards);

// `clock_max`: the highest first clock that a live worker can have.
absl::Status CheckAcquireWork(const AcquireWorkRequest& request, Clock clock_max);

// A result of `work`, or a report of its progress.
absl::Status CheckWorkDone(const WorkDone& done, const Work& work);

}  // namespace tidegate
