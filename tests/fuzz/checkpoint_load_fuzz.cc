// A checkpoint of one shard from anywhere, with sizes and checksums that fit: it loads into tables or is refused.
// Input: length of the manifest (4 bytes), the manifest, the shard's file.
#include <cstring>
#include <string>

#include "common/checkpoint/manifest.h"
#include "common/logging.h"
#include "common/stable_hash.h"
#include "server/checkpoint/cut_writer.h"
#include "server/checkpoint/loaded_checkpoint.h"
#include "tests/fakes/fake_file_system.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/server/shard/shard_harness.h"

namespace {

constexpr char kFolder[] = "ck";

std::string InputOf(const tidegate::CheckpointManifest& manifest, const std::string& shard) {
  const std::string head = manifest.SerializeAsString();
  const uint32_t length = static_cast<uint32_t>(head.size());
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + head + shard;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tidegate;
  uint32_t length = 0;
  if (size < sizeof(length)) return 0;
  std::memcpy(&length, data, sizeof(length));
  const std::string rest(reinterpret_cast<const char*>(data) + sizeof(length), size - sizeof(length));
  CheckpointManifest manifest;
  if (length > rest.size() || !manifest.ParseFromString(rest.substr(0, length)) || manifest.files_size() == 0) return 0;
  const std::string shard = rest.substr(length);
  CheckpointFile* file = manifest.mutable_files(0);
  file->set_name("shard");
  file->set_bytes(shard.size());
  file->set_xxh3(StableHash(shard));
  FakeFileSystem files;
  TG_CHECK(files.CreateDirectories(kFolder).ok());
  TG_CHECK(files.WriteAtomically("ck/shard", shard).ok());
  TG_CHECK(WriteManifest(files, kFolder, manifest).ok());
  auto loaded = LoadedCheckpoint::Load(files, kFolder);
  if (!loaded.ok()) return 0;
  for (const TableSpec& table : loaded->manifest().tables()) {
    for (Key key : loaded->Keys(table.id())) TG_CHECK(!loaded->Record(table.id(), key).empty());
  }
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  using namespace tidegate;
  std::vector<TableSpec> tables = {SparseTable(0, 3, "adam { lr: .1 }"), SparseTable(1, 1, "ftrl {}")};
  tables[1].mutable_admission()->set_after(2);
  ShardHarness::Options options;
  options.shards = 1;
  ShardHarness harness(options, tables);
  for (float value : {1.0f, -2.0f}) {
    TestPush push;
    push.tables = {{0, {3, 5}, {value, 2, 3, 4, 5, value}, {}}, {1, {7}, {value}, {}}};
    harness.Push(push);
  }
  harness.group().ArmCut(5, kNoBound);
  CutSource source;
  source.shards = {0};
  source.visit = [&](ShardId, const std::function<void(ShardGroup&)>& visit) {
    visit(harness.group());
    return absl::OkStatus();
  };
  source.wait = [] { return false; };
  FakeFileSystem files;
  auto written = WriteCut(files, kFolder, 5, source);
  TG_CHECK(written.ok()) << written.status().ToString();
  CheckpointManifest manifest;
  manifest.set_format(kCheckpointFormat);
  manifest.set_shards(1);
  for (const TableSpec& table : tables) *manifest.add_tables() = table;
  for (const CheckpointFile& file : *written) *manifest.add_files() = file;
  TG_CHECK_EQ(manifest.files_size(), 1);
  return {InputOf(manifest, *files.Read(std::string("ck/") + manifest.files(0).name(), 1 << 20))};
}
