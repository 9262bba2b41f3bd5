#pragma once
// Cuts the job's data into splits, once, when the scheduler starts: patterns become lists of files, files
// become byte ranges (a compressed file stays whole), generated data becomes ranges of rows. A line
// belongs to the split in which it begins; readers see to that.

#include <vector>

#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "proto/cluster.pb.h"
#include "proto/job.pb.h"

namespace tidegate {

struct DataPlan {
  JobConfig job;  // with the files that the patterns matched, sorted within each pattern
  std::vector<Split> train;
  std::vector<Split> valid;  // empty without data.valid
};

// `job` is resolved. A split has total / (8 x workers) bytes, at least 64 KiB and at most 64 MiB, or
// data.split_bytes. NOT_FOUND: a pattern without a file; INVALID_ARGUMENT: an empty file, no data.
absl::StatusOr<DataPlan> PlanData(FileSystem* files, const JobConfig& job);

}  // namespace tidegate
