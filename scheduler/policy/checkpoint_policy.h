#pragma once
// When a checkpoint is due while training goes on, and which of the complete ones stay. Stateless.

#include <cstdint>
#include <vector>

#include "common/types.h"
#include "proto/job.pb.h"
#include "proto/scheduler_state.pb.h"

namespace tidegate {

// `next_clock`: the first that no worker has used, at most; `last_clock`: that of the newest checkpoint.
bool IsCheckpointDue(const CheckpointConfig& config, TimeMs since_last_ms, Clock next_clock, Clock last_clock);

// Clocks from `next_clock` to the next checkpoint by every_clocks; 0: there is none to come.
uint64_t ClocksToCheckpoint(const CheckpointConfig& config, Clock next_clock, Clock last_clock);

// How many checkpoints a restore of this one reads: itself and what it builds on.
uint32_t ChainLength(const google::protobuf::RepeatedPtrField<CheckpointRecord>& records, const CheckpointRecord& record);

// Those to remove: all but the newest `keep` (at least one), the newest of the best epoch, and what these build on; falling, so
// that none is left without its base. `records` rise by number.
std::vector<CheckpointRecord> SupersededCheckpoints(
    const google::protobuf::RepeatedPtrField<CheckpointRecord>& records, uint32_t keep);

}  // namespace tidegate
