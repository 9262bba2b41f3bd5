#pragma once
// A checkpoint as an export (docs/formats.md). The bytes depend on the model and its data alone, not on
// how many servers or shards held it.

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "common/file_system.h"

namespace tidegate::cli {

struct ExportResult {
  uint64_t tensors = 0;
  uint64_t rows = 0;   // of sparse tables
  uint64_t bytes = 0;  // of model.safetensors
};

// `out` is made if need be; what an earlier export left there is replaced. spec.json is written last: a
// folder without one is no export.
absl::StatusOr<ExportResult> WriteExport(FileSystem& files, const std::string& checkpoint, const std::string& out);

}  // namespace tidegate::cli
