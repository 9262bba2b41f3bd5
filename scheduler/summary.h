#pragma once
// The JSON summary of a job (docs/operations.md lists its fields).

#include <string>

#include "proto/scheduler_messages.pb.h"
#include "proto/scheduler_state.pb.h"

namespace tidegate {

// One object, as text. NaN and infinity become null.
std::string SummaryJson(const GetStatusResponse& status, const SchedulerState& state);

}  // namespace tidegate
