#pragma once
// Fills new tables from exports (train.init_from): the values of rows and tensors that an export holds.
// Optimizer state, counters and rows that it has not are as if untouched.

#include <span>

#include "absl/status/status.h"
#include "common/file_system.h"
#include "common/types.h"
#include "proto/job.pb.h"
#include "proto/table.pb.h"
#include "server/checkpoint/restore.h"

namespace tidegate {

// `own`: the shards to fill, of `shards` (a power of two). A part that several of `inits` have is the last one's.
// A row is there when any of them has its key. Errors of MatchTensors and ExportReader::Open; of `load`.
absl::Status WarmStartShards(FileSystem& files, std::span<const InitFrom> inits, std::span<const TableSpec> tables,
                             std::span<const ShardId> own, uint32_t shards, const LoadRecords& load);

}  // namespace tidegate
