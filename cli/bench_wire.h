#pragma once
// `tidegate bench wire`: starts a scheduler and a server with one executor on this machine, and measures
// them with worker/client/wire_bench.h.

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "cli/bench_figure.h"

namespace tidegate::cli {

struct BenchWireOptions {
  bool quick = false;
  std::string bin_dir;
  std::string run_dir;  // made, and left behind with the processes' logs
};

absl::Status RunBenchWire(const BenchWireOptions& options,
                          const std::function<void(const BenchFigure&)>& report);

}  // namespace tidegate::cli
