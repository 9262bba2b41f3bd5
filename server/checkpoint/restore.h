#pragma once
// Loads a checkpoint into shards that may be other ones than those it was written from: a file covers a
// range of the hash space, and its records go to the shards that now divide that range. Every file is
// verified before a byte of it is used.

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/file_system.h"
#include "common/types.h"
#include "proto/table.pb.h"

namespace tidegate {

// Adds records (ShardTable::LoadRows) to a shard's table. May be called several times for one.
using LoadRecords = std::function<absl::Status(ShardId, TableId, std::string_view records)>;

// `own`: the shards to fill, of `shards`. FAILED_PRECONDITION: the checkpoint has other tables. DATA_LOSS
// and NOT_FOUND name the file.
absl::Status RestoreShards(FileSystem& files, const std::string& directory,
                           std::span<const TableSpec> tables, std::span<const ShardId> own,
                           uint32_t shards, const LoadRecords& load);

}  // namespace tidegate
