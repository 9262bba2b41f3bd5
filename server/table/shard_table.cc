#include "server/table/shard_table.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "common/logging.h"
#include "common/random.h"
#include "common/stable_hash.h"

namespace tidegate {
namespace {

constexpr size_t kSlabBytes = size_t{2} << 20;
constexpr int kLog2SlotsMin = 4;
constexpr uint64_t kUnadmittedMin = 65536;
constexpr uint64_t kAdmissionSalt = 0x6a09e667f3bcc909ull;

// Load factor of the index: at most 11/16.
constexpr uint64_t SlotsUsedMax(uint64_t slots) { return slots * 11 / 16; }

uint32_t FirstSlabRows(size_t stride) {
  return static_cast<uint32_t>(std::max<size_t>(1, 4096 / stride));
}

}  // namespace

ShardTable::ShardTable(const RowLayout* layout, ShardId shard, int log2_shards)
    : log2_shards_(log2_shards), stride_(layout->stride()), layout_(layout), shard_(shard) {
  slab_rows_ = static_cast<uint32_t>(std::max<size_t>(1, kSlabBytes / stride_));
  slab_shift_ = std::bit_width(slab_rows_ - 1);
  slab_mask_ = slab_shift_ == 0 ? 0 : (1u << slab_shift_) - 1;
  AllocateIndex(kLog2SlotsMin);
}

void ShardTable::AllocateIndex(int log2_slots) {
  const size_t count = size_t{1} << log2_slots;
  index_ = MemoryBlock(count * sizeof(Slot));
  slots_ = reinterpret_cast<Slot*>(index_.data());
  std::uninitialized_fill_n(slots_, count, Slot{});
  ++moves_;
  index_mask_ = count - 1;
  index_shift_ = 64 - log2_slots;
}

void ShardTable::GrowIndex() {
  const MemoryBlock old_block = std::move(index_);
  const Slot* old = slots_;
  const size_t old_count = index_mask_ + 1;
  AllocateIndex(std::bit_width(index_mask_) + 1);
  // Homes rise with the old position (but for the wrap), so this writes the new index front to back.
  for (size_t i = 0; i < old_count; ++i) {
    if (old[i].row == kEmpty) continue;
    size_t to = HomeIndex(PlacementHash(layout_->table(), old[i].key));
    while (slots_[to].row != kEmpty) to = (to + 1) & index_mask_;
    slots_[to] = old[i];
  }
}

ShardTable::Slot* ShardTable::Insert(uint64_t hash, Key key) {
  if (used_slots_ + 1 > SlotsUsedMax(index_mask_ + 1)) GrowIndex();
  Slot* slot = const_cast<Slot*>(Probe(hash, key));
  slot->key = key;
  ++used_slots_;
  return slot;
}

void ShardTable::EraseSlot(size_t i) {
  // Knuth, TAOCP 6.4, algorithm R: move back every later entry that may stand in the hole.
  size_t hole = i;
  for (size_t next = (hole + 1) & index_mask_; slots_[next].row != kEmpty;
       next = (next + 1) & index_mask_) {
    const size_t home = HomeIndex(PlacementHash(layout_->table(), slots_[next].key));
    if (((next - home) & index_mask_) >= ((next - hole) & index_mask_)) {
      slots_[hole] = slots_[next];
      hole = next;
    }
  }
  slots_[hole] = Slot{};
  --used_slots_;
  ++moves_;
}

// A full slab is a whole huge page, also where rows do not fill it.
size_t ShardTable::SlabBytes(uint32_t rows) const {
  return rows == slab_rows_ ? std::max(kSlabBytes, size_t{rows} * stride_) : size_t{rows} * stride_;
}

ShardTable::RowId ShardTable::AllocateRow() {
  if (free_rows_ != kEmpty) {
    const RowId row = free_rows_;
    std::memcpy(&free_rows_, RowAt(row), sizeof(RowId));
    return row;
  }
  if (last_slab_used_ == last_slab_rows_) {
    if (slabs_.size() == 1 && last_slab_rows_ < slab_rows_) {
      // The first slab starts small and doubles, so that many small shards cost little.
      last_slab_rows_ = std::min(slab_rows_, last_slab_rows_ * 2);
      MemoryBlock larger(SlabBytes(last_slab_rows_));
      std::memcpy(larger.data(), slabs_[0], size_t{last_slab_used_} * stride_);
      slab_blocks_[0] = std::move(larger);
      slabs_[0] = slab_blocks_[0].data();
    } else {
      TG_CHECK((slabs_.size() + 1) << slab_shift_ < kUnadmitted)
          << "table \"" << layout_->name() << "\" shard " << shard_ << " has more rows than a shard can number";
      last_slab_rows_ = slabs_.empty() ? std::min(slab_rows_, FirstSlabRows(stride_)) : slab_rows_;
      slab_blocks_.emplace_back(SlabBytes(last_slab_rows_));
      slabs_.push_back(slab_blocks_.back().data());
      last_slab_used_ = 0;
    }
  }
  return static_cast<RowId>((slabs_.size() - 1) << slab_shift_) + last_slab_used_++;
}

void ShardTable::FreeRow(RowId row) {
  std::memcpy(RowAt(row), &free_rows_, sizeof(RowId));
  free_rows_ = row;
}

uint64_t ShardTable::BytesUsed() const {
  uint64_t bytes = index_.size() + slabs_.capacity() * (sizeof(MemoryBlock) + sizeof(std::byte*));
  for (const MemoryBlock& block : slab_blocks_) bytes += block.size();
  return bytes;
}

const ShardTable::Slot* ShardTable::Find(Key key) const {
  return Find(PlacementHash(layout_->table(), key), key);
}

bool ShardTable::Admits(Key key, uint32_t samples, uint64_t total, Clock clock) const {
  if (layout_->admit_probability() < 1) {
    // One draw for the push: below 1 - (1 - p)^samples, as if each sample had drawn.
    const double none = PowerOf(1 - layout_->admit_probability(), samples);
    const uint64_t seed = layout_->seed() ^ kAdmissionSalt ^ Mix64(key);
    return ToUnit(RandomBits(seed, StoredClock(clock))) < 1 - none;
  }
  return total >= layout_->admit_after();
}

ShardTable::Slot* ShardTable::Admit(uint64_t hash, Key key, uint32_t samples, Clock clock) {
  Slot* slot = const_cast<Slot*>(Probe(hash, key));
  uint32_t total = samples;
  const bool counted = slot->row == kUnadmitted;
  if (!layout_->admits_at_once()) {
    if (counted) total = SaturatingAdd(slot->header.touches, samples);
    if (!Admits(key, samples, total, clock)) {
      if (layout_->admit_probability() < 1) return nullptr;  // decided by hash: nothing to remember
      if (counted) {
        slot->header.touches = total;
        return nullptr;
      }
      if (unadmitted_ >= std::max(kUnadmittedMin, 2 * rows_)) {
        const uint64_t keep = unadmitted_ / 2;
        while (unadmitted_ > keep) HalveCounters();
      }
      slot = Insert(hash, key);
      slot->row = kUnadmitted;
      slot->header.touches = total;
      ++unadmitted_;
      return nullptr;
    }
  }
  if (counted) {
    --unadmitted_;
  } else {
    slot = Insert(hash, key);
  }
  slot->row = AllocateRow();
  slot->header.touches = total;
  slot->header.first_clock = StoredClock(clock);
  slot->header.last_clock = slot->header.first_clock;
  ++rows_;
  layout_->InitializeRow(key, RowAt(slot->row));
  return slot;
}

bool ShardTable::Erase(Key key) {
  const Slot* slot = Probe(PlacementHash(layout_->table(), key), key);
  if (slot->row == kEmpty) return false;
  if (slot->row == kUnadmitted) {
    --unadmitted_;
  } else {
    FreeRow(slot->row);
    --rows_;
  }
  EraseSlot(static_cast<size_t>(slot - slots_));
  return true;
}

void ShardTable::HalveCounters() {
  if (unadmitted_ == 0) return;
  std::vector<Key> gone;
  for (size_t i = 0; i <= index_mask_; ++i) {
    if (slots_[i].row != kUnadmitted) continue;
    slots_[i].header.touches /= 2;
    if (slots_[i].header.touches == 0) gone.push_back(slots_[i].key);
  }
  for (const Key key : gone) Erase(key);
}

bool ShardTable::ShouldEvict(const RowHeader& header, Clock clock) const {
  const Clock age = clock - ClockOf(header.last_clock);
  if (layout_->max_age_clocks() > 0 && age > 0 &&
      static_cast<uint64_t>(age) > layout_->max_age_clocks()) {
    return true;
  }
  if (layout_->min_touches_per_clock() <= 0) return false;
  const Clock lifetime = std::max<Clock>(clock - ClockOf(header.first_clock) + 1, 1);
  return static_cast<double>(header.touches) <
         static_cast<double>(layout_->min_touches_per_clock()) * static_cast<double>(lifetime);
}

uint64_t ShardTable::Sweep(Clock clock, std::vector<Key>* evicted) {
  std::vector<Key> gone;
  if (layout_->evicts()) {
    for (size_t i = 0; i <= index_mask_; ++i) {
      if (slots_[i].has_row() && ShouldEvict(slots_[i].header, clock)) gone.push_back(slots_[i].key);
    }
  }
  std::sort(gone.begin(), gone.end());
  for (const Key key : gone) Erase(key);
  HalveCounters();
  if (evicted != nullptr) evicted->insert(evicted->end(), gone.begin(), gone.end());
  return gone.size();
}

void ShardTable::Clear() {
  slab_blocks_.clear();
  slabs_.clear();
  last_slab_rows_ = last_slab_used_ = 0;
  free_rows_ = kEmpty;
  used_slots_ = rows_ = unadmitted_ = 0;
  AllocateIndex(kLog2SlotsMin);
}

std::vector<Key> ShardTable::SortedKeys() const {
  std::vector<Key> keys;
  keys.reserve(used_slots_);
  for (size_t i = 0; i <= index_mask_; ++i) {
    if (slots_[i].row != kEmpty) keys.push_back(slots_[i].key);
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

}  // namespace tidegate
