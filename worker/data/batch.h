#pragma once
// A mini-batch as every reader makes it and every model takes it (docs/design.md, section 9).
// Plain data; not thread-safe; reused between steps so that its buffers keep their capacity.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/types.h"

namespace tidegate {

// One feature that looks rows up, as CSR: row r has keys[offsets[r] .. offsets[r + 1]), in the order
// of the data. `weights` is empty when every value counts 1.
struct FeatureColumn {
  std::vector<uint32_t> offsets;  // rows + 1
  std::vector<Key> keys;
  std::vector<float> weights;  // empty, or one per key
};

struct Batch {
  size_t rows = 0;
  std::vector<FeatureColumn> features;         // those with a table, in the config's order
  std::vector<std::vector<float>> numeric;     // [numeric feature without table][rows]
  std::vector<std::vector<float>> labels;      // [label column][rows]; NaN: not known (masked)
  std::vector<float> sample_weight;            // [rows], or empty: all 1
  std::vector<uint64_t> group_id;              // [rows], or empty
  std::vector<int64_t> timestamp;              // [rows], or empty
  std::vector<uint64_t> sample_id;             // [rows]: StableHash of (source, byte offset or row)

  // Empties all columns and keeps their number and capacity.
  void Clear() {
    rows = 0;
    for (FeatureColumn& f : features) {
      f.offsets.assign(1, 0);
      f.keys.clear();
      f.weights.clear();
    }
    for (auto& n : numeric) n.clear();
    for (auto& l : labels) l.clear();
    sample_weight.clear();
    group_id.clear();
    timestamp.clear();
    sample_id.clear();
  }
};

}  // namespace tidegate
