// A cut that is written and loaded again, into as many shards or into others; damaged and foreign checkpoints.

#include "server/checkpoint/restore.h"

#include <catch2/catch.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "common/checkpoint/checkpoint_reader.h"
#include "common/random.h"
#include "server/checkpoint/cut_writer.h"
#include "tests/fakes/fake_file_system.h"
#include "tests/server/shard/shard_harness.h"

namespace tidegate {
namespace {

constexpr uint32_t kShards = 8;
constexpr Key kKeys = 300;

std::vector<TableSpec> Tables() {
  std::vector<TableSpec> specs = {SparseTable(0, 3, "adam { lr: .1 }"), SparseTable(1, 1, "sgd { lr: 1 }")};
  specs[1].mutable_admission()->set_after(4);
  return specs;
}

void PushRandom(ShardHarness* harness, Random* random, int pushes) {
  for (int i = 0; i < pushes; ++i) {
    TestPush push;
    for (TableId table = 0; table < 2; ++table) {
      TestRows rows;
      rows.table = table;
      for (Key key = 0; key < kKeys; ++key) {
        if (random->Below(6) != 0) continue;
        rows.keys.push_back(key);
        for (uint32_t j = 0; j < (table == 0 ? 3 : 1); ++j) rows.values.push_back(static_cast<float>(random->Unit()));
      }
      push.tables.push_back(rows);
    }
    harness->Push(push);
  }
}

std::vector<ShardId> AllShards(uint32_t shards) {
  std::vector<ShardId> out(shards);
  std::iota(out.begin(), out.end(), 0);
  return out;
}

CutSource SourceOf(ShardHarness* harness) {
  CutSource source;
  source.shards = AllShards(kShards);
  source.visit = [harness](ShardId, const std::function<void(ShardGroup&)>& visit) {
    visit(harness->group());
    return absl::OkStatus();
  };
  source.wait = [] { return false; };
  return source;
}

void WriteCheckpoint(ShardHarness* harness, FakeFileSystem* files) {
  harness->group().ArmCut(5, kNoBound);
  auto written = WriteCut(*files, "ck", 5, SourceOf(harness));
  REQUIRE(written.ok());
  CheckpointManifest manifest;
  manifest.set_format(kCheckpointFormat);
  manifest.set_shards(kShards);
  for (const TableSpec& table : Tables()) *manifest.add_tables() = table;
  for (const CheckpointFile& file : *written) *manifest.add_files() = file;
  REQUIRE(WriteManifest(*files, "ck", manifest).ok());
}

absl::Status Restore(FakeFileSystem* files, ShardHarness* harness, uint32_t shards,
                     const std::vector<ShardId>& own) {
  return RestoreShards(*files, "ck", Tables(), own, shards,
                       [&](ShardId shard, TableId table, std::string_view records) {
                         TableGroup& group = harness->group().mutable_table(table);
                         return group.shard(group.LocalOfShard(shard))
                             .LoadRows(std::as_bytes(std::span(records.data(), records.size())));
                       });
}

ShardHarness::Options Shards(uint32_t shards) {
  ShardHarness::Options options;
  options.shards = shards;
  return options;
}

// What a table holds, whatever its shards: the records of all keys, rising.
std::string Content(ShardHarness* harness, TableId table) {
  std::string out;
  const TableGroup& group = harness->group().table(table);
  for (Key key = 0; key < kKeys; ++key) {
    group.shard(group.LocalOfKey(key)).AppendRows(std::span(&key, 1), &out);
  }
  return out;
}

TEST_CASE("a checkpoint restores into any number of shards, optimizer state and counters included") {
  FakeFileSystem files;
  Random random(3);
  ShardHarness first(Shards(kShards), Tables());
  PushRandom(&first, &random, 8);
  WriteCheckpoint(&first, &files);
  PushRandom(&first, &random, 1);
  ShardHarness reference(Shards(kShards), Tables());
  Random again(3);
  PushRandom(&reference, &again, 8);
  for (uint32_t shards : {1u, 2u, 8u, 32u}) {
    CAPTURE(shards);
    ShardHarness second(Shards(shards), Tables());
    REQUIRE(Restore(&files, &second, shards, AllShards(shards)).ok());
    for (TableId table : {0u, 1u}) CHECK(Content(&second, table) == Content(&reference, table));
    // It learns on as if nothing had happened.
    Random a(9), b(9);
    ShardHarness undisturbed(Shards(kShards), Tables());
    Random from_start(3);
    PushRandom(&undisturbed, &from_start, 8);
    PushRandom(&undisturbed, &a, 3);
    PushRandom(&second, &b, 3);
    for (TableId table : {0u, 1u}) CHECK(Content(&second, table) == Content(&undisturbed, table));
  }
}

TEST_CASE("a server loads the shards that are its own, and reads no other file") {
  FakeFileSystem files;
  Random random(4);
  ShardHarness first(Shards(kShards), Tables());
  PushRandom(&first, &random, 5);
  WriteCheckpoint(&first, &files);
  files.files["ck/shard-00007.tgs"][20] ^= 1;
  ShardHarness::Options half = Shards(4);
  half.foreign_from = 3;
  ShardHarness second(half, Tables());
  REQUIRE(Restore(&files, &second, 4, {0, 1, 2}).ok());
  uint64_t rows = 0;
  for (ShardId shard = 0; shard < 6; ++shard) rows += first.group().table(0).shard(shard).rows();
  CHECK(second.group().table(0).rows() == rows);
}

TEST_CASE("a damaged, incomplete or foreign checkpoint is refused by name") {
  FakeFileSystem files;
  Random random(5);
  ShardHarness first(Shards(kShards), Tables());
  PushRandom(&first, &random, 5);
  WriteCheckpoint(&first, &files);
  const auto refusal = [&](FakeFileSystem damaged, absl::StatusCode code) {
    ShardHarness second(Shards(kShards), Tables());
    const absl::Status status = Restore(&damaged, &second, kShards, AllShards(kShards));
    CHECK(status.code() == code);
    return std::string(status.message());
  };
  const std::string shard = "ck/shard-00003.tgs";
  for (size_t at : {size_t{0}, size_t{30}, files.files[shard].size() - 1}) {
    FakeFileSystem flipped = files;
    flipped.files[shard][at] ^= 4;
    CHECK(refusal(flipped, absl::StatusCode::kDataLoss).find(shard) != std::string::npos);
  }
  FakeFileSystem cut = files;
  cut.files[shard].pop_back();
  CHECK(refusal(cut, absl::StatusCode::kDataLoss).find(shard) != std::string::npos);
  FakeFileSystem missing = files;
  missing.files.erase(shard);
  CHECK(refusal(missing, absl::StatusCode::kDataLoss).find(shard) != std::string::npos);
  FakeFileSystem none = files;
  none.files.erase("ck/MANIFEST");
  refusal(none, absl::StatusCode::kNotFound);
  CheckpointManifest other = *ReadManifest(files, "ck");
  other.mutable_tables(0)->set_name("another");
  FakeFileSystem foreign = files;
  REQUIRE(WriteManifest(foreign, "ck", other).ok());
  CHECK(refusal(foreign, absl::StatusCode::kFailedPrecondition).find("other tables") != std::string::npos);
}

TEST_CASE("a full disk gives the checkpoint up, and says which file") {
  FakeFileSystem files;
  Random random(6);
  ShardHarness harness(Shards(kShards), Tables());
  PushRandom(&harness, &random, 3);
  harness.group().ArmCut(5, kNoBound);
  files.fail_writes = 1;
  const auto written = WriteCut(files, "ck", 5, SourceOf(&harness));
  CHECK(written.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(written.status().message().find("shard-00000.tgs") != absl::string_view::npos);
}

TEST_CASE("a writer whose cut does not come, or whose cut another took, ends with a reason") {
  FakeFileSystem files;
  ShardHarness harness(Shards(kShards), Tables());
  harness.Hello(1);
  harness.group().ArmCut(5, 100);
  CHECK(WriteCut(files, "ck", 5, SourceOf(&harness)).status().code() == absl::StatusCode::kCancelled);
  harness.group().ArmCut(6, 100);
  CHECK(WriteCut(files, "ck", 5, SourceOf(&harness)).status().code() == absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace tidegate
