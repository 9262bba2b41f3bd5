#include "server/checkpoint/warm_start.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/export/export_reader.h"
#include "common/export/warm_start.h"
#include "common/stable_hash.h"
#include "server/table/row_layout.h"
#include "server/table/shard_table.h"
#include "server/table/value_codec.h"

namespace tidegate {
namespace {

constexpr size_t kChunkBytes = 1 << 20;

struct TensorSource {
  const ExportReader* reader = nullptr;
  WarmPart part;
};

// One table's rows, made of all that fills it.
class TableFiller {
 public:
  TableFiller(RowLayout layout, std::vector<TensorSource> sources) : layout_(std::move(layout)), sources_(std::move(sources)) {}

  // Rising.
  std::vector<Key> Keys() const {
    std::vector<Key> keys;
    if (layout_.dense()) {
      for (Key key = 0; key < layout_.dense_blocks(); ++key) keys.push_back(key);
      return keys;
    }
    for (const TensorSource& s : sources_) {
      const std::span<const Key> more = s.reader->keys(s.part.from_table);
      keys.insert(keys.end(), more.begin(), more.end());
    }
    std::sort(keys.begin(), keys.end());
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    return keys;
  }

  void AppendRow(Key key, std::string* out) {
    row_.assign(layout_.data_bytes(), std::byte{0});
    layout_.InitializeRow(key, row_.data());
    for (const TensorSource& s : sources_) SetPart(s, key);
    const RowHeader header{.first_clock = StoredClock(0), .last_clock = StoredClock(0)};
    ShardTable::AppendRow(key, header, row_, out);
  }

 private:
  void SetPart(const TensorSource& s, Key key) {
    const RowLayout::Part& part = layout_.parts()[s.part.part];
    const std::span<const float> values = s.reader->values(s.part.from_table, s.part.from_part);
    size_t at = static_cast<size_t>(key);  // of a dense tensor: its block
    if (!layout_.dense()) {
      const std::optional<size_t> row = s.reader->Find(s.part.from_table, key);
      if (!row) return;
      at = *row;
    }
    const size_t begin = std::min(at * part.dim, values.size());
    const size_t count = std::min<size_t>(part.dim, values.size() - begin);  // a tensor's last block may be short
    std::byte* to = row_.data() + part.value_offset;
    if (!part.bfloat16) {
      std::memcpy(to, values.data() + begin, count * sizeof(float));
      return;
    }
    for (size_t j = 0; j < count; ++j) {
      const uint16_t bits = ToBfloat16(values[begin + j]);
      std::memcpy(to + j * sizeof(bits), &bits, sizeof(bits));
    }
  }

  RowLayout layout_;
  std::vector<TensorSource> sources_;
  std::vector<std::byte> row_;
};

}  // namespace

absl::Status WarmStartShards(FileSystem& files, std::span<const InitFrom> inits, std::span<const TableSpec> tables,
                             std::span<const ShardId> own, uint32_t shards, const LoadRecords& load) {
  std::vector<ExportReader> readers;
  readers.reserve(inits.size());  // TensorSource points into it
  std::map<TableId, std::vector<TensorSource>> sources;
  for (const InitFrom& init : inits) {
    auto reader = ExportReader::Open(files, init.export_());
    if (!reader.ok()) return reader.status();
    readers.push_back(*std::move(reader));
    auto parts = MatchTensors(init, tables, readers.back().spec());
    if (!parts.ok()) return parts.status();
    for (const WarmPart& part : *parts) sources[part.table].push_back({&readers.back(), part});
  }
  std::vector<bool> is_own(shards, false);
  for (const ShardId shard : own) is_own[shard] = true;
  const int log2_shards = std::countr_zero(shards);
  for (auto& [table, from] : sources) {
    auto layout = RowLayout::Create(tables[table]);
    if (!layout.ok()) return layout.status();
    TableFiller filler(*std::move(layout), std::move(from));
    std::map<ShardId, std::string> records;
    for (const Key key : filler.Keys()) {
      const ShardId shard = ShardOfHash(PlacementHash(table, key), log2_shards);
      if (!is_own[shard]) continue;
      std::string& chunk = records[shard];
      filler.AppendRow(key, &chunk);
      if (chunk.size() < kChunkBytes) continue;
      if (absl::Status s = load(shard, table, chunk); !s.ok()) return s;
      chunk.clear();
    }
    for (const auto& [shard, chunk] : records) {
      if (absl::Status s = load(shard, table, chunk); !s.ok()) return s;
    }
  }
  return absl::OkStatus();
}

}  // namespace tidegate
