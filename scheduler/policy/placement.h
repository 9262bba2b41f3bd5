#pragma once
// Where shards go: a stateless policy. Each server gets a contiguous range of shards, so that a server's
// part of a sorted batch is contiguous too; counts differ by at most one.

#include <cstdint>
#include <span>
#include <vector>

#include "common/types.h"

namespace tidegate {

// Primary per shard. REQUIRES: servers not empty. The order of `servers` is the order of the ranges.
std::vector<Incarnation> PlaceShards(uint32_t shards, std::span<const Incarnation> servers);

// The number of shards of a job: as configured, else 64 per server rounded up to a power of two (at
// most 65536).
uint32_t ChooseShardCount(uint32_t configured, uint32_t servers);

}  // namespace tidegate
