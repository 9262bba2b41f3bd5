#pragma once
// The web page of a job and the JSON that it polls (/api/status), as pages of an HttpServer.
// Thread-safe: pages are asked for by the server's thread, Observe is the scheduler's.

#include <mutex>
#include <vector>

#include "common/clock.h"
#include "common/metrics/http_server.h"
#include "scheduler/rpc/scheduler_loop.h"
#include "scheduler/status_history.h"

namespace tidegate {

class StatusPage {
 public:
  // Both outlive this, and this the server that has its pages.
  StatusPage(SchedulerLoop* loop, const ClockSource* clock) : loop_(loop), clock_(clock) {}

  // Takes a point of the curves where one is due.
  void Observe();
  std::vector<HttpPage> Pages();

 private:
  std::string Json();

  SchedulerLoop* const loop_;
  const ClockSource* const clock_;
  std::mutex mutex_;
  StatusHistory history_;
};

}  // namespace tidegate
