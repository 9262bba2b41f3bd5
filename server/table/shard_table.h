#pragma once
// One table of one shard: an index of keys (key_index.h; its hash is the placement hash below the shard's
// bits) over rows in 2 MiB slabs, both on huge pages where the system grants them. A slab's headers stand in
// front of its rows, so that rows of 16 floats are a cache line each and a pull touches no header. A key that
// is not admitted yet has no row, only a counter of the samples that held it. Such keys are bounded: when
// there are more than max(65,536, 2 x rows), and at each sweep, counters are halved and those at zero leave.
// Growth doubles one shard's index at a time; rows never move once a shard has a full slab.
//
// Content is a function of the operations applied, never of addresses, capacity or hash seeds.
// Not thread-safe. A row's number stays while the row lives; pointers to rows and headers are valid until the
// next insertion, erasure or load.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/stable_hash.h"
#include "common/types.h"
#include "server/table/key_index.h"
#include "server/table/memory_block.h"
#include "server/table/row_layout.h"
#include "server/table/touched_rows.h"

namespace tidegate {

class alignas(64) ShardTable {
 public:
  using RowId = KeyIndex::RowId;
  static constexpr RowId kNoRow = KeyIndex::kEmpty;

  // REQUIRES: shard < 1 << log2_shards; layout outlives the table.
  ShardTable(const RowLayout* layout, ShardId shard, int log2_shards);

  ShardId shard() const { return shard_; }
  uint64_t rows() const { return rows_; }
  uint64_t unadmitted() const { return unadmitted_; }
  // Memory held: index and slabs.
  uint64_t BytesUsed() const;

  // `hash`: PlacementHash(table, key). The first line that Find reads, to prefetch it.
  const void* Home(uint64_t hash) const { return index_.Home(hash << log2_shards_); }
  // The key's row; kNoRow also when it is not admitted yet.
  RowId Find(uint64_t hash, Key key) const {
    const RowId row = index_.RowAt(index_.Find(hash << log2_shards_, key));
    return row < kUnadmitted ? row : kNoRow;
  }
  RowId Find(Key key) const { return Find(PlacementHash(layout_->table(), key), key); }
  std::byte* RowAt(RowId row) { return slabs_[row >> slab_shift_] + size_t{row & slab_mask_} * stride_; }
  const std::byte* RowAt(RowId row) const {
    return slabs_[row >> slab_shift_] + size_t{row & slab_mask_} * stride_;
  }
  RowHeader& HeaderAt(RowId row) {
    return *(reinterpret_cast<RowHeader*>(slabs_[row >> slab_shift_]) - 1 - (row & slab_mask_));
  }
  const RowHeader& HeaderAt(RowId row) const { return const_cast<ShardTable*>(this)->HeaderAt(row); }

  // Counts `samples` that held an absent key; creates its row (initialised; touches = samples counted
  // so far) when the admission rule says so. kNoRow: not yet. REQUIRES: Find() is kNoRow.
  RowId Admit(uint64_t hash, Key key, uint32_t samples, Clock clock);
  // Whether counting so many new keys may halve the counters of others.
  bool MayHalveCounters(uint64_t more) const;
  // True where that could be, whatever part of the shard's rows were here.
  bool HasManyCounters(uint64_t more) const;
  // Removes the key's row or counter. False: there was none.
  bool Erase(Key key);
  // Evicts rows by the layout's rules at `clock` and ages counters. Appends the evicted keys, rising,
  // to `evicted` if not null. Returns how many rows left.
  uint64_t Sweep(Clock clock, std::vector<Key>* evicted);
  void Clear();

  // --- what changed, for incremental checkpoints ---
  // What changed since the last call, unknown at the first; from here on it is written down.
  TouchedRows TakeTouched() { return log_.Begin(slabs_.size() << slab_shift_); }
  void StopTouchLog() { log_.Stop(); }
  // The row's values or header change.
  void Touch(RowId row) { log_.Row(row); }
  // Of keys that are here: whether the key was touched (also where it has no row).
  bool WasTouched(const TouchedRows& touched, Key key) const {
    const RowId row = Find(key);
    return row == kNoRow || touched.Has(row);
  }
  // Those that were touched and may be here, in any order; some stand there twice.
  std::vector<Key> TouchedKeys(const TouchedRows& touched) const;

  // All keys that have a row or a counter: as they lie, and rising.
  std::vector<Key> Keys() const;
  std::vector<Key> SortedKeys() const;
  // Appends the records of `keys` (in the order given; absent ones are left out): for checkpoints and
  // snapshots, in chunks. Record: key u64, kind u32 (0 row: row_bytes; 1 counter: u32), little endian.
  void AppendRows(std::span<const Key> keys, std::string* out) const;
  // A row's record. REQUIRES: data has the layout's data_bytes().
  static void AppendRow(Key key, const RowHeader& header, std::span<const std::byte> data, std::string* out);
  // Adds records. INVALID_ARGUMENT says at which byte: truncated, unknown kind, a key that is of
  // another shard, exists already or is beyond a dense table's blocks, a value that is not finite. Records before it stay.
  absl::Status LoadRows(std::span<const std::byte> bytes);
  // XXH3-64 over all records in rising order of keys: equal content, equal digest.
  uint64_t Digest() const;

 private:
  static constexpr RowId kUnadmitted = 0xfffffffeu;  // in the index: no row, the slot's counter counts

  uint64_t IndexHash(Key key) const { return PlacementHash(layout_->table(), key) << log2_shards_; }
  size_t Insert(Key key, RowId row) {
    return index_.Insert(IndexHash(key), key, row, [this](Key k) { return IndexHash(k); });
  }
  void HalveCounters();
  size_t HeaderBytes(uint32_t rows) const;
  std::byte* AddSlab(uint32_t rows);
  RowId AllocateRow();
  void FreeRow(RowId row);
  bool Admits(Key key, uint32_t samples, uint64_t total, Clock clock) const;
  bool ShouldEvict(const RowHeader& header, Clock clock) const;
  absl::Status LoadRecord(std::span<const std::byte> bytes, size_t* offset);

  KeyIndex index_;
  TouchLog log_;
  int log2_shards_;
  std::vector<std::byte*> slabs_;  // each slab's row 0; headers lie before it, in falling order of rows
  size_t stride_;
  uint32_t slab_mask_ = 0;
  int slab_shift_ = 0;

  const RowLayout* layout_;
  ShardId shard_;
  uint64_t rows_ = 0;
  uint64_t unadmitted_ = 0;
  std::vector<MemoryBlock> slab_blocks_;
  uint32_t slab_rows_ = 1;       // rows of a full slab
  uint32_t last_slab_rows_ = 0;  // rows that the last slab has room for
  uint32_t last_slab_used_ = 0;
  RowId free_rows_ = kNoRow;     // list through the freed rows' first bytes
};

}  // namespace tidegate
