#pragma once
// The view of `tidegate top`: a job's members, rates, staleness and loss as a screen of text. Pure.

#include <string>

#include "common/types.h"
#include "proto/scheduler_messages.pb.h"

namespace tidegate::cli {

struct Observation {
  TimeMs at_ms = 0;
  GetStatusResponse status;
};

// Rates are those between `before` (null: none yet) and `now`. At most `width` columns and `height` lines.
std::string TopScreen(const Observation& now, const Observation* before, int width, int height);

// "staleness 0: 71%  1: 20%  2 or more: 9%" of pulls; empty without any.
std::string StalenessLine(const GetStatusResponse& status);

}  // namespace tidegate::cli
