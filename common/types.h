#pragma once
// Names of the quantities that every part of Tidegate speaks of (docs/design.md, section 1).

#include <cstdint>
#include <limits>

namespace tidegate {

using Key = uint64_t;          // of a sparse row, or the index of a dense block
using TableId = uint32_t;      // index in the job's list of tables
using ShardId = uint32_t;      // in [0, shards)
using Incarnation = uint64_t;  // of a member; unique in a job's life, never reused, rising; 0: none
using Epoch = uint64_t;        // of the routing table; 0: none yet
using Sequence = uint64_t;     // of a worker's pushes, from 1
using Clock = int64_t;         // of a worker's iterations, from 0; -1: before the first
using TimeMs = int64_t;        // monotonic milliseconds, as told to a core; never read by one

inline constexpr Clock kNoBound = std::numeric_limits<Clock>::min();  // staleness inf: never parks

}  // namespace tidegate
