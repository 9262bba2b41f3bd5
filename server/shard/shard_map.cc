#include "server/shard/shard_map.h"

namespace tidegate {

void ShardMap::Reset(int log2_shards, std::span<const ShardId> shards) {
  log2_shards_ = log2_shards;
  shards_.assign(shards.begin(), shards.end());
  directory_.assign(size_t{1} << log2_shards, kNotLocal);
  for (uint32_t local = 0; local < shards_.size(); ++local) directory_[shards_[local]] = local;
}

uint64_t ShardMap::Touch(TableId table, PackedSpan<Key> keys, bool all,
                         std::span<const uint32_t> positions, std::span<uint8_t> touched) const {
  uint64_t foreign = 0;
  auto touch = [&](Key key) {
    const uint32_t local = directory_[ShardOf(table, key)];
    if (local == kNotLocal) {
      ++foreign;
    } else {
      touched[local] = 1;
    }
  };
  if (all) {
    for (size_t i = 0; i < keys.size(); ++i) touch(keys[i]);
  } else {
    for (uint32_t position : positions) touch(keys[position]);
  }
  return foreign;
}

}  // namespace tidegate
