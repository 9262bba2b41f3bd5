#pragma once
// One table of all the shards that one strand serves. A batch is worked in one fused loop across
// the shards: hash, shard by a directory over the top hash bits, index prefetched, row prefetched, work;
// no message, allocation or lock per shard (docs/design.md, section 8).
//
// Keys: those of the message at `positions` (rising or not; empty: ALL of them, so a strand that has no
// key of a message does not call). Row p of the message lies at p * WireRowBytes in values and rows, which hold all rows of the message.
// REQUIRES everywhere: keys are of shards of this group (a failed check stops the process: the
// caller has routed them) and pass layout().CheckKeys; sizes are checked by the caller.
//
// Not thread-safe.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/packed_span.h"
#include "common/stable_hash.h"
#include "common/types.h"
#include "server/table/row_layout.h"
#include "server/table/shard_table.h"

namespace tidegate {

struct GradientBatch {
  PackedSpan<Key> keys;
  std::span<const uint32_t> positions;  // empty: every key
  std::span<const std::byte> values;    // keys.size() rows, any alignment
  DataType value_type = FLOAT32;
  PackedSpan<uint32_t> counts;  // samples that held the key; empty: 1 each
};

struct ApplyResult {
  uint64_t applied = 0;
  uint64_t created = 0;
  uint64_t unadmitted = 0;  // counted only
  uint64_t skipped = 0;     // of shards in skip_shard
};

class TableGroup {
 public:
  static constexpr uint32_t kNotLocal = 0xffffffffu;

  // REQUIRES: layout outlives the group. Shards get local indices 0, 1, ... in the order given.
  TableGroup(const RowLayout* layout, int log2_shards, std::span<const ShardId> shards);

  // An empty shard at the local index, which is shards() or one that a shard has left.
  void AddShard(uint32_t local, ShardId shard);
  // Its memory is freed; its index stays, without keys.
  void RemoveShard(ShardId shard);

  const RowLayout& layout() const { return *layout_; }
  uint32_t shards() const { return static_cast<uint32_t>(tables_.size()); }
  uint32_t LocalOfShard(ShardId shard) const { return directory_[shard]; }  // or kNotLocal
  uint32_t LocalOfKey(Key key) const {
    return LocalOfHash(PlacementHash(layout_->table(), key));
  }
  ShardTable& shard(uint32_t local) { return *tables_[local]; }
  const ShardTable& shard(uint32_t local) const { return *tables_[local]; }
  uint64_t rows() const;
  uint64_t BytesUsed() const;

  // Writes the rows of the keys into `rows` (room for all rows of the message). A key without a row
  // answers with its initialiser; where the table has an admission rule, by TableSpec.unadmitted:
  // zeros, or for FEATURE_OOV quiet NaNs, the mark on which a worker looks up the other key.
  // arguments.clock and lr_scale matter to L2 ALL_LAZY alone.
  void Gather(PackedSpan<Key> keys, std::span<const uint32_t> positions, DataType wire,
              const UpdateArguments& arguments, std::byte* rows) const;

  // Applies a push. skip_shard: empty, or by local index, non-zero where the push was applied before.
  ApplyResult Apply(const GradientBatch& batch, const UpdateArguments& arguments,
                    std::span<const uint8_t> skip_shard = {});

  // Keys (as often as they stand there) that have no row: an upper bound of what Apply would create.
  uint64_t CountAbsent(PackedSpan<Key> keys, std::span<const uint32_t> positions) const;
  // Memory that this many new rows may take, growth of indices included.
  uint64_t BytesForRows(uint64_t rows) const;

 private:
  uint32_t LocalOfHash(uint64_t hash) const { return directory_[ShardOfHash(hash, log2_shards_)]; }
  ShardTable* TableOf(Key key, uint64_t hash) const;
  template <bool kPlain>
  void GatherLoop(PackedSpan<Key> keys, std::span<const uint32_t> positions, DataType wire,
                  std::byte* rows) const;
  void WriteAbsent(Key key, DataType wire, std::byte* out) const;
  void WriteConverted(const RowHeader& header, const std::byte* row, DataType wire, std::byte* out) const;
  // Values and slots; the header is the caller's to write.
  void ApplyRow(Key key, const RowHeader& header, std::byte* row, const std::byte* gradient);

  const RowLayout* layout_;
  int log2_shards_;
  std::vector<uint32_t> directory_;
  std::vector<std::unique_ptr<ShardTable>> tables_;
  std::vector<PartOptimizer::Batch> prepared_;      // of the batch in work, by part
  mutable std::vector<PartOptimizer::Batch> read_;  // ... of the gather in work
  mutable std::vector<float> scratch_;              // one row of values
  std::vector<float> gradient_;                     // one row of gradients, from bfloat16
};

}  // namespace tidegate
