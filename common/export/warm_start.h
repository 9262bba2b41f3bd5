#pragma once
// Which tensors of an export fill which parts of a job's tables (train.init_from). Thread-safe (functions).

#include <cstddef>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/types.h"
#include "proto/export.pb.h"
#include "proto/job.pb.h"

namespace tidegate {

struct WarmPart {
  TableId table = 0;
  size_t part = 0;
  TableId from_table = 0;  // of the export
  size_t from_part = 0;
};

// By name ("emb.v"; a dense tensor by its own), or as init.map says. INVALID_ARGUMENT: a name in init.map that
// the job or the export has not. FAILED_PRECONDITION: a tensor of another shape; with init.strict a part without one.
absl::StatusOr<std::vector<WarmPart>> MatchTensors(const InitFrom& init, std::span<const TableSpec> tables,
                                                   const ExportSpec& spec);

// FAILED_PRECONDITION: with init.strict, a feature whose keys (salt, hash_buckets, transform) no feature of the
// export's table makes, so that none of its rows would be found. `job` is resolved.
absl::Status CheckWarmKeys(const InitFrom& init, const JobConfig& job, const ExportSpec& spec);

}  // namespace tidegate
