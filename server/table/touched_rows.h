#pragma once
// What of one shard's table changed since a moment, for incremental checkpoints: a bit for each row, and the keys of counters and
// of what left. Not thread-safe.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/types.h"

namespace tidegate {

struct TouchedRows {
  bool unknown = true;         // anything may have changed
  bool all_counters = false;   // every key that is not admitted
  std::vector<uint64_t> rows;  // bit r % 64 of word r / 64: row r
  std::vector<Key> counters;   // keys that were counted, any number of times; some have a row or are gone since
  std::vector<Key> removed;    // keys that left, any number of times; some are there again

  bool Has(uint32_t row) const { return row / 64 < rows.size() && (rows[row / 64] >> (row % 64) & 1) != 0; }
};

// The part of a table that writes down what it changes. Costs nothing until it begins, then a store for each row that is pushed.
class TouchLog {
 public:
  bool on() const { return bits_ != nullptr; }
  // What changed since the last Begin, and begins anew. `rows`: numbers of rows that there may be.
  TouchedRows Begin(size_t rows) {
    TouchedRows before = std::move(touched_);
    touched_ = TouchedRows();
    touched_.unknown = false;
    MakeRoom(rows);
    return before;
  }
  void Stop() {
    touched_ = TouchedRows();
    bits_ = nullptr;
  }
  void MakeRoom(size_t rows) {
    if (touched_.unknown) return;
    touched_.rows.resize(std::max<size_t>(1, (rows + 63) / 64));
    bits_ = touched_.rows.data();
  }
  void Row(uint32_t row) {
    if (bits_ != nullptr) bits_[row / 64] |= uint64_t{1} << (row % 64);
  }
  void RowFreed(uint32_t row) {
    if (bits_ != nullptr) bits_[row / 64] &= ~(uint64_t{1} << (row % 64));
  }
  void Counter(Key key, size_t keys_max) {
    if (bits_ == nullptr || touched_.all_counters) return;
    touched_.counters.push_back(key);
    if (!Fits(&touched_.counters, keys_max)) AllCounters();
  }
  void AllCounters() {
    if (bits_ == nullptr) return;
    touched_.all_counters = true;
    touched_.counters = {};
  }
  void Removed(Key key, size_t keys_max) {
    if (bits_ == nullptr) return;
    touched_.removed.push_back(key);
    if (!Fits(&touched_.removed, keys_max)) Stop();
  }
  size_t bytes() const {
    return touched_.rows.capacity() * sizeof(uint64_t) + (touched_.counters.capacity() + touched_.removed.capacity()) * sizeof(Key);
  }

 private:
  static constexpr size_t kKeysMin = 65536;

  // Keeps a list within bounds: each key once where it has grown; false where that does not help.
  static bool Fits(std::vector<Key>* keys, size_t keys_max) {
    const size_t most = std::max(kKeysMin, keys_max);
    if (keys->size() < 2 * most) return true;
    std::sort(keys->begin(), keys->end());
    keys->erase(std::unique(keys->begin(), keys->end()), keys->end());
    return keys->size() <= most;
  }

  TouchedRows touched_;
  uint64_t* bits_ = nullptr;  // of touched_.rows; null: off
};

}  // namespace tidegate
