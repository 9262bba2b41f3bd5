#pragma once
// `tidegate bench wire`: what rows cost over the wire, from the client's call to its callback, against a
// running server, beside raw TCP that moves as many bytes between two threads, in turns with it.
//
// It joins a job as its only worker (WireBenchConfig: one server, no staleness bound), declares tables
// of its own and fills them. CPU figures count this process and the server's, whole.

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"

namespace tidegate {

struct WireFigure {
  std::string name;
  double value = 0;            // Mrows/s or GB/s
  std::string unit;
  double ceiling = 0;          // raw TCP of the same sizes, in the same unit
  double cpu_us_per_unit = 0;  // both processes: per row; dense: per MB
  double cpu_us_per_unit_least = 0;  // of the turns: closest to an idle machine
};

struct WireBenchOptions {
  std::string scheduler;  // HOST:PORT
  pid_t server_pid = 0;
  std::string only;  // figures with this in their names
  uint64_t keys = 10'000'000;  // of 16 floats; of 64 a quarter
  int turns = 7;
  double turn_s = 0.5;
};
// A shorter run, of a million keys.
WireBenchOptions QuickWireBench();

// The job to start scheduler and server with, as text.
std::string WireBenchConfig();

absl::Status BenchWire(const WireBenchOptions& options,
                       const std::function<void(const WireFigure&)>& report);

}  // namespace tidegate
