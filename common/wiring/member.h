#pragma once
// The flags of a process that joins a scheduler: servers and workers. Main thread, before others.

#include <gflags/gflags.h>

#include "absl/status/status.h"
#include "common/wiring/flags.h"

DECLARE_string(scheduler);
DECLARE_string(name);
DECLARE_int32(join_timeout);
DECLARE_int32(scheduler_timeout);

namespace tidegate {

FlagGroup MemberFlags();
absl::Status CheckMemberFlags();

}  // namespace tidegate
