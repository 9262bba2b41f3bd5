#pragma once
// The traces that processes wrote (common/executor/trace.h) as one file for chrome://tracing or Perfetto.

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tidegate::cli {

// Events of all `files`, which are removed. A file that is not there (its process was killed) is left out;
// NOT_FOUND when none is.
absl::Status MergeTraces(const std::vector<std::string>& files, const std::string& path);

}  // namespace tidegate::cli
