#pragma once
// Writes a shard into a checkpoint (format: common/checkpoint/shard_file.h). The image of a shard is taken
// at once, on its strand, so that it is one cut of the shard; hashing and writing it happen elsewhere. A
// server takes them shard by shard, so it pauses for one shard's copy at a time and holds one image.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "proto/checkpoint.pb.h"
#include "server/shard/shard_group.h"

namespace tidegate {

struct ShardImage {
  ShardFileHeader header;
  std::vector<std::string> sections;
};

// REQUIRES: the shard is of the group.
ShardImage TakeShardImage(const ShardGroup& group, ShardId shard, uint32_t shards);

// Durable on OK. The result's name is relative to `directory`, which exists.
absl::StatusOr<CheckpointFile> WriteShardImage(FileSystem& files, const std::string& directory,
                                               const ShardImage& image);

}  // namespace tidegate
