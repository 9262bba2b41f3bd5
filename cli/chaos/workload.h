#pragma once
// What a cluster under faults works at, and how one sees that it kept its promises. Used by one thread.

#include <cstdint>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/types.h"

namespace tidegate::cli {

// How the work went on after a fault, in milliseconds since it; -1: not known (yet).
struct Recovery {
  TimeMs first_ms = -1;      // until something went on that the fault had touched
  TimeMs all_ms = -1;        // until all of it had
  TimeMs elsewhere_ms = -1;  // the longest that nothing went on meanwhile where the fault touched nothing
  bool done = false;
  std::string waits_for;     // not done: what did not go on
};

// What a fault does to shards. Those that are in neither set lack a copy for a while.
struct FaultReach {
  std::set<ShardId> led;        // by what it hits: the work on them goes on once somebody else leads
  std::set<ShardId> untouched;  // nothing that it hits has a copy
};

class Workload {
 public:
  virtual ~Workload() = default;
  // REQUIRES: the cluster's processes run.
  virtual absl::Status Start() = 0;
  // Called every few milliseconds. Not OK: promises were broken (DATA_LOSS) or the work cannot go on.
  virtual absl::Status Watch() = 0;
  // Whether the work has come to its end: no more faults, then.
  virtual bool Finished() const = 0;
  // A fault is about to be injected.
  virtual void ExpectFault() = 0;
  // How the work on `reach.led` went on after the fault at `since`; asked again until it says done.
  virtual Recovery RecoveryOf(const FaultReach& reach, TimeMs since) = 0;
  // The longest, since then, that nothing went on in one of these shards; -1: that is not seen.
  virtual TimeMs LongestGap(const std::set<ShardId>& shards, TimeMs since) = 0;
  // After the last fault, the cluster whole again: works to the end and checks everything; asked again until it says true.
  // DATA_LOSS: something is wrong.
  virtual absl::StatusOr<bool> Audit() = 0;
  virtual void Stop() = 0;
};

}  // namespace tidegate::cli
