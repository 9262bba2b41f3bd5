#pragma once
// The range of clocks that come from outside.

#include "common/types.h"

namespace tidegate {

// Clocks of messages are in [-kClockLimit, kClockLimit], so that sums with them do not overflow.
inline constexpr Clock kClockLimit = Clock{1} << 48;

}  // namespace tidegate
