// Incremental checkpoints: a chain restores to the bits of its newest cut, whatever was pushed, admitted, evicted and written
// meanwhile; and what does not know what changed is written whole.
#include <catch2/catch.hpp>
#include <ctime>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "common/checkpoint/checkpoint_reader.h"
#include "common/random.h"
#include "common/stable_hash.h"
#include "server/checkpoint/cut_writer.h"
#include "server/checkpoint/restore.h"
#include "tests/fakes/fake_file_system.h"
#include "tests/server/shard/shard_harness.h"

namespace tidegate {
namespace {

constexpr uint32_t kShards = 4;
constexpr size_t kTables = 2;

std::vector<TableSpec> Tables() {
  std::vector<TableSpec> specs = {SparseTable(0, 2, "adagrad { lr: 1 }"), SparseTable(1, 1, "sgd { lr: 1 }")};
  specs[1].mutable_admission()->set_after(3);
  specs[1].mutable_eviction()->set_max_age_clocks(4);
  specs[1].mutable_eviction()->set_sweep_every_clocks(3);
  return specs;
}

std::vector<ShardId> AllShards() {
  std::vector<ShardId> out(kShards);
  std::iota(out.begin(), out.end(), 0);
  return out;
}

// A server that trains on its own and writes checkpoints in between.
class Trainer {
 public:
  Trainer(uint64_t seed, bool synchronous, uint64_t one_key_in)
      : random_(seed), harness_(OptionsOf(synchronous), Tables()), one_key_in_(one_key_in) {
    harness_.Hello(1);
  }

  void Push() {
    TestPush push;
    push.worker = 1;
    push.sequence = push.oldest_unacked = static_cast<Sequence>(clock_) + 1;
    push.clock = clock_;
    for (TableId table = 0; table < kTables; ++table) {
      TestRows rows;
      rows.table = table;
      for (Key key = 0; key < 300; ++key) {
        if (random_.Below(one_key_in_) != 0) continue;
        rows.keys.push_back(key * 7919);
        for (size_t i = 0; i < 2 - table; ++i) rows.values.push_back(static_cast<float>(random_.Unit()));
      }
      push.tables.push_back(rows);
    }
    harness_.Push(push);
    harness_.Tick(1, static_cast<uint64_t>(clock_) + 1, clock_);
    ++clock_;
  }

  void Cut(uint64_t number, uint64_t base) {
    group().ArmCut(number, kNoBound, base);
    if (!group().cut().open()) group().ArmCut(number, clock_ - 1, base);
    REQUIRE(group().cut().IsOpen(number));
  }

  // A checkpoint of the cut that is open, while pushes go on; its digest. `push_one_in`: 0: none.
  uint64_t Write(uint64_t number, uint64_t base, uint64_t push_one_in, std::vector<CheckpointFile>* written = nullptr) {
    Cut(number, base);
    const uint64_t digest = group().Digest();
    CutSource source;
    source.shards = AllShards();
    source.visit = [&](ShardId, const std::function<void(ShardGroup&)>& visit) {
      if (push_one_in > 0 && random_.Below(push_one_in) == 0) Push();
      visit(group());
      return absl::OkStatus();
    };
    source.wait = [] { return false; };
    const std::string folder = Folder(number);
    auto result = WriteCut(files_, folder, number, source);
    REQUIRE(result.ok());
    CheckpointManifest manifest;
    manifest.set_format(base == 0 ? kCheckpointFormat : kIncrementalFormat);
    manifest.set_number(number);
    manifest.set_base(base);
    if (base != 0) manifest.set_base_folder(std::to_string(base));
    manifest.set_shards(kShards);
    for (const TableSpec& table : Tables()) *manifest.add_tables() = table;
    for (const CheckpointFile& file : *result) *manifest.add_files() = file;
    REQUIRE(WriteLinkedManifest(files_, folder, manifest).ok());
    if (written != nullptr) *written = *result;
    return digest;
  }

  uint64_t Restored(uint64_t number) {
    ShardHarness second(OptionsOf(false), Tables());
    const std::vector<TableSpec> tables = Tables();
    const absl::Status status = RestoreShards(files_, Folder(number), tables, AllShards(), kShards,
                                              [&](ShardId shard, TableId table, std::string_view records) {
                                                TableGroup& group = second.group().mutable_table(table);
                                                return group.shard(group.LocalOfShard(shard))
                                                    .LoadRows(std::as_bytes(std::span(records.data(), records.size())));
                                              });
    INFO(status);
    REQUIRE(status.ok());
    return second.group().Digest();
  }

  // Of the files of a checkpoint, how many hold only what changed.
  int Incremental(uint64_t number) {
    int count = 0;
    for (const auto& [name, bytes] : files_.files) {
      if (name.starts_with(Folder(number) + "/shard") && bytes.starts_with("TGSHARD2")) ++count;
    }
    return count;
  }
  ShardGroup& group() { return harness_.group(); }
  ShardHarness& harness() { return harness_; }
  Random& random() { return random_; }

 private:
  static ShardHarness::Options OptionsOf(bool synchronous) {
    ShardHarness::Options options;
    options.synchronous = synchronous;
    options.shards = kShards;
    options.log_touched = true;
    return options;
  }
  static std::string Folder(uint64_t number) { return "ck/" + std::to_string(number); }

  Random random_;
  ShardHarness harness_;
  FakeFileSystem files_;
  const uint64_t one_key_in_;
  Clock clock_ = 0;
};

uint64_t BytesOf(const std::vector<CheckpointFile>& files) {
  uint64_t bytes = 0;
  for (const CheckpointFile& file : files) bytes += file.bytes();
  return bytes;
}

TEST_CASE("random histories: every checkpoint of a chain restores to the bits of its cut") {
  int incremental = 0;
  for (const bool synchronous : {false, true}) {
    for (uint64_t seed = 0; seed < 40; ++seed) {
      INFO("seed " << seed << (synchronous ? ", synchronous" : ""));
      Trainer trainer(seed, synchronous, 3 + seed % 40);
      std::map<uint64_t, uint64_t> digests;
      uint64_t newest = 0;
      for (uint64_t number = 1; number <= 8; ++number) {
        const uint64_t pushes = trainer.random().Below(8);
        for (uint64_t i = 0; i < pushes; ++i) trainer.Push();
        if (number == 1) trainer.Push();
        const uint64_t base = trainer.random().Below(5) == 0 ? 0 : newest;
        if (trainer.random().Below(6) == 0) {  // one that is given up: the next does not know what changed
          trainer.Cut(number, base);
          trainer.group().cut().Drop(number);
          continue;
        }
        digests[number] = trainer.Write(number, base, 1 + trainer.random().Below(12));
        incremental += trainer.Incremental(number);
        newest = number;
      }
      for (const auto& [number, digest] : digests) {
        INFO("checkpoint " << number);
        CHECK(trainer.Restored(number) == digest);
      }
    }
  }
  CHECK(incremental > 500);
}

TEST_CASE("what did not change is not in it") {
  Trainer trainer(1, false, 2);
  for (int i = 0; i < 5; ++i) trainer.Push();
  std::vector<CheckpointFile> full, nothing;
  trainer.Write(1, 0, 0, &full);
  trainer.Write(2, 1, 0, &nothing);
  CHECK(trainer.Incremental(1) == 0);
  CHECK(trainer.Incremental(2) == 4);
  for (const CheckpointFile& file : nothing) CHECK(file.rows() == 0);
  CHECK(BytesOf(nothing) * 4 < BytesOf(full));
  CHECK(trainer.Restored(2) == trainer.group().Digest());
}

TEST_CASE("after a cut that was given up, with another base, or none, the checkpoint is full") {
  Trainer trainer(1, false, 2);
  trainer.Push();
  trainer.Write(1, 0, 0);
  trainer.Push();
  trainer.Cut(2, 1);
  trainer.group().cut().Drop(2);
  trainer.Push();
  trainer.Write(3, 1, 0);
  CHECK(trainer.Incremental(3) == 0);
  trainer.Push();
  trainer.Write(4, 3, 0);
  CHECK(trainer.Incremental(4) == 4);
  trainer.Push();
  trainer.Write(5, 0, 0);
  CHECK(trainer.Incremental(5) == 0);
}

TEST_CASE("a shard that was led elsewhere meanwhile is written whole") {
  Trainer trainer(1, false, 2);
  trainer.Push();
  trainer.Write(1, 0, 0);
  for (TableId table = 0; table < kTables; ++table) trainer.group().mutable_table(table).shard(2).StopTouchLog();
  trainer.Push();
  const uint64_t digest = trainer.Write(2, 1, 3);
  CHECK(trainer.Incremental(2) == 3);
  CHECK(trainer.Restored(2) == digest);
}

// bazel-bin/tests/server/checkpoint/incremental_test "[measure]": docs/performance.md.
TEST_CASE("bytes and time of an incremental checkpoint, 1 % of the rows touched", "[.][measure]") {
  constexpr Key kRows = 1'000'000;
  std::vector<TableSpec> tables = {SparseTable(0, 16, "adagrad { lr: 1 }")};
  ShardHarness::Options options;
  options.shards = 64;
  options.log_touched = true;
  ShardHarness harness(options, tables);
  const auto push = [&](Key begin, Key end, Key step) {
    TestPush push;
    push.tables.push_back({0, {}, {}, {}});
    for (Key key = begin; key < end; key += step) {
      push.tables[0].keys.push_back(Mix64(key));
      push.tables[0].values.insert(push.tables[0].values.end(), 16, 0.5f);
    }
    harness.Push(push);
  };
  for (Key begin = 0; begin < kRows; begin += 10'000) push(begin, begin + 10'000, 1);
  const auto write = [&](uint64_t number, uint64_t base) {
    CutSource source;
    for (ShardId shard = 0; shard < 64; ++shard) source.shards.push_back(shard);
    source.visit = [&](ShardId, const std::function<void(ShardGroup&)>& visit) {
      visit(harness.group());
      return absl::OkStatus();
    };
    source.wait = [] { return false; };
    FakeFileSystem files;
    const std::clock_t started = std::clock();  // CPU time: one thread, no disk
    harness.group().ArmCut(number, kNoBound, base);
    const auto written = WriteCut(files, "ck", number, source);
    REQUIRE(written.ok());
    const double ms = 1000.0 * static_cast<double>(std::clock() - started) / CLOCKS_PER_SEC;
    uint64_t rows = 0;
    for (const CheckpointFile& file : *written) rows += file.rows();
    WARN((base == 0 ? "full: " : "incremental: ") << rows << " rows, " << BytesOf(*written) << " bytes, " << ms << " ms");
  };
  for (int i = 0; i < 3; ++i) {
    const uint64_t number = 2 * static_cast<uint64_t>(i) + 1;
    write(number, 0);
    push(0, kRows, 100);
    write(number + 1, number);
  }
}

}  // namespace
}  // namespace tidegate
