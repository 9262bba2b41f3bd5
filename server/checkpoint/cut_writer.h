#pragma once
// Writes a server's shards into a checkpoint's folder while pushes go on: waits until each shard's strand
// has made the cut (server/shard/shard_cut.h), then takes its rows chunk by chunk, on its strand, and
// writes the shard's file. A strand pauses for at most one chunk, or for listing the keys of one shard's
// table; memory holds one shard's image and the old rows of what was pushed meanwhile.
// Blocks; one at a time.

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "proto/cluster.pb.h"
#include "server/shard/shard_group.h"

namespace tidegate {

struct CutSource {
  std::vector<ShardId> shards;
  // Runs the function with the group that has the shard, on its strand, and returns after it.
  std::function<absl::Status(ShardId, const std::function<void(ShardGroup&)>&)> visit;
  // Waits a moment for the cut; false: nobody wants it any more.
  std::function<bool()> wait;
};

// The folder exists. CANCELLED: wait() said so. FAILED_PRECONDITION: another cut took this one's place.
absl::StatusOr<std::vector<CheckpointFile>> WriteCut(FileSystem& files, const std::string& directory,
                                                     uint64_t number, const CutSource& source);

}  // namespace tidegate
