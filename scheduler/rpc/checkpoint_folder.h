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
  std::vector<std::string> broken;         // why, of each that is left out: it, or what it builds on, is not whole
  uint64_t last_number = 0;                // the highest, of broken ones too
};

enum class CheckpointsFor {
  kResume,   // somebody starts a job, and is told of a damaged manifest
  kRestore,  // a running job lost shards: whatever is damaged is passed over
};

// Incremental checkpoints are taken only with all that they build on: manifests and sizes of files are compared; and what is
// built on is taken only whole. To restore, so are full ones.
//
// Looks at folders named epoch-NNNNN and clock-NNNNNNNNNNNN. DATA_LOSS or FAILED_PRECONDITION, to resume: a manifest
// is damaged or of a newer version; the message says what to do.
absl::StatusOr<CheckpointFolder> FindCheckpoints(FileSystem& files, const std::string& directory, CheckpointsFor purpose);

// Removes a checkpoint: its manifest first, so that what is left after a crash is none.
void RemoveCheckpoint(FileSystem& files, const std::string& folder);

}  // namespace tidegate
