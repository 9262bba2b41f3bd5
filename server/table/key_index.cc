#include "server/table/key_index.h"

#include <algorithm>
#include <iterator>
#include <memory>

namespace tidegate {

void KeyIndex::Allocate(int log2_buckets) {
  const size_t count = size_t{1} << log2_buckets;
  block_ = MemoryBlock(count * sizeof(Bucket));
  buckets_ = reinterpret_cast<Bucket*>(block_.data());
  Bucket empty = {};
  std::fill(std::begin(empty.row), std::end(empty.row), kEmpty);
  std::uninitialized_fill_n(buckets_, count, empty);
  bucket_mask_ = count - 1;
  log2_buckets_ = log2_buckets;
  bucket_shift_ = 64 - log2_buckets;
}

size_t KeyIndex::Place(uint64_t hash, Key key, RowId row, uint32_t counter) {
  size_t b = HomeBucket(hash);
  while (buckets_[b].row[kBucketSlots - 1] != kEmpty) b = (b + 1) & bucket_mask_;
  const size_t j = FirstEmpty(buckets_[b]);
  buckets_[b].key[j] = key;
  buckets_[b].row[j] = row;
  buckets_[b].counter[j] = counter;
  return b * kBucketSlots + j;
}

void KeyIndex::Clear() {
  size_ = 0;
  Allocate(kLog2BucketsMin);
}

}  // namespace tidegate
