#pragma once
// An incremental shard file put upon the one that it builds on: what comes out is as a full file of the later moment. For each
// key the later record counts; the keys that it says were removed, and has no record of, are gone. Linear in both files.

#include "absl/status/statusor.h"
#include "common/checkpoint/shard_file.h"

namespace tidegate {

// `base` is not incremental, `later` is; both were parsed with `tables`. DATA_LOSS: they are of other shards or tables, or
// their keys do not rise; it names the file.
absl::StatusOr<ShardFile> MergeShardFiles(const ShardFile& base, const ShardFile& later, std::span<const TableSpec> tables);

}  // namespace tidegate
