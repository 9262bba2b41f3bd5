#include "worker/model/gather.h"

#include <bit>

#include "common/stable_hash.h"

namespace tidegate {
namespace {

constexpr uint32_t kFree = 0xffffffffu;

// Open addressing: key -> its position in `keys`.
class PositionIndex {
 public:
  void Reset(size_t keys_max) {
    const size_t capacity = std::bit_ceil(2 * keys_max + 16);
    slots_.assign(capacity, kFree);
  }
  // The position of `key`, appended to `keys` when it is new.
  uint32_t Find(Key key, std::vector<Key>* keys) {
    const size_t mask = slots_.size() - 1;
    for (size_t slot = Mix64(key) & mask;; slot = (slot + 1) & mask) {
      if (slots_[slot] == kFree) {
        slots_[slot] = static_cast<uint32_t>(keys->size());
        keys->push_back(key);
        return slots_[slot];
      }
      if ((*keys)[slots_[slot]] == key) return slots_[slot];
    }
  }

 private:
  std::vector<uint32_t> slots_;
};

}  // namespace

void GatherKeys(TableId table, std::span<const size_t> features, std::span<const std::optional<Key>> oov_keys, Step* step) {
  thread_local PositionIndex index;
  thread_local std::vector<size_t> last_sample;  // 1 + the last sample that held the key
  const Batch& batch = step->batch;
  TableStep& out = step->tables[table];
  out.keys.clear();
  out.counts.clear();
  last_sample.clear();
  size_t total = 0;
  for (size_t f : features) {
    step->features[f].position.resize(batch.features[f].keys.size());
    total += batch.features[f].keys.size();
  }
  index.Reset(total + features.size());
  for (size_t r = 0; r < batch.rows; ++r) {
    for (size_t f : features) {
      const FeatureColumn& column = batch.features[f];
      for (uint32_t i = column.offsets[r]; i < column.offsets[r + 1]; ++i) {
        const uint32_t position = index.Find(column.keys[i], &out.keys);
        step->features[f].position[i] = position;
        if (position == out.counts.size()) {
          out.counts.push_back(0);
          last_sample.push_back(0);
        }
        if (last_sample[position] == r + 1) continue;
        last_sample[position] = r + 1;
        ++out.counts[position];
      }
    }
  }
  for (size_t f : features) {
    if (!oov_keys[f] || batch.features[f].keys.empty()) continue;
    step->features[f].oov_position = index.Find(*oov_keys[f], &out.keys);
    out.counts.resize(out.keys.size());
  }
}

}  // namespace tidegate
