#pragma once
// One table of one shard: an open-addressing index (32-byte slots, linear probing, home slot by the
// hash bits below the shard's) over rows in 2 MiB slabs, both on huge pages where the system grants
// them. Erasing shifts back, so there are no tombstones. A slot holds the row's number and header; for
// a key that is not admitted yet, no row, and how many samples held it. Such keys are bounded: when there are more than max(65,536, 2 x rows), and at each sweep, counters are halved and those at zero leave.
// Growth doubles one shard's index at a time; rows never move once a shard has a full slab.
//
// Content is a function of the operations applied, never of addresses, capacity or hash seeds.
// Not thread-safe. Pointers to rows are valid until the next insertion, erasure or load; pointers to
// slots while moves() stays.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/types.h"
#include "server/table/memory_block.h"
#include "server/table/row_layout.h"

namespace tidegate {

class alignas(64) ShardTable {
 public:
  using RowId = uint32_t;
  static constexpr RowId kEmpty = 0xffffffffu;
  static constexpr RowId kUnadmitted = 0xfffffffeu;  // header.touches is a counter
  struct Slot {
    Key key = 0;
    RowId row = kEmpty;
    uint32_t unused = 0;
    RowHeader header;
    bool has_row() const { return row < kUnadmitted; }
  };
  static_assert(sizeof(Slot) == 32);

  // REQUIRES: shard < 1 << log2_shards; layout outlives the table.
  ShardTable(const RowLayout* layout, ShardId shard, int log2_shards);

  ShardId shard() const { return shard_; }
  uint64_t rows() const { return rows_; }
  uint64_t unadmitted() const { return unadmitted_; }
  // Memory held: index and slabs.
  uint64_t BytesUsed() const;

  // The first slot to look at, to prefetch it. `hash`: PlacementHash(table, key).
  const Slot* Home(uint64_t hash) const { return slots_ + HomeIndex(hash); }
  // The slot of a key that has a row, else nullptr (also when it is not admitted yet).
  const Slot* Find(uint64_t hash, Key key) const {
    const Slot* slot = Probe(hash, key);
    return slot->has_row() ? slot : nullptr;
  }
  Slot* Find(uint64_t hash, Key key) {
    return const_cast<Slot*>(static_cast<const ShardTable*>(this)->Find(hash, key));
  }
  const Slot* Find(Key key) const;
  // Rises whenever slots may have moved.
  uint64_t moves() const { return moves_; }
  std::byte* RowAt(RowId row) { return slabs_[row >> slab_shift_] + size_t{row & slab_mask_} * stride_; }
  const std::byte* RowAt(RowId row) const {
    return slabs_[row >> slab_shift_] + size_t{row & slab_mask_} * stride_;
  }

  // Counts `samples` that held an absent key; creates its row (initialised; touches = samples counted
  // so far) when the admission rule says so. nullptr: not yet. REQUIRES: Find() is nullptr.
  Slot* Admit(uint64_t hash, Key key, uint32_t samples, Clock clock);
  // Removes the key's row or counter. False: there was none.
  bool Erase(Key key);
  // Evicts rows by the layout's rules at `clock` and ages counters. Appends the evicted keys, rising,
  // to `evicted` if not null. Returns how many rows left.
  uint64_t Sweep(Clock clock, std::vector<Key>* evicted);
  void Clear();

  // All keys that have a row or a counter, rising.
  std::vector<Key> SortedKeys() const;
  // Appends the records of `keys` (in the order given; absent ones are left out): for checkpoints and
  // snapshots, in chunks. Record: key u64, kind u32 (0 row: row_bytes; 1 counter: u32), little endian.
  void AppendRows(std::span<const Key> keys, std::string* out) const;
  // Adds records. INVALID_ARGUMENT says at which byte: truncated, unknown kind, a key that is of
  // another shard, exists already or is beyond a dense table's blocks, a value that is not finite. Records before it stay.
  absl::Status LoadRows(std::span<const std::byte> bytes);
  // XXH3-64 over all records in rising order of keys: equal content, equal digest.
  uint64_t Digest() const;

 private:
  size_t HomeIndex(uint64_t hash) const {
    return static_cast<size_t>((hash << log2_shards_) >> index_shift_);
  }
  const Slot* Probe(uint64_t hash, Key key) const {  // its slot, or the empty one that ends the search
    size_t i = HomeIndex(hash);
    while (slots_[i].row != kEmpty && slots_[i].key != key) i = (i + 1) & index_mask_;
    return slots_ + i;
  }
  Slot* Insert(uint64_t hash, Key key);  // REQUIRES: absent
  void AllocateIndex(int log2_slots);
  void GrowIndex();
  void EraseSlot(size_t i);
  void HalveCounters();
  size_t SlabBytes(uint32_t rows) const;
  RowId AllocateRow();
  void FreeRow(RowId row);
  bool Admits(Key key, uint32_t samples, uint64_t total, Clock clock) const;
  bool ShouldEvict(const RowHeader& header, Clock clock) const;
  absl::Status LoadRecord(std::span<const std::byte> bytes, size_t* offset);

  // What a probe reads, together.
  Slot* slots_ = nullptr;
  size_t index_mask_ = 0;
  int index_shift_ = 64;
  int log2_shards_;
  std::vector<std::byte*> slabs_;
  size_t stride_;
  uint32_t slab_mask_ = 0;
  int slab_shift_ = 0;

  const RowLayout* layout_;
  ShardId shard_;
  MemoryBlock index_;
  uint64_t used_slots_ = 0;
  uint64_t moves_ = 0;
  uint64_t rows_ = 0;
  uint64_t unadmitted_ = 0;
  std::vector<MemoryBlock> slab_blocks_;
  uint32_t slab_rows_ = 1;       // rows of a full slab
  uint32_t last_slab_rows_ = 0;  // rows that the last slab has room for
  uint32_t last_slab_used_ = 0;
  RowId free_rows_ = kEmpty;     // list through the freed rows' first bytes
};

}  // namespace tidegate
