#pragma once
// The strands of a server each have some of its shards: which keys of a message are whose.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/stable_hash.h"
#include "common/types.h"

namespace tidegate {

struct StrandMap {
  size_t strands = 1;                        // at most 64
  std::span<const uint8_t> strand_of_shard;  // of the job's shards; one beyond it is strand 0's
  int log2_shards = 0;

  size_t StrandOf(TableId table, Key key) const {
    const ShardId shard = ShardOfHash(PlacementHash(table, key), log2_shards);
    return shard < strand_of_shard.size() ? strand_of_shard[shard] : 0;
  }
};

// positions[strand * tables.size() + t]: of the keys of tables[t] that are the strand's, rising. Returns a bit for each
// strand that has any. `Tables`: a range of wire::TableKeys, wire::TableGradients or what else has `table` and `keys`.
template <typename Tables>
uint64_t SplitByStrand(const StrandMap& map, const Tables& tables, std::vector<std::vector<uint32_t>>* positions) {
  const size_t count = tables.size();
  positions->assign(map.strands * count, {});
  uint64_t strands = 0;
  for (size_t t = 0; t < count; ++t) {
    const auto& keys = tables[t].keys;
    for (size_t strand = 0; strand < map.strands; ++strand) {
      (*positions)[strand * count + t].reserve(keys.size() / map.strands * 5 / 4);
    }
    for (size_t i = 0; i < keys.size(); ++i) {
      const size_t strand = map.StrandOf(tables[t].table, keys[i]);
      (*positions)[strand * count + t].push_back(static_cast<uint32_t>(i));
      strands |= uint64_t{1} << strand;
    }
  }
  return strands;
}

}  // namespace tidegate
