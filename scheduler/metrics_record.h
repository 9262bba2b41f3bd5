#pragma once
// One line of the job's metrics.jsonl: what the core hands out to be written (docs/formats.md).

#include <cstdint>
#include <string>
#include <vector>

#include "common/types.h"
#include "proto/cluster.pb.h"

namespace tidegate {

struct MetricsRecord {
  std::string kind;           // "epoch": after its evaluation; "progressive": a window of the training stream
  Clock step = 0;             // clocks that workers have pushed
  uint32_t epoch = 0;
  uint64_t samples = 0;       // trained on so far
  double seconds = 0;         // of training so far, evaluation and saving not counted
  double learning_rate_factor = 1;  // schedule times plateau, at `step`
  std::vector<MetricValue> values;
};

}  // namespace tidegate
