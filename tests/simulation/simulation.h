#pragma once
// One run of a whole cluster: the real cores, a simulated network, disk and time, faults from a plan, and
// checkers that watch. The same plan gives the same run.

#include <cstdint>
#include <cstdio>
#include <string>

#include "tests/simulation/plan.h"

namespace tidegate::simulation {

struct Outcome {
  bool ok = false;
  std::string checker;  // that failed, and what it says
  std::string text;
  TimeMs at = 0;        // of the failure or the end
  uint64_t trace_hash = 0;
  uint64_t events = 0;
  uint64_t digest = 0;  // of all tables at the end
  uint64_t sums = 0;    // of the sums in the rows: the same for any number of servers and shards
  uint64_t drain_steps = 0;
};

// `trace`: where to write what happens; null: nowhere.
Outcome Run(const Plan& plan, std::FILE* trace = nullptr);

}  // namespace tidegate::simulation
