#pragma once
// What a scheduler tells of its job, as JSON: `tidegate status --json` and the page's /api/status. Pure
// functions.

#include <cstdint>
#include <optional>
#include <string>

#include "common/json.h"
#include "proto/scheduler_messages.pb.h"

namespace tidegate {

std::string PhaseName(Phase phase);  // "training"

// Mean loss of the last seconds over workers that train; NaN: none does.
double MeanLoss(const GetStatusResponse& status);

// How many clocks a worker is behind the one that is furthest; none: it is no live worker that has pushed.
std::optional<int64_t> ClockLag(const GetStatusResponse& status, const MemberStatus& member);

JsonObject StatusObject(const GetStatusResponse& status);

}  // namespace tidegate
