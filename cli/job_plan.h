#pragma once
// What a job would need and do, from its config and a look at its data. Starts nothing.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/job.pb.h"

namespace tidegate::cli {

// Rates of one core that the estimate of the bottleneck assumes (docs/performance.md, 2 cores of 2.1 GHz).
inline constexpr double kParseBytesPerSecond = 150e6;
inline constexpr double kSecondsPerRow = 0.35e-6;  // pulled and pushed, both processes
inline constexpr double kFlopsPerSecond = 30e9;

struct NodePlanReport {
  std::string name;
  std::string kind;  // "lookup", "number", "mlp", ...
  std::vector<std::string> inputs;
  uint32_t fields = 1, dim = 1;  // of its value, per sample
  uint64_t parameters = 0;
  double flops = 0;  // forward, per sample
};
struct TablePlanReport {
  std::string name;
  uint32_t width = 0;        // values of a row
  uint32_t row_bytes = 0;    // with optimizer state and header
  uint64_t seen = 0;         // distinct keys in the rows read
  double rows = 0;           // expected in the end
  std::string rows_by;       // how that is known
  double bytes_per_server = 0;
  double keys_per_step = 0;  // distinct, of one worker's batch
};
struct DensePlanReport {
  std::string name;
  std::vector<uint64_t> shape;
  uint64_t parameters = 0;
  uint64_t bytes = 0;  // with optimizer state
};
struct JobPlan {
  std::vector<NodePlanReport> nodes;
  std::vector<TablePlanReport> tables;
  std::vector<DensePlanReport> dense;
  uint32_t servers = 1, workers = 1;
  uint64_t batch = 0;          // samples of a worker's step
  uint64_t rows_read = 0;      // of the data, to measure
  uint64_t rows_half = 0;      // of them, up to half of the limit in whole steps; 0: the first step is longer
  double rows_total = 0;       // of the training data; 0: not known
  std::string data_note;       // why nothing was measured
  double parse_bytes = 0;      // per sample, of the files as text; 0: not known
  double pulled_bytes = 0;     // per sample
  double pushed_bytes = 0;
  double rows_per_sample = 0;  // rows on the wire, sparse and dense
  double flops = 0;            // per sample, forward and backward
};

// CPU seconds per sample by the rates above; `parse` is NaN where the bytes are not known.
struct Bottleneck {
  double parse = 0, wire = 0, compute = 0;
  std::string largest;  // "reader", "wire", "compute"
};

// `rows_of_table`: given by the caller, else estimated. Reads at most `sample_rows` rows of data.train.
absl::StatusOr<JobPlan> PlanJob(const JobConfig& job, const std::map<std::string, uint64_t>& rows_of_table, uint64_t sample_rows);
Bottleneck FindBottleneck(const JobPlan& plan);

}  // namespace tidegate::cli
