#pragma once
// Exit codes of the three daemons (docs/operations.md). Stopped by a signal: 128 + its number.

#include <string_view>

namespace tidegate {

inline constexpr int kExitFinished = 0;     // the job is done
inline constexpr int kExitFailed = 1;       // the job failed, or this process did: the log says why
inline constexpr int kExitUsage = 2;        // flags, addresses, files named by flags
inline constexpr int kExitJoinTimeout = 3;  // no scheduler within --join_timeout
inline constexpr int kExitRemoved = 4;      // the scheduler gave this process up
inline constexpr int kExitRestart = 5;      // a server that was emptied by command, to be started again

// A job that was asked to stop ends as failed, with a message that begins so: no error to shout about.
inline constexpr std::string_view kStoppedPrefix = "stopped: ";
inline bool WasStopped(std::string_view message) { return message.substr(0, kStoppedPrefix.size()) == kStoppedPrefix; }

// A server that hears of its end with such a message is to be started again.
inline constexpr std::string_view kRestartPrefix = "restart: ";
inline bool IsToRestart(std::string_view message) { return message.substr(0, kRestartPrefix.size()) == kRestartPrefix; }

}  // namespace tidegate
