#include "worker/model/unadmitted.h"

#include <algorithm>
#include <cmath>

#include "common/stable_hash.h"

namespace tidegate {
namespace {

bool Marked(std::span<const float> row) {
  return std::all_of(row.begin(), row.end(), [](float x) { return std::isnan(x); });
}

// What a pass over the batch knows of a key.
struct KeyState {
  bool marked = false;
  bool oov = false;          // of a feature with keys in the batch
  uint32_t last_sample = 0;  // 1 + the last one that was counted
};

}  // namespace

Key OovKeyOf(const FeatureConfig& feature) {
  const Key key = OutOfVocabularyKey(SaltOf(feature.salt()));
  return feature.id().hash_buckets() == 0 ? key : key % feature.id().hash_buckets();
}

void ReadOutOfVocabularyRows(TableId table, std::span<const size_t> features, uint32_t row_width, Step* step) {
  thread_local std::vector<KeyState> keys;
  TableStep& out = step->tables[table];
  keys.assign(out.keys.size(), {});
  bool any = false;
  for (size_t k = 0; k < keys.size(); ++k) {
    keys[k].marked = Marked(std::span(out.rows).subspan(k * row_width, row_width));
    any |= keys[k].marked;
  }
  if (!any) return;
  for (size_t f : features) {
    if (step->batch.features[f].keys.empty()) continue;
    const uint32_t oov = step->features[f].oov_position;
    if (keys[oov].marked) std::fill_n(out.rows.begin() + static_cast<ptrdiff_t>(oov) * row_width, row_width, 0.0f);
    keys[oov].oov = true;
    out.counts[oov] = 0;
  }
  const auto count = [&](uint32_t position, size_t sample) {
    KeyState& key = keys[position];
    if (!key.oov || key.last_sample == sample + 1) return;
    key.last_sample = static_cast<uint32_t>(sample + 1);
    ++out.counts[position];
  };
  for (size_t r = 0; r < step->batch.rows; ++r) {
    for (size_t f : features) {
      const std::vector<uint32_t>& offsets = step->batch.features[f].offsets;
      FeatureStep& feature = step->features[f];
      for (uint32_t i = offsets[r]; i < offsets[r + 1]; ++i) {
        uint32_t& position = feature.position[i];
        count(position, r);  // with hash_buckets a value may have the out-of-vocabulary key
        if (!keys[position].marked) continue;
        position = feature.oov_position;
        count(position, r);
      }
    }
  }
}

void DropUnread(uint32_t row_width, TableStep* table) {
  size_t kept = static_cast<size_t>(std::find(table->counts.begin(), table->counts.end(), 0u) - table->counts.begin());
  for (size_t k = kept; k < table->keys.size(); ++k) {
    if (table->counts[k] == 0) continue;
    table->keys[kept] = table->keys[k];
    table->counts[kept] = table->counts[k];
    std::copy_n(table->gradients.begin() + static_cast<ptrdiff_t>(k * row_width), row_width,
                table->gradients.begin() + static_cast<ptrdiff_t>(kept * row_width));
    ++kept;
  }
  table->keys.resize(kept);
  table->counts.resize(kept);
  table->gradients.resize(kept * row_width);
}

}  // namespace tidegate
