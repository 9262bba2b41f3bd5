#include "server/table/shard_table.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "common/logging.h"
#include "common/random.h"

namespace tidegate {
namespace {

constexpr size_t kSlabBytes = size_t{2} << 20;
constexpr size_t kCacheLine = 64;
constexpr uint64_t kUnadmittedMin = 65536;
constexpr uint64_t kAdmissionSalt = 0x6a09e667f3bcc909ull;

uint32_t FirstSlabRows(size_t stride) {
  return static_cast<uint32_t>(std::max<size_t>(1, 4096 / stride));
}

}  // namespace

ShardTable::ShardTable(const RowLayout* layout, ShardId shard, int log2_shards)
    : log2_shards_(log2_shards), stride_(layout->stride()), layout_(layout), shard_(shard) {
  // The headers' rounding to a line may cost the last row its place.
  slab_rows_ = static_cast<uint32_t>(kSlabBytes / (stride_ + sizeof(RowHeader)));
  while (slab_rows_ > 1 && HeaderBytes(slab_rows_) + slab_rows_ * stride_ > kSlabBytes) --slab_rows_;
  slab_rows_ = std::max(slab_rows_, 1u);
  slab_shift_ = std::bit_width(slab_rows_ - 1);
  slab_mask_ = slab_shift_ == 0 ? 0 : (1u << slab_shift_) - 1;
}

size_t ShardTable::HeaderBytes(uint32_t rows) const {
  return (rows * sizeof(RowHeader) + kCacheLine - 1) / kCacheLine * kCacheLine;
}

// Returns where its row 0 lies. A full slab is a whole huge page, also where rows do not fill it.
std::byte* ShardTable::AddSlab(uint32_t rows) {
  const size_t bytes = HeaderBytes(rows) + size_t{rows} * stride_;
  slab_blocks_.emplace_back(rows == slab_rows_ ? std::max(kSlabBytes, bytes) : bytes);
  last_slab_rows_ = rows;
  log_.MakeRoom((slabs_.size() + 1) << slab_shift_);
  return slab_blocks_.back().data() + HeaderBytes(rows);
}

ShardTable::RowId ShardTable::AllocateRow() {
  if (free_rows_ != kNoRow) {
    const RowId row = free_rows_;
    std::memcpy(&free_rows_, RowAt(row), sizeof(RowId));
    return row;
  }
  if (last_slab_used_ == last_slab_rows_) {
    if (slabs_.size() == 1 && last_slab_rows_ < slab_rows_) {
      // The first slab starts small and doubles, so that many small shards cost little.
      std::byte* larger = AddSlab(std::min(slab_rows_, last_slab_rows_ * 2));
      const size_t headers = last_slab_used_ * sizeof(RowHeader);
      std::memcpy(larger - headers, slabs_[0] - headers, headers + last_slab_used_ * stride_);
      slab_blocks_.erase(slab_blocks_.begin());
      slabs_[0] = larger;
    } else {
      TG_CHECK((slabs_.size() + 1) << slab_shift_ < kUnadmitted)
          << "table \"" << layout_->name() << "\" shard " << shard_ << " has more rows than a shard can number";
      slabs_.push_back(AddSlab(slabs_.empty() ? std::min(slab_rows_, FirstSlabRows(stride_)) : slab_rows_));
      last_slab_used_ = 0;
    }
  }
  return static_cast<RowId>((slabs_.size() - 1) << slab_shift_) + last_slab_used_++;
}

void ShardTable::FreeRow(RowId row) {
  std::memcpy(RowAt(row), &free_rows_, sizeof(RowId));
  free_rows_ = row;
  log_.RowFreed(row);
}

uint64_t ShardTable::BytesUsed() const {
  uint64_t bytes = index_.BytesUsed() + log_.bytes() + slabs_.capacity() * (sizeof(MemoryBlock) + sizeof(std::byte*));
  for (const MemoryBlock& block : slab_blocks_) bytes += block.size();
  return bytes;
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

ShardTable::RowId ShardTable::Admit(uint64_t hash, Key key, uint32_t samples, Clock clock) {
  uint32_t total = samples;
  size_t slot = index_.Find(hash << log2_shards_, key);
  const bool counted = index_.RowAt(slot) == kUnadmitted;
  if (!layout_->admits_at_once()) {
    if (counted) total = SaturatingAdd(index_.CounterAt(slot), samples);
    if (!Admits(key, samples, total, clock)) {
      if (layout_->admit_probability() < 1) return kNoRow;  // decided by hash: nothing to remember
      if (!counted) {
        if (unadmitted_ >= std::max(kUnadmittedMin, 2 * rows_)) {
          const uint64_t keep = unadmitted_ / 2;
          while (unadmitted_ > keep) HalveCounters();
        }
        slot = Insert(key, kUnadmitted);
        ++unadmitted_;
      }
      index_.CounterAt(slot) = total;
      log_.Counter(key, unadmitted_);
      return kNoRow;
    }
  }
  const RowId row = AllocateRow();
  if (counted) {
    index_.RowAt(slot) = row;
    index_.CounterAt(slot) = 0;
    --unadmitted_;
  } else {
    Insert(key, row);
  }
  ++rows_;
  const uint32_t stored = StoredClock(clock);
  HeaderAt(row) = {.touches = total, .applications = 0, .first_clock = stored, .last_clock = stored};
  layout_->InitializeRow(key, RowAt(row));
  log_.Row(row);
  return row;
}

bool ShardTable::Erase(Key key) {
  const size_t slot = index_.Find(IndexHash(key), key);
  const RowId row = index_.RowAt(slot);
  if (row == KeyIndex::kEmpty) return false;
  if (row == kUnadmitted) {
    --unadmitted_;
  } else {
    FreeRow(row);
    --rows_;
  }
  index_.Erase(slot, [this](Key k) { return IndexHash(k); });
  log_.Removed(key, rows_ + unadmitted_);
  return true;
}

void ShardTable::HalveCounters() {
  if (unadmitted_ == 0) return;
  log_.AllCounters();
  std::vector<Key> gone;
  for (size_t slot = 0; slot < index_.slots(); ++slot) {
    if (index_.RowAt(slot) != kUnadmitted) continue;
    index_.CounterAt(slot) /= 2;
    if (index_.CounterAt(slot) == 0) gone.push_back(index_.KeyAt(slot));
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
    for (size_t slot = 0; slot < index_.slots(); ++slot) {
      const RowId row = index_.RowAt(slot);
      if (row < kUnadmitted && ShouldEvict(HeaderAt(row), clock)) gone.push_back(index_.KeyAt(slot));
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
  free_rows_ = kNoRow;
  rows_ = unadmitted_ = 0;
  index_.Clear();
  log_.Stop();
}

bool ShardTable::MayHalveCounters(uint64_t more) const {
  return unadmitted_ + more >= std::max(kUnadmittedMin, 2 * rows_);
}

bool ShardTable::HasManyCounters(uint64_t more) const { return unadmitted_ + more >= kUnadmittedMin; }

std::vector<Key> ShardTable::Keys() const {
  std::vector<Key> keys;
  keys.reserve(index_.size());
  for (size_t slot = 0; slot < index_.slots(); ++slot) {
    if (index_.RowAt(slot) != KeyIndex::kEmpty) keys.push_back(index_.KeyAt(slot));
  }
  return keys;
}

std::vector<Key> ShardTable::TouchedKeys(const TouchedRows& touched) const {
  if (touched.unknown) return Keys();
  std::vector<Key> keys = touched.counters;
  for (size_t slot = 0; slot < index_.slots(); ++slot) {
    const RowId row = index_.RowAt(slot);
    if (row == KeyIndex::kEmpty) continue;
    if (row == kUnadmitted ? touched.all_counters : touched.Has(row)) keys.push_back(index_.KeyAt(slot));
  }
  return keys;
}

std::vector<Key> ShardTable::SortedKeys() const {
  std::vector<Key> keys = Keys();
  std::sort(keys.begin(), keys.end());
  return keys;
}

}  // namespace tidegate
