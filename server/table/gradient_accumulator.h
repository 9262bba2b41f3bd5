#pragma once
// Staleness 0: sums the contributions of one clock per key, in the order of the calls, so that each
// row is updated once, with sum(g) / sum(w). Sums are float32, contributions of one key added in call
// order; keys come out in the order of their first contribution. Deterministic.
//
// Not thread-safe.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/types.h"
#include "server/table/row_layout.h"
#include "server/table/table_group.h"

namespace tidegate {

class GradientAccumulator {
 public:
  // REQUIRES: layout outlives it.
  explicit GradientAccumulator(const RowLayout* layout);

  // Same terms as TableGroup::Apply. skip_shard is indexed by group.LocalOfKey.
  void Add(const GradientBatch& batch, const TableGroup& group,
           std::span<const uint8_t> skip_shard);
  void Add(const GradientBatch& batch);

  size_t size() const { return keys_.size(); }
  // What was added, as one batch for TableGroup::Apply; valid until the next Add or Clear.
  GradientBatch Sum() const;
  // Keeps memory for the next clock.
  void Clear();

 private:
  void AddRow(const GradientBatch& batch, uint32_t position);
  size_t IndexOf(Key key);
  void Grow();

  const RowLayout* layout_;
  std::vector<uint32_t> index_;  // open addressing: position + 1, or 0
  std::vector<Key> keys_;
  std::vector<uint32_t> counts_;
  std::vector<float> values_;
};

}  // namespace tidegate
