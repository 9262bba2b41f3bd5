#include <catch2/catch.hpp>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "common/checkpoint/checkpoint_reader.h"
#include "common/stable_hash.h"
#include "tests/fakes/fake_file_system.h"

namespace tidegate {
namespace {

template <typename T>
void Append(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// A float32 part of dim 1 and a bfloat16 part of dim 3, with one slot.
std::vector<TableSpec> Tables() {
  TableSpec spec;
  spec.set_id(0);
  spec.set_name("emb");
  PartSpec* w = spec.add_parts();
  w->set_name("w");
  w->set_dim(1);
  PartSpec* v = spec.add_parts();
  v->set_name("v");
  v->set_dim(3);
  v->set_dtype(BFLOAT16);
  return {spec};
}
constexpr uint32_t kRowBytes = 16 + 4 + 8 + 4;

void AppendRow(Key key, float w, uint16_t v, std::string* out) {
  Append(key, out);
  Append<uint32_t>(0, out);
  out->append(16, '\1');  // counters
  Append(w, out);
  for (int i = 0; i < 4; ++i) Append(v, out);  // the last is padding
  Append(-1.0f, out);                          // slot
}

std::string ShardBytes(const std::string& section, uint64_t rows, uint32_t row_bytes = kRowBytes,
                       uint32_t table = 0) {
  ShardFileHeader header;
  header.set_shard(0);
  header.set_shards(1);
  ShardSection* s = header.add_sections();
  s->set_table(table);
  s->set_rows(rows);
  s->set_row_bytes(row_bytes);
  s->set_bytes(section.size());
  return EncodeShardFileHead(header) + section;
}

absl::Status ReadRows(const std::string& bytes, std::vector<std::pair<Key, std::vector<float>>>* out) {
  const std::vector<TableSpec> tables = Tables();
  auto file = ShardFile::Parse(bytes, tables, "shard-0");
  if (!file.ok()) return file.status();
  return VisitRows(*file, 0, tables[0], [&](Key key, std::span<const float> values) {
    out->emplace_back(key, std::vector<float>(values.begin(), values.end()));
  });
}

std::string GoodSection() {
  std::string section;
  AppendRow(7, 1.5f, 0x3f80, &section);
  Append<Key>(8, &section);  // a key not admitted yet
  Append<uint32_t>(1, &section);
  Append<uint32_t>(3, &section);
  AppendRow(9, -2.0f, 0xc000, &section);
  return section;
}

struct Folder {
  FakeFileSystem files;
  CheckpointManifest manifest;
  Folder() {
    const std::string bytes = ShardBytes(GoodSection(), 2);
    files.files["c/s0"] = bytes;
    manifest.set_format(kCheckpointFormat);
    manifest.set_shards(1);
    *manifest.add_tables() = Tables()[0];
    CheckpointFile* file = manifest.add_files();
    file->set_name("s0");
    file->set_bytes(bytes.size());
    file->set_xxh3(StableHash(bytes));
  }
  absl::Status Open() {
    if (absl::Status s = WriteManifest(files, "c", manifest); !s.ok()) return s;
    return CheckpointReader::Open(files, "c").status();
  }
};

}  // namespace

TEST_CASE("rows come out with all parts as float32, without counters and slots") {
  std::vector<std::pair<Key, std::vector<float>>> rows;
  REQUIRE(ReadRows(ShardBytes(GoodSection(), 2), &rows).ok());
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].first == 7);
  CHECK(rows[0].second == std::vector<float>{1.5f, 1, 1, 1});
  CHECK(rows[1].first == 9);
  CHECK(rows[1].second == std::vector<float>{-2, -2, -2, -2});
}

TEST_CASE("a shard file that contradicts itself is refused by name") {
  std::vector<std::pair<Key, std::vector<float>>> rows;
  const std::string section = GoodSection();
  const std::string good = ShardBytes(section, 2);
  std::vector<std::string> bad = {
      "",
      "TGSHARD",
      "TGSHARD3" + good.substr(8),
      good.substr(0, good.size() - 1),
      good + "x",
      ShardBytes(section, 3),
      ShardBytes(section, 2, kRowBytes + 4),
      ShardBytes(section, 2, 16),
      ShardBytes(section, 2, 1u << 30),
      ShardBytes(section, 2, kRowBytes, 1),
      ShardBytes(section.substr(0, section.size() - 1), 2),
      ShardBytes(section + std::string(11, '\0'), 2),
  };
  std::string huge_header = good;
  const uint32_t claimed = 0xfffffff0u;
  std::memcpy(huge_header.data() + 8, &claimed, 4);
  bad.push_back(huge_header);
  std::string not_finite;
  AppendRow(7, std::numeric_limits<float>::infinity(), 0, &not_finite);
  bad.push_back(ShardBytes(not_finite, 1));
  std::string unknown_kind = section;
  unknown_kind[8] = 5;
  bad.push_back(ShardBytes(unknown_kind, 2));
  for (size_t i = 0; i < bad.size(); ++i) {
    INFO(i);
    rows.clear();
    const absl::Status status = ReadRows(bad[i], &rows);
    CHECK(absl::IsDataLoss(status));
    CHECK(std::string(status.message()).find("shard-0") != std::string::npos);
  }
}

TEST_CASE("a manifest round-trips, and a changed or cut one is refused") {
  FakeFileSystem files;
  CHECK(absl::IsNotFound(ReadManifest(files, "c").status()));
  Folder folder;
  folder.manifest.set_clock(-1);
  REQUIRE(WriteManifest(files, "c", folder.manifest).ok());
  auto read = ReadManifest(files, "c");
  REQUIRE(read.ok());
  CHECK(read->SerializeAsString() == folder.manifest.SerializeAsString());
  const std::string bytes = files.files.at("c/MANIFEST");
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    CHECK(absl::IsDataLoss(ParseManifest(bytes.substr(0, cut), "m").status()));
  }
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string flipped = bytes;
    flipped[i] ^= 1;
    CHECK(absl::IsDataLoss(ParseManifest(flipped, "m").status()));
  }
  folder.manifest.set_format(kIncrementalFormat + 1);
  REQUIRE(WriteManifest(files, "c", folder.manifest).ok());
  CHECK(absl::IsFailedPrecondition(ReadManifest(files, "c").status()));
}

TEST_CASE("a folder of checkpoints that is taken for one names the newest in it") {
  FakeFileSystem files;
  Folder folder;
  for (const auto& [name, number] : std::vector<std::pair<std::string, uint64_t>>{{"ck/epoch-00009", 2}, {"ck/clock-7", 3}, {"ck/epoch-00001", 1}}) {
    folder.manifest.set_number(number);
    REQUIRE(WriteManifest(files, name, folder.manifest).ok());
  }
  files.files["ck/epoch-00010/MANIFEST"] = "cut";
  files.files["ck/epoch-00011/shard-0"] = "no manifest yet";
  const std::string message(ReadManifest(files, "ck").status().message());
  CHECK_THAT(message, Catch::EndsWith("no ck/MANIFEST; the newest complete one in it is ck/clock-7"));
  CHECK_THAT(std::string(ReadManifest(files, "ck/epoch-00011").status().message()), Catch::EndsWith("no ck/epoch-00011/MANIFEST"));
}

TEST_CASE("files are verified against the manifest before use") {
  Folder folder;
  REQUIRE(folder.Open().ok());
  auto reader = CheckpointReader::Open(folder.files, "c");
  CHECK(reader->Read(0).ok());
  folder.files.files["c/s0"][30] ^= 1;
  CHECK(absl::IsDataLoss(reader->Read(0).status()));
  folder.files.files["c/s0"].pop_back();
  CHECK(absl::IsDataLoss(folder.Open()));
  folder.files.files.erase("c/s0");
  CHECK(absl::IsDataLoss(folder.Open()));
}

TEST_CASE("a manifest that does not add up is refused") {
  Folder folder;
  SECTION("a shard is missing") { folder.manifest.set_shards(2); }
  SECTION("no power of two") { folder.manifest.set_shards(3); }
  SECTION("a shard twice") { *folder.manifest.add_files() = folder.manifest.files(0); }
  SECTION("a shard that is none") { folder.manifest.mutable_files(0)->set_shard(1); }
  SECTION("a name that leaves the folder") { folder.manifest.mutable_files(0)->set_name("../s0"); }
  SECTION("table ids") { folder.manifest.mutable_tables(0)->set_id(4); }
  CHECK(absl::IsDataLoss(folder.Open()));
}

TEST_CASE("a disk that is full leaves no checkpoint behind") {
  Folder folder;
  folder.files.fail_writes = 1;
  CHECK(absl::IsResourceExhausted(WriteManifest(folder.files, "c", folder.manifest)));
  CHECK(absl::IsNotFound(CheckpointReader::Open(folder.files, "c").status()));
}

}  // namespace tidegate
