#pragma once
// A scheduler's metrics (docs/metrics.md). Thread-safe.

#include "common/metrics/metrics.h"
#include "scheduler/rpc/scheduler_loop.h"

namespace tidegate {

void WriteSchedulerMetrics(SchedulerLoop* loop, MetricsPage* page);

}  // namespace tidegate
