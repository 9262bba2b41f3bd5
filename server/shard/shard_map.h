#pragma once
// Which shards are a strand's, and which of them it leads: shard -> local index by one array over the top hash
// bits. Local indices are those of TableGroup; one that a shard leaves is used again. Not thread-safe.

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
  static constexpr ShardId kVacant = 0xffffffffu;

  bool empty() const { return replica_.empty(); }
  int log2_shards() const { return log2_shards_; }
  // By local index; kVacant: free.
  std::span<const ShardId> shards() const { return shards_; }
  bool Has(ShardId shard) const { return LocalOf(shard) != kNotLocal; }
  bool Leads(ShardId shard) const { return shard < led_.size() && led_[shard] != kNotLocal; }
  uint32_t LocalOf(ShardId shard) const { return shard < replica_.size() ? replica_[shard] : kNotLocal; }
  ShardId ShardOf(TableId table, Key key) const {
    return ShardOfHash(PlacementHash(table, key), log2_shards_);
  }

  // All of them led.
  void Reset(int log2_shards, std::span<const ShardId> shards);
  // Not led. REQUIRES: !Has(shard), shard < 2^log2_shards.
  uint32_t Add(ShardId shard);
  // REQUIRES: Has(shard).
  void Remove(ShardId shard);
  void SetLed(ShardId shard, bool led) { led_[shard] = led ? replica_[shard] : kNotLocal; }

  // Sets touched[local] = 1 for the led shards of the keys at `positions` (empty and all: every key);
  // returns how many keys are of others. REQUIRES: touched has shards().size().
  uint64_t Touch(TableId table, PackedSpan<Key> keys, bool all,
                 std::span<const uint32_t> positions, std::span<uint8_t> touched) const {
    return Touch(led_, table, keys, all, positions, touched);
  }
  // The same of all shards that are here.
  uint64_t TouchReplicas(TableId table, PackedSpan<Key> keys, bool all,
                         std::span<const uint32_t> positions, std::span<uint8_t> touched) const {
    return Touch(replica_, table, keys, all, positions, touched);
  }

  // Adds, for one in kCounted of these keys, kCounted to rows[local] of its led shard. `*next`: which key is the next one
  // to count, carried from call to call, so that small messages count too. REQUIRES: rows has shards().size().
  static constexpr size_t kCounted = 8;
  void CountRows(TableId table, PackedSpan<Key> keys, bool all, std::span<const uint32_t> positions, size_t* next,
                 std::span<uint64_t> rows) const;

 private:
  uint64_t Touch(const std::vector<uint32_t>& local_of, TableId table, PackedSpan<Key> keys, bool all,
                 std::span<const uint32_t> positions, std::span<uint8_t> touched) const;

  int log2_shards_ = 0;
  std::vector<uint32_t> replica_;  // by shard: local index
  std::vector<uint32_t> led_;      // the same of those that are led
  std::vector<ShardId> shards_;
};

}  // namespace tidegate
