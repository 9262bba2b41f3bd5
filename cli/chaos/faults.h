#pragma once
// What is done to a cluster under test.

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tidegate::cli {

enum class ChaosFault {
  kKillServer,      // kill -9; started again, empty, soon after
  kPauseServer,     // SIGSTOP for two leases, then SIGCONT
  kKillScheduler,   // the one that leads; kill -9, started again at once, or when a standby leads
  kPauseScheduler,  // the one that leads; SIGSTOP for two leases
  kNoScheduler,     // gone for five leases, and all standbys
  kRestartServer,   // emptied as by `tidegate restart`, and started again
  kKillWorker,      // kill -9; started again soon after. Only of a job with workers of its own
  // For two leases, and only where links can be cut (cli/chaos/fault_network.h):
  kCutPair,          // between a primary and one of its backups
  kCutOneWay,        // from one of the two to the other
  kIsolateServer,    // from the scheduler and all servers; workers still reach it
  kIsolateScheduler  // from all servers
};
const char* NameOf(ChaosFault fault);
bool CutsLinks(ChaosFault fault);
bool HitsServer(ChaosFault fault);
// INVALID_ARGUMENT names the word and lists what there is. "all": every one that needs no cut links; "network": the others.
// `workers`: there are worker processes.
absl::StatusOr<std::vector<ChaosFault>> ParseFaults(const std::string& list, bool workers);

}  // namespace tidegate::cli
