#include "server/table/gradient_accumulator.h"

#include <algorithm>
#include <cstring>

#include "common/stable_hash.h"
#include "server/table/value_codec.h"

namespace tidegate {
namespace {

constexpr size_t kIndexMin = 64;

void AddValues(const std::byte* bytes, DataType type, size_t count, float* sum) {
  if (type == FLOAT32) {
    for (size_t i = 0; i < count; ++i) {
      float value;
      std::memcpy(&value, bytes + 4 * i, 4);
      sum[i] += value;
    }
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, bytes + 2 * i, 2);
    sum[i] += FromBfloat16(bits);
  }
}

}  // namespace

GradientAccumulator::GradientAccumulator(const RowLayout* layout)
    : layout_(layout), index_(kIndexMin, 0) {}

size_t GradientAccumulator::IndexOf(Key key) {
  const size_t mask = index_.size() - 1;
  size_t i = Mix64(key) & mask;
  while (index_[i] != 0 && keys_[index_[i] - 1] != key) i = (i + 1) & mask;
  return i;
}

void GradientAccumulator::Grow() {
  std::vector<uint32_t> larger(index_.size() * 2, 0);
  index_.swap(larger);
  for (size_t i = 0; i < keys_.size(); ++i) index_[IndexOf(keys_[i])] = static_cast<uint32_t>(i + 1);
}

void GradientAccumulator::AddRow(const GradientBatch& batch, uint32_t position) {
  const size_t width = layout_->width();
  const Key key = batch.keys[position];
  const uint32_t count = batch.counts.empty() ? 1 : batch.counts[position];
  const std::byte* bytes =
      batch.values.data() + size_t{position} * layout_->WireRowBytes(batch.value_type);
  const size_t slot = IndexOf(key);
  if (index_[slot] == 0) {
    keys_.push_back(key);
    counts_.push_back(count);
    index_[slot] = static_cast<uint32_t>(keys_.size());
    values_.resize(keys_.size() * width);
    DecodeValues(bytes, batch.value_type, width, values_.data() + (keys_.size() - 1) * width);
    if (keys_.size() * 2 > index_.size()) Grow();
    return;
  }
  const size_t at = index_[slot] - 1;
  AddValues(bytes, batch.value_type, width, values_.data() + at * width);
  counts_[at] = SaturatingAdd(counts_[at], count);
}

void GradientAccumulator::Add(const GradientBatch& batch) {
  const size_t count = batch.positions.empty() ? batch.keys.size() : batch.positions.size();
  for (size_t i = 0; i < count; ++i) {
    AddRow(batch, batch.positions.empty() ? static_cast<uint32_t>(i) : batch.positions[i]);
  }
}

void GradientAccumulator::Add(const GradientBatch& batch, const TableGroup& group,
                              std::span<const uint8_t> skip_shard) {
  const size_t count = batch.positions.empty() ? batch.keys.size() : batch.positions.size();
  for (size_t i = 0; i < count; ++i) {
    const uint32_t position = batch.positions.empty() ? static_cast<uint32_t>(i) : batch.positions[i];
    if (!skip_shard.empty() && skip_shard[group.LocalOfKey(batch.keys[position])] != 0) continue;
    AddRow(batch, position);
  }
}

GradientBatch GradientAccumulator::Sum() const {
  GradientBatch batch;
  batch.keys = PackedSpan<Key>(keys_.data(), keys_.size());
  batch.values = std::as_bytes(std::span(values_));
  batch.counts = PackedSpan<uint32_t>(counts_.data(), counts_.size());
  return batch;
}

void GradientAccumulator::Clear() {
  keys_.clear();
  counts_.clear();
  values_.clear();
  std::fill(index_.begin(), index_.end(), 0);
}

}  // namespace tidegate
