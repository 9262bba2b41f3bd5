#pragma once
// `tidegate bench train`: a DeepFM on generated rows, as real processes on this machine, beside what the
// matrix products of that model alone allow on the same cores in the same run.

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/bench_figure.h"
#include "proto/job.pb.h"

namespace tidegate::cli {

struct BenchTrainOptions {
  bool quick = false;
  std::string bin_dir;
  std::string run_dir;  // made, and left behind
};

absl::Status BenchTrain(const BenchTrainOptions& options, const std::function<void(const BenchFigure&)>& report);

// Samples per second of forward, input gradient and weight gradient of every weight matrix of the
// config's model at `batch` rows, `threads` at once, each on one core, for about `seconds`.
absl::StatusOr<double> GemmCeiling(const JobConfig& config, size_t batch, int threads, double seconds);

}  // namespace tidegate::cli
