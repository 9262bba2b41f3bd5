#include "server/checkpoint/shard_writer.h"

#include "absl/strings/str_format.h"
#include "common/checkpoint/shard_file.h"
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tidegate {

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
  if (absl::Status s = append(EncodeShardFileHead(image.header, image.incremental)); !s.ok()) return s;
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
