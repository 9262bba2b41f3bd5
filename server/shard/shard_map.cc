#include "server/shard/shard_map.h"

#include <algorithm>

namespace tidegate {

void ShardMap::Reset(int log2_shards, std::span<const ShardId> shards) {
  log2_shards_ = log2_shards;
  shards_.clear();
  replica_.assign(size_t{1} << log2_shards, kNotLocal);
  led_ = replica_;
  for (const ShardId shard : shards) {
    Add(shard);
    SetLed(shard, true);
  }
}

uint32_t ShardMap::Add(ShardId shard) {
  const auto free = std::find(shards_.begin(), shards_.end(), kVacant);
  const uint32_t local = static_cast<uint32_t>(free - shards_.begin());
  if (free == shards_.end()) shards_.push_back(kVacant);
  shards_[local] = shard;
  replica_[shard] = local;
  return local;
}

void ShardMap::Remove(ShardId shard) {
  shards_[replica_[shard]] = kVacant;
  replica_[shard] = led_[shard] = kNotLocal;
}

uint64_t ShardMap::Touch(const std::vector<uint32_t>& local_of, TableId table, PackedSpan<Key> keys, bool all,
                         std::span<const uint32_t> positions, std::span<uint8_t> touched) const {
  uint64_t foreign = 0;
  auto touch = [&](Key key) {
    const uint32_t local = local_of[ShardOf(table, key)];
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

void ShardMap::CountRows(TableId table, PackedSpan<Key> keys, bool all, std::span<const uint32_t> positions, size_t* next,
                         std::span<uint64_t> rows) const {
  const size_t count = all ? keys.size() : positions.size();
  for (; *next < count; *next += kCounted) {
    const uint32_t local = led_[ShardOf(table, keys[all ? *next : positions[*next]])];
    if (local != kNotLocal) rows[local] += kCounted;
  }
  *next -= count;
}

}  // namespace tidegate
