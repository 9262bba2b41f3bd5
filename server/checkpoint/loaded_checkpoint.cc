#include "server/checkpoint/loaded_checkpoint.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/checkpoint/checkpoint_reader.h"

namespace tidegate {

absl::StatusOr<LoadedCheckpoint> LoadedCheckpoint::Load(FileSystem& files,
                                                        const std::string& directory) {
  auto reader = CheckpointReader::Open(files, directory);
  if (!reader.ok()) return reader.status();
  LoadedCheckpoint out;
  out.manifest_ = reader->manifest();
  std::vector<ShardId> shards(out.manifest_.shards());
  std::iota(shards.begin(), shards.end(), 0);
  const int log2_shards = std::countr_zero(out.manifest_.shards());
  for (const TableSpec& spec : out.manifest_.tables()) {
    auto layout = RowLayout::Create(spec);
    if (!layout.ok()) {
      return absl::DataLossError(absl::StrCat(directory, "/MANIFEST: ", layout.status().message()));
    }
    out.layouts_.push_back(std::make_unique<const RowLayout>(*std::move(layout)));
    out.tables_.push_back(
        std::make_unique<TableGroup>(out.layouts_.back().get(), log2_shards, shards));
  }
  for (int f = 0; f < out.manifest_.files_size(); ++f) {
    auto file = reader->Read(f);
    if (!file.ok()) return file.status();
    for (int s = 0; s < file->header().sections_size(); ++s) {
      const ShardSection& section = file->header().sections(s);
      TableGroup& table = *out.tables_[section.table()];
      if (section.row_bytes() != table.layout().row_bytes()) {
        return absl::DataLossError(absl::StrCat(file->name(), ": rows of ", section.row_bytes(),
                                                " bytes in table \"", table.layout().name(),
                                                "\", this version has ",
                                                table.layout().row_bytes()));
      }
      const std::string_view bytes = file->section(static_cast<size_t>(s));
      absl::Status status = table.shard(file->header().shard())
                                .LoadRows(std::as_bytes(std::span(bytes.data(), bytes.size())));
      if (!status.ok()) {
        return absl::DataLossError(absl::StrCat(file->name(), ": ", status.message()));
      }
    }
  }
  return out;
}

absl::Status LoadedCheckpoint::Gather(TableId table, std::span<const Key> keys,
                                      std::span<float> rows) const {
  if (table >= tables_.size()) {
    return absl::NotFoundError(absl::StrCat("the checkpoint has no table ", table));
  }
  const TableGroup& group = *tables_[table];
  const PackedSpan<Key> packed(keys.data(), keys.size());
  if (absl::Status s = group.layout().CheckKeys(packed); !s.ok()) return s;
  if (rows.size() != keys.size() * group.layout().width()) {
    return absl::InvalidArgumentError(absl::StrCat(rows.size(), " floats for ", keys.size(),
                                                   " rows of ", group.layout().width()));
  }
  UpdateArguments arguments;
  arguments.clock = manifest_.clock() + 1;
  group.Gather(packed, {}, FLOAT32, arguments, std::as_writable_bytes(rows).data());
  return absl::OkStatus();
}

std::vector<Key> LoadedCheckpoint::Keys(TableId table) const {
  std::vector<Key> keys;
  const TableGroup& group = *tables_[table];
  keys.reserve(group.rows());
  for (uint32_t s = 0; s < group.shards(); ++s) {
    const ShardTable& shard = group.shard(s);
    for (const Key key : shard.SortedKeys()) {
      if (shard.Find(key) != ShardTable::kNoRow) keys.push_back(key);  // not one that is only counted
    }
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

std::string LoadedCheckpoint::Record(TableId table, Key key) const {
  const TableGroup& group = *tables_[table];
  std::string record;
  group.shard(group.LocalOfKey(key)).AppendRows(std::span<const Key>(&key, 1), &record);
  return record;
}

uint64_t LoadedCheckpoint::rows() const {
  uint64_t rows = 0;
  for (const auto& table : tables_) rows += table->rows();
  return rows;
}

}  // namespace tidegate
