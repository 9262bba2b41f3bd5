#pragma once
// `tidegate bench parse`: how fast one core turns files into batches, by format.

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "cli/bench_figure.h"

namespace tidegate::cli {

struct BenchParseOptions {
  bool quick = false;
  std::string only;     // figures with this in their names; empty: all
  std::string run_dir;  // files are written there and removed
};

// MB of text a second of CPU time, all columns read; compressed files: of the text in them. The ceiling
// is the same bytes read and decompressed, with memchr over their line ends.
absl::Status BenchParse(const BenchParseOptions& options, const std::function<void(const BenchFigure&)>& report);

}  // namespace tidegate::cli
