#pragma once
// What the processes of one run share.

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
  std::vector<SimServer*> servers;  // by index; a server's address is its index

  TimeMs now() const { return loop->now(); }
  void JobFailed(const std::string& who, const std::string& why) {
    if (loss_expected && why.find("lost") != std::string::npos) {
      lost = true;
    } else if (!lost) {
      report->Fail("progress", now(), "the job failed, says " + who + ": " + why);
    }
  }
};

}  // namespace tidegate::simulation
