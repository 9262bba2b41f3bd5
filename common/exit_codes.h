#pragma once
// Exit codes of the three daemons (docs/operations.md). Stopped by a signal: 128 + its number.

namespace tidegate {

inline constexpr int kExitFinished = 0;     // the job is done
inline constexpr int kExitFailed = 1;       // the job failed, or this process did: the log says why
inline constexpr int kExitUsage = 2;        // flags, addresses, files named by flags
inline constexpr int kExitJoinTimeout = 3;  // no scheduler within --join_timeout
inline constexpr int kExitRemoved = 4;      // the scheduler gave this process up

}  // namespace tidegate
