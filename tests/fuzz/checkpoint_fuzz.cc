// Checkpoint files from outside: a shard file's structure and rows, and the manifest.

#include <string>
#include <vector>

#include "common/checkpoint/manifest.h"
#include "common/checkpoint/shard_file.h"
#include "common/checkpoint/shard_merge.h"
#include "common/logging.h"
#include "common/stable_hash.h"
#include "tests/fuzz/fuzz_target.h"

namespace tidegate {
namespace {

std::vector<TableSpec> Tables() {
  std::vector<TableSpec> tables(2);
  for (uint32_t id = 0; id < 2; ++id) {
    tables[id].set_id(id);
    PartSpec* part = tables[id].add_parts();
    part->set_dim(3 + id);
    if (id == 1) part->set_dtype(BFLOAT16);
  }
  return tables;
}

std::string ShardSeed(bool incremental = false) {
  ShardFileHeader header;
  header.set_shards(2);
  std::string sections;
  for (uint32_t table = 0; table < 2; ++table) {
    const uint32_t row_bytes = table == 0 ? 32 : 28;
    std::string section;
    for (uint64_t key = 0; key < 3; ++key) {
      section.append(reinterpret_cast<const char*>(&key), 8);
      section.append(4 + row_bytes, '\0');
    }
    ShardSection* s = header.add_sections();
    s->set_table(table);
    s->set_rows(3);
    s->set_row_bytes(row_bytes);
    s->set_bytes(section.size());
    sections += section;
    if (!incremental) continue;
    s->set_removed(2);
    for (uint64_t key = 2; key < 4; ++key) sections.append(reinterpret_cast<const char*>(&key), 8);
  }
  return EncodeShardFileHead(header, incremental) + sections;
}

}  // namespace
}  // namespace tidegate

std::vector<std::string> FuzzSeeds() {
  tidegate::CheckpointManifest manifest;
  manifest.set_format(1);
  manifest.set_shards(2);
  const std::string full = manifest.SerializeAsString();
  manifest.set_format(2);
  manifest.set_number(3);
  manifest.set_base(2);
  manifest.set_base_folder("clock-2");
  return {tidegate::ShardSeed(), tidegate::ShardSeed(true), full, manifest.SerializeAsString()};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tidegate;
  static const std::vector<TableSpec> tables = Tables();
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  auto file = ShardFile::Parse(bytes, tables, "input");
  if (file.ok()) {
    static const ShardFile full = *ShardFile::Parse(ShardSeed(), tables, "full"), later = *ShardFile::Parse(ShardSeed(true), tables, "later");
    const auto merged = file->incremental() ? MergeShardFiles(full, *file, tables) : MergeShardFiles(*file, later, tables);
    for (int s = 0; merged.ok() && s < merged->header().sections_size(); ++s) {
      TG_CHECK(VisitRecords(*merged, static_cast<size_t>(s), [](Key, std::string_view) {}).ok());
    }
    for (int s = 0; s < file->header().sections_size(); ++s) {
      const TableSpec& table = tables[file->header().sections(s).table()];
      uint64_t rows = 0;
      const absl::Status status =
          VisitRows(*file, static_cast<size_t>(s), table, [&](Key, std::span<const float> values) {
            TG_CHECK_EQ(values.size(), table.parts(0).dim());
            ++rows;
          });
      if (status.ok()) TG_CHECK_EQ(rows, file->header().sections(s).rows());
    }
  }
  // With a checksum that fits, so that what lies behind it is reached.
  std::string manifest = bytes;
  const uint64_t checksum = StableHash(bytes);
  manifest.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  (void)ParseManifest(manifest, "input");
  (void)ParseManifest(bytes, "input");
  return 0;
}
