#pragma once
// The folder that holds a job's checkpoints, on disk. Functions; the caller holds the folder's lock.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "scheduler/checkpoint_resume.h"

namespace tidegate {

struct CheckpointFolder {
  std::vector<StoredCheckpoint> complete;  // rising by number
  std::vector<std::string> half_written;   // folders without a manifest
};

// Looks at folders named epoch-NNNNN and clock-NNNNNNNNNNNN. DATA_LOSS or FAILED_PRECONDITION: a manifest
// is damaged or of a newer version; the message says what to do.
absl::StatusOr<CheckpointFolder> FindCheckpoints(FileSystem& files, const std::string& directory);

// Removes a checkpoint: its manifest first, so that what is left after a crash is none.
void RemoveCheckpoint(FileSystem& files, const std::string& folder);

}  // namespace tidegate
