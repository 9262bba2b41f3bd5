#pragma once
// What the processes of one run share.

#include <functional>

#include "common/random.h"
#include "tests/simulation/checker.h"
#include "tests/simulation/event_loop.h"
#include "tests/simulation/network.h"
#include "tests/simulation/plan.h"
#include "tests/simulation/trace.h"

namespace tidegate::simulation {

class SimScheduler;
class SimServer;
struct SimDisk;

struct World {
  const Plan* plan = nullptr;
  EventLoop* loop = nullptr;
  Network* network = nullptr;
  Trace* trace = nullptr;
  Checkers* checkers = nullptr;
  Report* report = nullptr;
  SimScheduler* scheduler = nullptr;
  SimDisk* disk = nullptr;
  bool loss_expected = false;       // the last copies of a shard have died
  bool lost = false;                // and the job has failed for it
  uint64_t drain_steps = 0;         // messages while a server is drained
  std::function<void()> cut_drain;  // at plan->cut_at_step; none while none is
  std::vector<SimServer*> servers;  // by index; a server's address is its index

  TimeMs now() const { return loop->now(); }
  // A message of a move has arrived.
  void DrainStep() {
    if (cut_drain != nullptr && ++drain_steps == plan->cut_at_step) loop->At(now(), cut_drain);
  }
  // That of a process, by its number.
  TimeMs SkewOf(int id) const {
    if (plan->clock_skew_ms_max == 0) return 0;
    return static_cast<TimeMs>(Random(Mix64(plan->seed * 512 + static_cast<uint64_t>(id)))
                                   .Below(static_cast<uint64_t>(plan->clock_skew_ms_max)));
  }
  int DriftOf(int id) const {
    const auto max = static_cast<int>(plan->clock_drift_ppm_max);
    return static_cast<int>(Random(Mix64(plan->seed * 512 + static_cast<uint64_t>(id)) + 1).Below(2 * plan->clock_drift_ppm_max + 1)) - max;
  }
  void JobFailed(const std::string& who, const std::string& why) {
    if (loss_expected && why.find("lost") != std::string::npos) {
      lost = true;
    } else if (!lost) {
      report->Fail("progress", now(), "the job failed, says " + who + ": " + why);
    }
  }
};

}  // namespace tidegate::simulation
