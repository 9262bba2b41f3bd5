#pragma once
// The JSON summary of a job (docs/operations.md lists its fields).

#include <string>

#include "proto/scheduler_messages.pb.h"
#include "proto/scheduler_state.pb.h"

namespace tidegate {

// One object, as text. NaN and infinity become null. `failure`: why the scheduler ends before the job.
std::string SummaryJson(const GetStatusResponse& status, const SchedulerState& state,
                        const std::string& failure = "");

}  // namespace tidegate
