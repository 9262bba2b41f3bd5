#pragma once
// `tidegate bench wire`: a scheduler and one server as processes, and this process as their worker.
// `tidegate bench replication`: several clusters of a scheduler and two servers, without and with copies.

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "cli/bench_figure.h"

namespace tidegate::cli {

struct BenchWireOptions {
  bool quick = false;
  std::string only;  // figures with this in their names; empty: all
  std::string bin_dir;
  std::string run_dir;  // made, and left behind
};

// `report` is called from a thread of its own. Only from the main thread.
absl::Status RunBenchWire(const BenchWireOptions& options, const std::function<void(const BenchFigure&)>& report);
absl::Status RunBenchReplication(const BenchWireOptions& options, const std::function<void(const BenchFigure&)>& report);

}  // namespace tidegate::cli
