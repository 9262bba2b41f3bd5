// Tables that start from the values of exports.

#include "server/checkpoint/warm_start.h"

#include <bit>
#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/export/export_reader.h"
#include "common/export/warm_start.h"
#include "server/table/shard_table.h"
#include "server/table/value_codec.h"
#include "tests/fakes/fake_file_system.h"

namespace tidegate {
namespace {

using Catch::Matchers::Contains;

constexpr uint32_t kShards = 4;

// A sparse table with parts w (1) and v (2, in `v_type`).
TableSpec Sparse(TableId id, const std::string& name, DataType v_type = FLOAT32) {
  TableSpec spec;
  spec.set_id(id);
  spec.set_name(name);
  for (const auto& [part_name, dim] : {std::pair("w", 1u), std::pair("v", 2u)}) {
    PartSpec* part = spec.add_parts();
    part->set_name(part_name);
    part->set_dim(dim);
    part->mutable_init()->set_constant(0.5f);
    part->mutable_optimizer()->mutable_adagrad()->set_lr(1);
  }
  spec.mutable_parts(1)->set_dtype(v_type);
  return spec;
}

// A tensor of five elements in blocks of two.
TableSpec Dense(TableId id, const std::string& name) {
  TableSpec spec;
  spec.set_id(id);
  spec.set_name(name);
  spec.set_kind(TableSpec::DENSE);
  spec.add_shape(5);
  PartSpec* part = spec.add_parts();
  part->set_name("value");
  part->set_dim(2);
  part->mutable_optimizer()->mutable_sgd()->set_lr(1);
  return spec;
}

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

// Tables "old" (keys 3 and 9) and "bias".
void WriteExport(FakeFileSystem* files, const std::string& folder, float first) {
  auto writer = SafetensorsWriter::Create(
      *files, folder + "/" + kExportTensorsName,
      {{"old.keys", "U64", {2}}, {"old.w", "F32", {2, 1}}, {"old.v", "F32", {2, 2}}, {"bias", "F32", {5}}}, {});
  REQUIRE(writer.ok());
  REQUIRE((*writer)->Append(Bytes<Key>({3, 9})).ok());
  REQUIRE((*writer)->Append(Bytes<float>({first, 2})).ok());
  REQUIRE((*writer)->Append(Bytes<float>({3, 4, 5, 6})).ok());
  REQUIRE((*writer)->Append(Bytes<float>({10, 11, 12, 13, 14})).ok());
  const auto written = (*writer)->Finish();
  REQUIRE(written.ok());
  ExportSpec spec;
  spec.set_format(kExportFormat);
  *spec.add_tables() = Sparse(0, "old");
  *spec.add_tables() = Dense(1, "bias");
  spec.set_tensors_bytes(written->bytes);
  spec.set_tensors_xxh3(written->xxh3);
  files->files[folder + "/" + kExportSpecName] = ExportSpecJson(spec);
  files->files[folder + "/" + kExportConfigName] = "name: \"old\"";
}

InitFrom From(const std::string& folder, bool strict, const std::map<std::string, std::string>& map = {}) {
  InitFrom init;
  init.set_export_(folder);
  init.set_strict(strict);
  for (const auto& [here, there] : map) (*init.mutable_map())[here] = there;
  return init;
}

const std::map<std::string, std::string> kOldEmbedding = {{"emb.w", "old.w"}, {"emb.v", "old.v"}};

// All shards of a job's tables.
class Tables {
 public:
  explicit Tables(std::vector<TableSpec> specs) : specs_(std::move(specs)) {
    for (const TableSpec& spec : specs_) {
      layouts_.push_back(std::make_unique<RowLayout>(*RowLayout::Create(spec)));
      for (ShardId s = 0; s < kShards; ++s) shards_.push_back(std::make_unique<ShardTable>(layouts_.back().get(), s, std::countr_zero(kShards)));
    }
  }

  absl::Status WarmStart(FakeFileSystem* files, const std::vector<InitFrom>& inits, const std::vector<ShardId>& own = {0, 1, 2, 3}) {
    return WarmStartShards(*files, inits, specs_, own, kShards, [this](ShardId shard, TableId table, std::string_view records) {
      return At(table, shard).LoadRows(std::as_bytes(std::span(records.data(), records.size())));
    });
  }

  ShardTable& At(TableId table, ShardId shard) { return *shards_[table * kShards + shard]; }
  uint64_t rows(TableId table) {
    uint64_t rows = 0;
    for (ShardId s = 0; s < kShards; ++s) rows += At(table, s).rows();
    return rows;
  }
  // The values of a part; empty: no such row.
  std::vector<float> Values(TableId table, Key key, size_t part) {
    for (ShardId s = 0; s < kShards; ++s) {
      const ShardTable::RowId row = At(table, s).Find(key);
      if (row == ShardTable::kNoRow) continue;
      const RowLayout::Part& p = layouts_[table]->parts()[part];
      std::vector<float> values(p.dim);
      DecodeValues(At(table, s).RowAt(row) + p.value_offset, p.bfloat16 ? BFLOAT16 : FLOAT32, p.dim, values.data());
      return values;
    }
    return {};
  }

 private:
  std::vector<TableSpec> specs_;
  std::vector<std::unique_ptr<RowLayout>> layouts_;
  std::vector<std::unique_ptr<ShardTable>> shards_;
};

TEST_CASE("rows and tensors start with an export's values, in any type; the rest as initialised") {
  FakeFileSystem files;
  WriteExport(&files, "e", 1);
  const DataType type = GENERATE(FLOAT32, BFLOAT16);
  Tables tables({Dense(0, "bias"), Sparse(1, "emb", type)});
  REQUIRE(tables.WarmStart(&files, {From("e", true, kOldEmbedding)}).ok());
  CHECK(tables.rows(1) == 2);
  CHECK(tables.Values(1, 3, 0) == std::vector<float>{1});
  CHECK(tables.Values(1, 3, 1) == std::vector<float>{3, 4});
  CHECK(tables.Values(1, 9, 1) == std::vector<float>{5, 6});
  CHECK(tables.Values(1, 4, 0).empty());
  CHECK(tables.rows(0) == 3);
  CHECK(tables.Values(0, 0, 0) == std::vector<float>{10, 11});
  CHECK(tables.Values(0, 2, 0)[0] == 14);
}

TEST_CASE("a part that no export has stays as initialised; of several exports the later has the last word") {
  FakeFileSystem files;
  WriteExport(&files, "e", 1);
  WriteExport(&files, "later", 8);
  Tables tables({Sparse(0, "emb")});
  REQUIRE(tables.WarmStart(&files, {From("e", false, {{"emb.w", "old.w"}}), From("later", false, {{"emb.w", "old.w"}})}).ok());
  CHECK(tables.Values(0, 3, 0) == std::vector<float>{8});
  CHECK(tables.Values(0, 3, 1) == std::vector<float>{0.5f, 0.5f});
}

TEST_CASE("a server fills the shards that are its own") {
  FakeFileSystem files;
  WriteExport(&files, "e", 1);
  uint64_t rows = 0;
  for (ShardId own = 0; own < kShards; ++own) {
    Tables tables({Sparse(0, "emb"), Dense(1, "bias")});
    REQUIRE(tables.WarmStart(&files, {From("e", true, kOldEmbedding)}, {own}).ok());
    for (ShardId s = 0; s < kShards; ++s) {
      if (s != own) CHECK(tables.At(0, s).rows() + tables.At(1, s).rows() == 0);
    }
    rows += tables.rows(0) + tables.rows(1);
  }
  CHECK(rows == 5);
}

TEST_CASE("what does not fit is refused by name, and nothing is filled") {
  FakeFileSystem files;
  WriteExport(&files, "e", 1);
  const auto refusal = [&](const InitFrom& init, std::vector<TableSpec> specs) {
    Tables tables(specs);
    const absl::Status status = tables.WarmStart(&files, {init});
    CHECK(!status.ok());
    for (const TableSpec& spec : specs) CHECK(tables.rows(spec.id()) == 0);
    return std::string(status.message());
  };
  CHECK_THAT(refusal(From("e", true), {Sparse(0, "emb")}), Contains("e has no tensor \"emb.v\"") && Contains("strict: false"));
  CHECK_THAT(refusal(From("e", false, {{"emb.x", "old.w"}}), {Sparse(0, "emb")}),
             Contains("the job has no tensor \"emb.x\"; it has emb.v, emb.w"));
  CHECK_THAT(refusal(From("e", false, {{"emb.w", "old.x"}}), {Sparse(0, "emb")}), Contains("no tensor \"old.x\"; it has bias, old.v, old.w"));
  CHECK_THAT(refusal(From("e", false, {{"emb.w", "old.v"}}), {Sparse(0, "emb")}),
             Contains("\"emb.w\" has rows of 1, and \"old.v\" of e has rows of 2"));
  CHECK_THAT(refusal(From("e", false, {{"emb.w", "bias"}}), {Sparse(0, "emb")}), Contains("shape [5]"));
  TableSpec longer = Dense(0, "bias");
  longer.set_shape(0, 6);
  CHECK_THAT(refusal(From("e", false), {longer}), Contains("shape [6]") && Contains("shape [5]"));
  CHECK_THAT(refusal(From("nowhere", true), {Sparse(0, "emb")}), Contains("nowhere is no complete export"));
  files.files[std::string("e/") + kExportTensorsName].back() ^= 1;
  CHECK_THAT(refusal(From("e", true, kOldEmbedding), {Sparse(0, "emb")}), Contains("damaged"));
}

TEST_CASE("a feature that makes other keys than the export's is refused, where strict") {
  ExportSpec spec;
  JobConfig job;
  job.add_table()->set_name("emb");
  job.mutable_table(0)->add_part()->set_name("w");
  for (FeatureConfig* f : {spec.add_features(), job.add_feature()}) {
    f->set_name("user");
    f->set_table("emb");
    f->mutable_id();
  }
  const auto check = [&](bool strict, const std::map<std::string, std::string>& map = {}) {
    return CheckWarmKeys(From("e", strict, map), job, spec);
  };
  CHECK(check(true).ok());
  job.mutable_feature(0)->set_name("person");
  CHECK_THAT(std::string(check(true).message()), Contains("feature \"person\" (salt \"person\")") && Contains("set its salt"));
  CHECK(check(false).ok());
  job.mutable_feature(0)->set_salt("user");
  CHECK(check(true).ok());
  job.mutable_feature(0)->mutable_id()->set_hash_buckets(10);
  CHECK_THAT(std::string(check(true).message()), Contains("hash_buckets 10"));
  spec.mutable_features(0)->mutable_id()->set_hash_buckets(10);
  CHECK(check(true).ok());
  spec.mutable_features(0)->set_table("old");
  CHECK(!check(true).ok());
  CHECK(check(true, {{"emb.w", "old.w"}}).ok());
}

}  // namespace
}  // namespace tidegate
