// Shard files put upon each other, and chains of checkpoints: what is read is what a full one would hold, and a broken link is
// named.
#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/checkpoint/checkpoint_reader.h"
#include "common/checkpoint/shard_merge.h"
#include "common/random.h"
#include "common/stable_hash.h"
#include "tests/fakes/fake_file_system.h"

namespace tidegate {
namespace {

constexpr uint32_t kRowBytes = 20;

std::vector<TableSpec> Tables() {
  TableSpec spec;
  spec.set_name("emb");
  spec.add_parts()->set_dim(1);
  return {spec};
}

using Content = std::map<Key, std::string>;  // records without their keys

template <typename T>
void Append(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}
std::string Row(float value) {
  std::string out;
  Append<uint32_t>(0, &out);
  out.append(16, '\2');
  Append(value, &out);
  return out;
}
std::string Counter(uint32_t samples) {
  std::string out;
  Append<uint32_t>(1, &out);
  Append(samples, &out);
  return out;
}

std::string Bytes(const Content& content, const std::vector<Key>* removed, uint32_t row_bytes = kRowBytes) {
  ShardFileHeader header;
  header.set_shards(1);
  ShardSection* section = header.add_sections();
  section->set_row_bytes(row_bytes);
  std::string records;
  for (const auto& [key, record] : content) {
    Append(key, &records);
    records += record;
    if (record.size() > 8) section->set_rows(section->rows() + 1);
  }
  section->set_bytes(records.size());
  if (removed != nullptr) {
    section->set_removed(removed->size());
    for (const Key key : *removed) Append(key, &records);
  }
  return EncodeShardFileHead(header, removed != nullptr) + records;
}
ShardFile Parsed(const std::string& bytes, const std::string& name) {
  const std::vector<TableSpec> tables = Tables();
  auto file = ShardFile::Parse(bytes, tables, name);
  REQUIRE(file.ok());
  return *std::move(file);
}
Content ContentOf(const ShardFile& file) {
  Content content;
  REQUIRE(VisitRecords(file, 0, [&](Key key, std::string_view record) { content[key] = record.substr(8); }).ok());
  return content;
}

struct Change {
  Content records;
  std::vector<Key> removed;
};
Change RandomChange(Random* random, Content* content) {
  Change change;
  for (Key key = 0; key < 40; ++key) {
    if (random->Below(3) == 0 && content->erase(key) > 0) change.removed.push_back(key);
    if (random->Below(4) != 0) continue;
    (*content)[key] = random->Below(3) == 0 ? Counter(static_cast<uint32_t>(random->Below(9))) : Row(static_cast<float>(random->Unit()));
    change.records[key] = (*content)[key];
  }
  return change;
}

// Checkpoints "ck/1", "ck/2" ...: the first full, each other one builds on the one before.
struct Chain {
  FakeFileSystem files;
  Content content;
  Random random{5};
  uint64_t number = 0;

  void Add() {
    const Change change = RandomChange(&random, &content);
    const bool full = number == 0;
    const std::string bytes = full ? Bytes(content, nullptr) : Bytes(change.records, &change.removed);
    const std::string folder = "ck/" + std::to_string(++number);
    files.files[folder + "/s0"] = bytes;
    CheckpointManifest manifest;
    manifest.set_format(full ? kCheckpointFormat : kIncrementalFormat);
    manifest.set_number(number);
    manifest.set_shards(1);
    *manifest.add_tables() = Tables()[0];
    CheckpointFile* file = manifest.add_files();
    file->set_name("s0");
    file->set_bytes(bytes.size());
    file->set_xxh3(StableHash(bytes));
    if (!full) {
      manifest.set_base(number - 1);
      manifest.set_base_folder(std::to_string(number - 1));
    }
    REQUIRE(WriteLinkedManifest(files, folder, manifest).ok());
  }
  absl::StatusOr<ShardFile> Read(const std::string& folder) {
    auto reader = CheckpointReader::Open(files, folder);
    if (!reader.ok()) return reader.status();
    return reader->Read(0);
  }
  // Rewrites a manifest so that its own checksum fits.
  void Edit(const std::string& folder, const std::function<void(CheckpointManifest*)>& edit) {
    auto manifest = ReadManifest(files, folder);
    REQUIRE(manifest.ok());
    edit(&*manifest);
    REQUIRE(WriteManifest(files, folder, *manifest).ok());
  }
};

TEST_CASE("files put upon each other hold what a full one would") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    INFO("seed " << seed);
    Random random(seed);
    Content content;
    RandomChange(&random, &content);
    ShardFile merged = Parsed(Bytes(content, nullptr), "full");
    for (int step = 0; step < 5; ++step) {
      const Change change = RandomChange(&random, &content);
      const ShardFile later = Parsed(Bytes(change.records, &change.removed), "later");
      CHECK(later.incremental());
      auto next = MergeShardFiles(merged, later, Tables());
      REQUIRE(next.ok());
      merged = *std::move(next);
      CHECK_FALSE(merged.incremental());
      CHECK(ContentOf(merged) == content);
      uint64_t rows = 0;
      for (const auto& [key, record] : content) rows += record.size() > 8 ? 1 : 0;
      CHECK(merged.header().sections(0).rows() == rows);
    }
  }
}

TEST_CASE("files that do not go together, or whose keys do not rise, are refused by name") {
  const ShardFile base = Parsed(Bytes({{1, Row(1)}, {2, Row(2)}}, nullptr), "base-file");
  const std::vector<TableSpec> tables = Tables();
  const auto merged = [&](const std::string& bytes) {
    auto later = ShardFile::Parse(bytes, tables, "later-file");
    return later.ok() ? MergeShardFiles(base, *later, tables).status() : later.status();
  };
  const std::vector<Key> none, unsorted = {5, 3}, twice = {3, 3}, some = {1, 2};
  REQUIRE(merged(Bytes({}, &none)).ok());
  std::string falling = Bytes({{1, Row(1)}, {2, Row(2)}}, &none);
  std::string other_shard = Bytes({}, &none);
  ShardFileHeader header;
  header.set_shards(2);
  header.set_shard(1);
  header.add_sections()->set_row_bytes(kRowBytes);
  const std::string good = Bytes({}, &some);
  const std::vector<std::string> bad = {
      Bytes({}, &unsorted), Bytes({}, &twice), falling.replace(falling.size() - 2 * 32, 1, "\7"),
      Bytes({}, &none, kRowBytes + 4), EncodeShardFileHead(header, true), good.substr(0, good.size() - 1), good + "x",
      "TGSHARD1" + good.substr(8)};
  for (size_t i = 0; i < bad.size(); ++i) {
    INFO(i);
    const absl::Status status = merged(bad[i]);
    CHECK(absl::IsDataLoss(status));
    CHECK_THAT(std::string(status.message()), Catch::Contains("later-file"));
  }
}

TEST_CASE("a chain is read as one full checkpoint, also by a relative folder and where a shard is full in the middle") {
  Chain chain;
  for (int i = 0; i < 4; ++i) {
    chain.Add();
    auto read = chain.Read("ck/" + std::to_string(chain.number));
    REQUIRE(read.ok());
    CHECK(ContentOf(*read) == chain.content);
  }
  const std::string full = Bytes({{3, Row(3)}}, nullptr);
  chain.files.files["ck/4/s0"] = full;
  chain.Edit("ck/4", [&](CheckpointManifest* m) {
    m->mutable_files(0)->set_bytes(full.size());
    m->mutable_files(0)->set_xxh3(StableHash(full));
  });
  auto read = chain.Read("ck/4/");
  REQUIRE(read.ok());
  CHECK(ContentOf(*read) == Content{{3, Row(3)}});
  CheckpointManifest manifest;
  manifest.set_base_folder("a");
  CHECK(*BaseFolder("b", manifest) == "a");
  CHECK(*BaseFolder("/b", manifest) == "/a");
  CHECK(*BaseFolder("x/..", manifest) == "x/../../a");
}

TEST_CASE("a broken link is refused, with the folders that it is between") {
  Chain chain;
  for (int i = 0; i < 3; ++i) chain.Add();
  const auto refused = [&](const std::string& what) {
    const absl::Status status = chain.Read("ck/3").status();
    CHECK(absl::IsDataLoss(status));
    CHECK_THAT(std::string(status.message()), Catch::Contains(what));
  };
  const auto edit = [&](const std::string& folder, const std::function<void(CheckpointManifest*)>& e) { chain.Edit(folder, e); };
  SECTION("a base is gone") {
    chain.files.files.erase("ck/1/MANIFEST");
    refused("ck/2 builds on ck/1");
  }
  SECTION("a base's file is gone") {
    chain.files.files.erase("ck/1/s0");
    refused("ck/1/s0");
  }
  SECTION("a base's file has another size") {
    chain.files.files["ck/1/s0"] += "x";
    refused("ck/1/s0 has");
  }
  SECTION("a base's file has other bytes") {
    chain.files.files["ck/1/s0"].back() ^= 1;
    refused("ck/1/s0 is damaged");
  }
  SECTION("a base is another checkpoint than it was") {
    edit("ck/1", [](CheckpointManifest* m) { m->set_clock(99); });
    refused("its MANIFEST is not the one of checkpoint 1");
  }
  SECTION("the full one at its end is not") {
    edit("ck/3", [](CheckpointManifest* m) {
      m->set_format(kCheckpointFormat);
      m->clear_base();
    });
    refused("ck/3/s0 is damaged: it is incremental");
  }
  SECTION("a name that leaves the folder") {
    edit("ck/3", [](CheckpointManifest* m) { m->set_base_folder("../ck/2"); });
    refused("no name of a folder");
  }
  SECTION("one that builds on itself or on a later one") {
    edit("ck/3", [](CheckpointManifest* m) { m->set_base(3); });
    refused("builds on 3");
  }
  SECTION("a format that does not fit") {
    edit("ck/3", [](CheckpointManifest* m) { m->set_format(kCheckpointFormat); });
    refused("of format 1 builds on 2");
  }
}

TEST_CASE("the manifest of one whose base is gone is not written") {
  Chain chain;
  chain.Add();
  chain.files.files.erase("ck/1/MANIFEST");
  CheckpointManifest manifest;
  manifest.set_format(kIncrementalFormat);
  manifest.set_number(2);
  manifest.set_base(1);
  manifest.set_base_folder("1");
  CHECK_FALSE(WriteLinkedManifest(chain.files, "ck/2", manifest).ok());
  CHECK_FALSE(chain.files.files.contains("ck/2/MANIFEST"));
}

}  // namespace
}  // namespace tidegate
