#include "server/checkpoint/restore.h"

#include <bit>
#include <map>

#include "absl/strings/str_cat.h"
#include "common/checkpoint/checkpoint_reader.h"
#include "common/stable_hash.h"

namespace tidegate {
namespace {

absl::Status CheckTables(const CheckpointManifest& manifest, std::span<const TableSpec> tables,
                         const std::string& directory) {
  bool same = static_cast<size_t>(manifest.tables_size()) == tables.size();
  for (size_t i = 0; same && i < tables.size(); ++i) {
    same = manifest.tables(static_cast<int>(i)).SerializeAsString() == tables[i].SerializeAsString();
  }
  if (same) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(directory, " has other tables than the job: it was written by another program or config"));
}

// Shards [first, end) of `shards` whose part of the hash space meets that of `shard` of `of`.
std::pair<ShardId, ShardId> Overlap(uint32_t shard, uint32_t of, uint32_t shards) {
  if (of >= shards) return {shard / (of / shards), shard / (of / shards) + 1};
  const uint32_t each = shards / of;
  return {shard * each, (shard + 1) * each};
}

absl::Status LoadSection(const ShardFile& file, size_t index, uint32_t shards,
                         const std::vector<bool>& own, const LoadRecords& load) {
  const TableId table = file.header().sections(static_cast<int>(index)).table();
  const auto [first, end] = Overlap(file.header().shard(), file.header().shards(), shards);
  if (end == first + 1) return load(first, table, file.section(index));
  const int log2_shards = std::countr_zero(shards);
  std::map<ShardId, std::string> of_shard;
  absl::Status status = VisitRecords(file, index, [&](Key key, std::string_view record) {
    const ShardId shard = ShardOfHash(PlacementHash(table, key), log2_shards);
    if (own[shard]) of_shard[shard].append(record);
  });
  for (const auto& [shard, records] : of_shard) {
    if (status.ok()) status = load(shard, table, records);
  }
  return status;
}

}  // namespace

absl::Status RestoreShards(FileSystem& files, const std::string& directory,
                           std::span<const TableSpec> tables, std::span<const ShardId> own,
                           uint32_t shards, const LoadRecords& load) {
  auto reader = CheckpointReader::Open(files, directory);
  if (!reader.ok()) return reader.status();
  if (absl::Status s = CheckTables(reader->manifest(), tables, directory); !s.ok()) return s;
  std::vector<bool> is_own(shards, false);
  for (ShardId shard : own) is_own[shard] = true;
  const CheckpointManifest& manifest = reader->manifest();
  for (int f = 0; f < manifest.files_size(); ++f) {
    const auto [first, end] = Overlap(manifest.files(f).shard(), manifest.shards(), shards);
    bool wanted = false;
    for (ShardId shard = first; shard < end; ++shard) wanted = wanted || is_own[shard];
    if (!wanted) continue;
    auto file = reader->Read(f);
    if (!file.ok()) return file.status();
    for (int s = 0; s < file->header().sections_size(); ++s) {
      absl::Status status = LoadSection(*file, static_cast<size_t>(s), shards, is_own, load);
      if (!status.ok()) {
        return absl::DataLossError(absl::StrCat(file->name(), ": ", std::string(status.message())));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace tidegate
