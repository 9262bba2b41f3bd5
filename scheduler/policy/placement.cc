#include "scheduler/policy/placement.h"

#include <algorithm>
#include <bit>

#include "common/logging.h"

namespace tidegate {

std::vector<Incarnation> PlaceShards(uint32_t shards, std::span<const Incarnation> servers) {
  TG_CHECK(!servers.empty()) << "no servers";
  std::vector<Incarnation> primary(shards);
  for (uint64_t shard = 0; shard < shards; ++shard) {
    primary[shard] = servers[shard * servers.size() / shards];
  }
  return primary;
}

uint32_t ChooseShardCount(uint32_t configured, uint32_t servers) {
  if (configured != 0) return configured;
  return std::min<uint32_t>(std::bit_ceil(std::max<uint32_t>(servers, 1) * 64u), 65536u);
}

}  // namespace tidegate
