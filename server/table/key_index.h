#pragma once
// From keys to row numbers: open addressing over buckets of one cache line, four keys each, on huge pages
// where the system grants them. A key's home is the first slot of a bucket; from there slots are filled in
// order, on through the next buckets (linear probing), so a search compares a whole line at once and, at the
// load allowed here, goes beyond it for less than one key in ten. Erasing shifts back (Knuth, TAOCP 6.4,
// algorithm R): there are no tombstones.
//
// The caller gives each key's hash, of which the top bits are used. Besides its row a key has a counter of 32
// bits, for the caller's use. Not thread-safe. Slot numbers are valid until the next Insert or Erase.

#include <cstddef>
#include <cstdint>
#include <utility>

#include "common/types.h"
#include "server/table/memory_block.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace tidegate {

class KeyIndex {
 public:
  using RowId = uint32_t;
  static constexpr RowId kEmpty = 0xffffffffu;  // no key stands here; other numbers are the caller's
  static constexpr size_t kBucketSlots = 4;
  struct alignas(64) Bucket {
    Key key[kBucketSlots];
    RowId row[kBucketSlots];
    uint32_t counter[kBucketSlots];
  };
  static_assert(sizeof(Bucket) == 64);
  static constexpr size_t kSlotBytes = sizeof(Bucket) / kBucketSlots;

  KeyIndex() { Allocate(kLog2BucketsMin); }

  size_t size() const { return size_; }
  size_t slots() const { return (bucket_mask_ + 1) * kBucketSlots; }
  size_t BytesUsed() const { return block_.size(); }

  // The first line that a search for this hash reads, to prefetch it.
  const void* Home(uint64_t hash) const { return buckets_ + HomeBucket(hash); }
  // The key's slot, or the empty one that ends the search.
  size_t Find(uint64_t hash, Key key) const {
    for (size_t b = HomeBucket(hash);; b = (b + 1) & bucket_mask_) {
      const Bucket& bucket = buckets_[b];
      // An empty slot has key 0, and none of its line's keys comes after it: the first match is right.
      if (const unsigned found = Matches(bucket, key); found != 0) {
        return b * kBucketSlots + static_cast<size_t>(__builtin_ctz(found));
      }
      if (bucket.row[kBucketSlots - 1] != kEmpty) continue;
      return b * kBucketSlots + FirstEmpty(bucket);
    }
  }
  Key KeyAt(size_t slot) const { return At(slot).key[slot % kBucketSlots]; }
  RowId RowAt(size_t slot) const { return At(slot).row[slot % kBucketSlots]; }
  RowId& RowAt(size_t slot) { return At(slot).row[slot % kBucketSlots]; }
  uint32_t CounterAt(size_t slot) const { return At(slot).counter[slot % kBucketSlots]; }
  uint32_t& CounterAt(size_t slot) { return At(slot).counter[slot % kBucketSlots]; }

  // Returns the key's slot. REQUIRES: the key is absent; row is not kEmpty; `hash_of(key)` is the hash of
  // any key that is here.
  template <typename HashOf>
  size_t Insert(uint64_t hash, Key key, RowId row, const HashOf& hash_of) {
    if (size_ + 1 > SlotsUsedMax(slots())) Grow(hash_of);
    ++size_;
    return Place(hash, key, row, 0);
  }
  // Empties the slot. REQUIRES: a key stands there.
  template <typename HashOf>
  void Erase(size_t slot, const HashOf& hash_of);
  void Clear();

 private:
  static constexpr int kLog2BucketsMin = 2;
  // Load: at most 11/16.
  static constexpr size_t SlotsUsedMax(size_t slots) { return slots * 11 / 16; }

  static unsigned Matches(const Bucket& bucket, Key key) {
#ifdef __AVX2__
    const __m256i keys = _mm256_load_si256(reinterpret_cast<const __m256i*>(bucket.key));
    const __m256i equal = _mm256_cmpeq_epi64(keys, _mm256_set1_epi64x(static_cast<int64_t>(key)));
    return static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(equal)));
#else
    unsigned found = 0;
    for (size_t j = 0; j < kBucketSlots; ++j) found |= unsigned{bucket.key[j] == key} << j;
    return found;
#endif
  }
  static size_t FirstEmpty(const Bucket& bucket) {
    size_t j = 0;
    while (bucket.row[j] != kEmpty) ++j;
    return j;
  }
  size_t HomeBucket(uint64_t hash) const { return static_cast<size_t>(hash >> bucket_shift_); }
  const Bucket& At(size_t slot) const { return buckets_[slot / kBucketSlots]; }
  Bucket& At(size_t slot) { return buckets_[slot / kBucketSlots]; }

  void Allocate(int log2_buckets);
  size_t Place(uint64_t hash, Key key, RowId row, uint32_t counter);
  template <typename HashOf>
  void Grow(const HashOf& hash_of);

  Bucket* buckets_ = nullptr;
  size_t bucket_mask_ = 0;
  int bucket_shift_ = 0;
  int log2_buckets_ = 0;
  size_t size_ = 0;
  MemoryBlock block_;
};

template <typename HashOf>
void KeyIndex::Grow(const HashOf& hash_of) {
  const MemoryBlock old_block = std::move(block_);
  const Bucket* old = buckets_;
  const size_t old_buckets = bucket_mask_ + 1;
  Allocate(log2_buckets_ + 1);
  // Homes rise with the old position (but for the wrap), so this writes the new memory front to back.
  for (size_t b = 0; b < old_buckets; ++b) {
    for (size_t j = 0; j < kBucketSlots; ++j) {
      if (old[b].row[j] == kEmpty) break;
      Place(hash_of(old[b].key[j]), old[b].key[j], old[b].row[j], old[b].counter[j]);
    }
  }
}

template <typename HashOf>
void KeyIndex::Erase(size_t slot, const HashOf& hash_of) {
  const size_t mask = slots() - 1;
  const auto move = [this](size_t to, size_t from) {
    At(to).key[to % kBucketSlots] = KeyAt(from);
    RowAt(to) = RowAt(from);
    CounterAt(to) = CounterAt(from);
  };
  size_t hole = slot;
  for (size_t next = (hole + 1) & mask; RowAt(next) != kEmpty; next = (next + 1) & mask) {
    const size_t home = HomeBucket(hash_of(KeyAt(next))) * kBucketSlots;
    if (((next - home) & mask) < ((next - hole) & mask)) continue;  // its home comes after the hole
    move(hole, next);
    hole = next;
  }
  At(hole).key[hole % kBucketSlots] = 0;
  RowAt(hole) = kEmpty;
  CounterAt(hole) = 0;
  --size_;
}

}  // namespace tidegate
