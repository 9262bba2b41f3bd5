#pragma once
// Writes a shard's image into a checkpoint (format: common/checkpoint/shard_file.h). Free functions.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "proto/checkpoint.pb.h"

namespace tidegate {

struct ShardImage {
  ShardFileHeader header;
  bool incremental = false;
  std::vector<std::string> sections;  // records; then the keys removed, u64 each
};

// Durable on OK. The result's name is relative to `directory`, which exists.
absl::StatusOr<CheckpointFile> WriteShardImage(FileSystem& files, const std::string& directory,
                                               const ShardImage& image);

}  // namespace tidegate
