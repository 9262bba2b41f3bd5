#include "server/table/table_group.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "common/logging.h"
#include "common/random.h"
#include "server/optimizer/optimizer.h"
#include "server/table/value_codec.h"

namespace tidegate {
namespace {

// Keys that one step of a batch handles before the next step does: how far ahead of its use a line of the
// index, then a row, is asked for.
constexpr size_t kReadChunk = 16;
constexpr size_t kWriteChunk = 32;
constexpr size_t RingFor(size_t chunk) { return 4 * chunk; }  // keys in work: of three steps, as a power of two
constexpr size_t kCacheLine = 64;
constexpr size_t kPrefetchBytesMax = 1024;  // of a row; the hardware follows a longer one
constexpr uint64_t kRoundingSalt = 0x3c6ef372fe94f82bull;

template <bool kWrite>
inline void PrefetchBytes(const std::byte* begin, size_t bytes) {
  const uintptr_t end = reinterpret_cast<uintptr_t>(begin) + std::min(bytes, kPrefetchBytesMax);
  for (uintptr_t line = reinterpret_cast<uintptr_t>(begin) & ~(kCacheLine - 1); line < end;
       line += kCacheLine) {
    __builtin_prefetch(reinterpret_cast<const void*>(line), kWrite ? 1 : 0, 3);
  }
}

// REQUIRES: bytes is a multiple of 4.
inline void CopyRow(std::byte* to, const std::byte* from, size_t bytes) {
  size_t i = 0;
  for (; i + 32 <= bytes; i += 32) std::memcpy(to + i, from + i, 32);
  for (; i < bytes; i += 4) std::memcpy(to + i, from + i, 4);
}

void EncodeValues(const float* values, DataType type, size_t count, std::byte* out) {
  if (type == FLOAT32) {
    std::memcpy(out, values, count * 4);
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    const uint16_t bits = ToBfloat16(values[i]);
    std::memcpy(out + 2 * i, &bits, 2);
  }
}

size_t Count(PackedSpan<Key> keys, std::span<const uint32_t> positions) {
  return positions.empty() ? keys.size() : positions.size();
}
uint32_t At(std::span<const uint32_t> positions, size_t i) {
  return positions.empty() ? static_cast<uint32_t>(i) : positions[i];
}

// Three steps for each of 0 .. count - 1, each step a chunk behind the one before: `begin` asks for the index,
// `look` finds the row and asks for it, `work` has it. Short loops of one kind each keep more misses under way
// than one loop over all three.
template <size_t kChunk, typename Begin, typename Look, typename Work>
inline void InSteps(size_t count, const Begin& begin, const Look& look, const Work& work) {
  for (size_t chunk = 0; chunk < count + 2 * kChunk; chunk += kChunk) {
    for (size_t i = chunk; i < std::min(chunk + kChunk, count); ++i) begin(i);
    if (chunk < kChunk) continue;
    for (size_t i = chunk - kChunk; i < std::min(chunk, count); ++i) look(i);
    if (chunk < 2 * kChunk) continue;
    for (size_t i = chunk - 2 * kChunk; i < std::min(chunk - kChunk, count); ++i) work(i);
  }
}

}  // namespace

TableGroup::TableGroup(const RowLayout* layout, int log2_shards, std::span<const ShardId> shards)
    : layout_(layout),
      log2_shards_(log2_shards),
      directory_(size_t{1} << log2_shards, kNotLocal),
      prepared_(layout->parts().size()),
      read_(layout->parts().size()),
      scratch_(layout->width()),
      gradient_(layout->width()) {
  for (const ShardId shard : shards) AddShard(this->shards(), shard);
}

void TableGroup::AddShard(uint32_t local, ShardId shard) {
  TG_CHECK(shard < directory_.size() && directory_[shard] == kNotLocal) << "shard " << shard;
  directory_[shard] = local;
  auto table = std::make_unique<ShardTable>(layout_, shard, log2_shards_);
  if (local == tables_.size()) {
    tables_.push_back(std::move(table));
  } else {
    tables_[local] = std::move(table);
  }
}

void TableGroup::RemoveShard(ShardId shard) {
  tables_[directory_[shard]]->Clear();
  directory_[shard] = kNotLocal;
}

uint64_t TableGroup::rows() const {
  uint64_t total = 0;
  for (const auto& table : tables_) total += table->rows();
  return total;
}

uint64_t TableGroup::BytesUsed() const {
  uint64_t total = 0;
  for (const auto& table : tables_) total += table->BytesUsed();
  return total;
}

uint64_t TableGroup::BytesForRows(uint64_t rows) const {
  // An index that has just doubled holds 32/11 slots per row.
  return rows * (layout_->stride() + sizeof(RowHeader) + KeyIndex::kSlotBytes * 32 / 11 + 1);
}

void TableGroup::WriteAbsent(Key key, DataType wire, std::byte* out) const {
  if (layout_->admits_at_once() || layout_->unadmitted() == INITIALIZER) {
    layout_->InitialValues(key, scratch_.data());
  } else {
    const bool mark = layout_->unadmitted() == FEATURE_OOV;
    std::fill(scratch_.begin(), scratch_.end(), mark ? std::numeric_limits<float>::quiet_NaN() : 0.0f);
  }
  EncodeValues(scratch_.data(), wire, layout_->width(), out);
}

void TableGroup::WriteConverted(const RowHeader& header, const std::byte* row, DataType wire,
                                std::byte* out) const {
  for (size_t i = 0; i < layout_->parts().size(); ++i) {
    const RowLayout::Part& part = layout_->parts()[i];
    float* values = scratch_.data() + part.first_element;
    DecodeValues(row + part.value_offset, part.bfloat16 ? BFLOAT16 : FLOAT32, part.dim, values);
    if (!part.optimizer.decays()) continue;
    const float factor = part.optimizer.DecayFactor(read_[i], ClockOf(header.last_clock));
    for (uint32_t k = 0; k < part.dim; ++k) values[k] *= factor;
  }
  EncodeValues(scratch_.data(), wire, layout_->width(), out);
}

ShardTable* TableGroup::TableOf(Key key, uint64_t hash) const {
  const uint32_t local = LocalOfHash(hash);
  TG_CHECK(local != kNotLocal) << "key " << key << " is of a shard that is not here";
  return tables_[local].get();
}

template <bool kPlain>
void TableGroup::GatherLoop(PackedSpan<Key> keys, std::span<const uint32_t> positions, DataType wire,
                            std::byte* rows) const {
  struct Pending {
    const ShardTable* table;
    uint64_t hash;
    Key key;
    const std::byte* row;  // nullptr: absent
    const RowHeader* header;
    uint32_t position;
  };
  constexpr size_t kRing = RingFor(kReadChunk);
  Pending ring[kRing];
  const size_t out_bytes = layout_->WireRowBytes(wire);
  const RowLayout::Part& last = layout_->parts().back();
  const size_t value_bytes = last.value_offset + size_t{last.dim} * (last.bfloat16 ? 2 : 4);
  InSteps<kReadChunk>(
      Count(keys, positions),
      [&](size_t i) {
        Pending& next = ring[i % kRing];
        next.position = At(positions, i);
        next.key = keys[next.position];
        next.hash = PlacementHash(layout_->table(), next.key);
        next.table = TableOf(next.key, next.hash);
        __builtin_prefetch(next.table->Home(next.hash));
      },
      [&](size_t i) {
        Pending& next = ring[i % kRing];
        const ShardTable::RowId row = next.table->Find(next.hash, next.key);
        next.row = nullptr;
        if (row == ShardTable::kNoRow) return;
        next.row = next.table->RowAt(row);
        PrefetchBytes<false>(next.row, value_bytes);
        if constexpr (kPlain) return;
        next.header = &next.table->HeaderAt(row);
        if (layout_->decays()) __builtin_prefetch(next.header);
      },
      [&](size_t i) {
        const Pending& now = ring[i % kRing];
        std::byte* out = rows + size_t{now.position} * out_bytes;
        if (now.row == nullptr) {
          WriteAbsent(now.key, wire, out);
        } else if constexpr (kPlain) {
          CopyRow(out, now.row, out_bytes);
        } else {
          WriteConverted(*now.header, now.row, wire, out);
        }
      });
}

void TableGroup::Gather(PackedSpan<Key> keys, std::span<const uint32_t> positions, DataType wire,
                        const UpdateArguments& arguments, std::byte* rows) const {
  if (layout_->plain_float32() && wire == FLOAT32) {
    GatherLoop<true>(keys, positions, wire, rows);
    return;
  }
  for (size_t i = 0; i < read_.size(); ++i) {
    read_[i] = layout_->parts()[i].optimizer.Prepare(arguments);
  }
  GatherLoop<false>(keys, positions, wire, rows);
}

void TableGroup::ApplyRow(Key key, const RowHeader& header, std::byte* row, const std::byte* gradient) {
  const Clock last = ClockOf(header.last_clock);
  for (size_t i = 0; i < prepared_.size(); ++i) {
    const RowLayout::Part& part = layout_->parts()[i];
    if (part.optimizer.frozen()) continue;
    const std::byte* part_gradient = gradient + size_t{4} * part.first_element;
    float* slots = reinterpret_cast<float*>(row + part.slot_offset);
    if (!part.bfloat16) {
      part.optimizer.Apply(prepared_[i], reinterpret_cast<float*>(row + part.value_offset), slots,
                           part_gradient, header.applications, last);
      continue;
    }
    std::byte* stored = row + part.value_offset;
    DecodeValues(stored, BFLOAT16, part.dim, scratch_.data());
    part.optimizer.Apply(prepared_[i], scratch_.data(), slots, part_gradient, header.applications, last);
    const uint64_t seed =
        RandomBits(layout_->seed() ^ kRoundingSalt ^ Mix64(key), header.applications);
    for (uint32_t k = 0; k < part.dim; ++k) {
      const uint32_t element = part.first_element + k;
      const uint64_t random = RandomBits(seed, element / 4) >> (16 * (element % 4));
      const uint16_t bits = ToBfloat16Stochastic(scratch_[k], static_cast<uint16_t>(random));
      std::memcpy(stored + size_t{2} * k, &bits, 2);
    }
  }
}

ApplyResult TableGroup::Apply(const GradientBatch& batch, const UpdateArguments& arguments,
                              std::span<const uint8_t> skip_shard) {
  struct Pending {
    ShardTable* table;  // nullptr: skipped
    uint64_t hash;
    Key key;
    ShardTable::RowId row;
    uint32_t position;
  };
  for (size_t i = 0; i < prepared_.size(); ++i) {
    prepared_[i] = layout_->parts()[i].optimizer.Prepare(arguments);
  }
  constexpr size_t kRing = RingFor(kWriteChunk);
  Pending ring[kRing];
  ApplyResult result;
  const uint32_t clock = StoredClock(arguments.clock);
  const size_t in_bytes = layout_->WireRowBytes(batch.value_type);
  const auto begin = [&](size_t i) {
    Pending& next = ring[i % kRing];
    next.position = At(batch.positions, i);
    next.key = batch.keys[next.position];
    next.hash = PlacementHash(layout_->table(), next.key);
    next.table = TableOf(next.key, next.hash);
    if (!skip_shard.empty() && skip_shard[LocalOfHash(next.hash)] != 0) {
      next.table = nullptr;
      ++result.skipped;
    } else {
      __builtin_prefetch(next.table->Home(next.hash));
    }
  };
  const auto look = [&](size_t i) {
    Pending& next = ring[i % kRing];
    if (next.table == nullptr) return;
    next.row = next.table->Find(next.hash, next.key);
    if (next.row == ShardTable::kNoRow) return;
    PrefetchBytes<true>(next.table->RowAt(next.row), layout_->data_bytes());
    __builtin_prefetch(&next.table->HeaderAt(next.row), 1);
  };
  const auto work = [&](size_t i) {
    const Pending& now = ring[i % kRing];
    if (now.table == nullptr) return;
    const uint32_t samples = batch.counts.empty() ? 1 : batch.counts[now.position];
    ShardTable::RowId row = now.row;
    // The same key just before may have made the row.
    if (row == ShardTable::kNoRow) row = now.table->Find(now.hash, now.key);
    if (row == ShardTable::kNoRow) {
      row = now.table->Admit(now.hash, now.key, samples, arguments.clock);
      if (row == ShardTable::kNoRow) {
        ++result.unadmitted;
        return;
      }
      ++result.created;
    } else {
      RowHeader& seen = now.table->HeaderAt(row);
      seen.touches = SaturatingAdd(seen.touches, samples);
    }
    const std::byte* gradient = batch.values.data() + size_t{now.position} * in_bytes;
    if (batch.value_type == BFLOAT16) {
      DecodeValues(gradient, BFLOAT16, layout_->width(), gradient_.data());
      gradient = reinterpret_cast<const std::byte*>(gradient_.data());
    }
    RowHeader& header = now.table->HeaderAt(row);
    ApplyRow(now.key, header, now.table->RowAt(row), gradient);
    header.applications = SaturatingAdd(header.applications, 1);
    header.last_clock = std::max(header.last_clock, clock);
    now.table->Touch(row);
    ++result.applied;
  };
  InSteps<kWriteChunk>(Count(batch.keys, batch.positions), begin, look, work);
  return result;
}

uint64_t TableGroup::CountAbsent(PackedSpan<Key> keys, std::span<const uint32_t> positions) const {
  struct Pending {
    const ShardTable* table;
    uint64_t hash;
    Key key;
  };
  constexpr size_t kRing = RingFor(kReadChunk);
  Pending ring[kRing];
  uint64_t absent = 0;
  InSteps<kReadChunk>(
      Count(keys, positions),
      [&](size_t i) {
        Pending& next = ring[i % kRing];
        next.key = keys[At(positions, i)];
        next.hash = PlacementHash(layout_->table(), next.key);
        next.table = TableOf(next.key, next.hash);
        __builtin_prefetch(next.table->Home(next.hash));
      },
      [&](size_t i) {
        const Pending& now = ring[i % kRing];
        absent += now.table->Find(now.hash, now.key) == ShardTable::kNoRow;
      },
      [](size_t) {});
  return absent;
}

}  // namespace tidegate
