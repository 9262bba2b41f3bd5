#pragma once
// Which shards are a strand's: shard -> local index by one array over the top hash bits. Local
// indices are those of TableGroup, and stay when a shard leaves. Not thread-safe.

#include <cstdint>
#include <span>
#include <vector>

#include "common/packed_span.h"
#include "common/stable_hash.h"
#include "common/types.h"

namespace tidegate {

class ShardMap {
 public:
  static constexpr uint32_t kNotLocal = 0xffffffffu;

  bool empty() const { return directory_.empty(); }
  int log2_shards() const { return log2_shards_; }
  // In the order of their local indices, those that have left included.
  std::span<const ShardId> shards() const { return shards_; }
  bool Has(ShardId shard) const {
    return shard < directory_.size() && directory_[shard] != kNotLocal;
  }
  ShardId ShardOf(TableId table, Key key) const {
    return ShardOfHash(PlacementHash(table, key), log2_shards_);
  }

  void Reset(int log2_shards, std::span<const ShardId> shards);
  // REQUIRES: Has(shard).
  void Remove(ShardId shard) { directory_[shard] = kNotLocal; }

  // Sets touched[local] = 1 for the shards of the keys at `positions` (empty and all: every key);
  // returns how many keys are of shards that are not here. REQUIRES: touched has shards().size().
  uint64_t Touch(TableId table, PackedSpan<Key> keys, bool all,
                 std::span<const uint32_t> positions, std::span<uint8_t> touched) const;

 private:
  int log2_shards_ = 0;
  std::vector<uint32_t> directory_;
  std::vector<ShardId> shards_;
};

}  // namespace tidegate
