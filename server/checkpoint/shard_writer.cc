#include "server/checkpoint/shard_writer.h"

#include "absl/strings/str_format.h"
#include "common/checkpoint/shard_file.h"
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tidegate {

ShardImage TakeShardImage(const ShardGroup& group, ShardId shard, uint32_t shards) {
  ShardImage image;
  image.header.set_shard(shard);
  image.header.set_shards(shards);
  for (TableId id = 0; id < group.tables(); ++id) {
    const TableGroup& table = group.table(id);
    const ShardTable& rows = table.shard(table.LocalOfShard(shard));
    std::string& bytes = image.sections.emplace_back();
    bytes.reserve(rows.rows() * (table.layout().row_bytes() + sizeof(Key) + sizeof(uint32_t)));
    rows.AppendRows(rows.SortedKeys(), &bytes);
    ShardSection* section = image.header.add_sections();
    section->set_table(id);
    section->set_rows(rows.rows());
    section->set_row_bytes(table.layout().row_bytes());
    section->set_bytes(bytes.size());
  }
  return image;
}

absl::StatusOr<CheckpointFile> WriteShardImage(FileSystem& files, const std::string& directory,
                                               const ShardImage& image) {
  CheckpointFile result;
  result.set_name(absl::StrFormat("shard-%05d.tgs", image.header.shard()));
  result.set_shard(image.header.shard());
  auto file = files.Create(JoinPath(directory, result.name()));
  if (!file.ok()) return file.status();
  XXH3_state_t hash;
  XXH3_64bits_reset(&hash);
  uint64_t size = 0;
  const auto append = [&](const std::string& bytes) {
    XXH3_64bits_update(&hash, bytes.data(), bytes.size());
    size += bytes.size();
    return (*file)->Append(bytes);
  };
  if (absl::Status s = append(EncodeShardFileHead(image.header)); !s.ok()) return s;
  for (size_t i = 0; i < image.sections.size(); ++i) {
    if (absl::Status s = append(image.sections[i]); !s.ok()) return s;
    result.set_rows(result.rows() + image.header.sections(static_cast<int>(i)).rows());
  }
  if (absl::Status s = (*file)->Commit(); !s.ok()) return s;
  result.set_bytes(size);
  result.set_xxh3(XXH3_64bits_digest(&hash));
  return result;
}

}  // namespace tidegate
