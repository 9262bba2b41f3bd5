#include <catch2/catch.hpp>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "common/export/export_reader.h"
#include "common/export/safetensors.h"
#include "common/stable_hash.h"
#include "tests/fakes/fake_file_system.h"

namespace tidegate {
namespace {

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

std::string WithHeader(const std::string& header, const std::string& data) {
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof(size)) + header + data;
}

std::string ParseError(const std::string& bytes) {
  auto file = SafetensorsFile::Parse(bytes, "f");
  CHECK(absl::IsDataLoss(file.status()));
  return std::string(file.status().message());
}

// A sparse table of two rows with parts of dim 1 and 2, and a dense tensor [3].
ExportSpec Spec() {
  ExportSpec spec;
  spec.set_format(kExportFormat);
  TableSpec* sparse = spec.add_tables();
  sparse->set_id(0);
  sparse->set_name("emb");
  for (const auto& [name, dim] : {std::pair("w", 1), std::pair("v", 2)}) {
    PartSpec* part = sparse->add_parts();
    part->set_name(name);
    part->set_dim(static_cast<uint32_t>(dim));
  }
  TableSpec* dense = spec.add_tables();
  dense->set_id(1);
  dense->set_name("z/b");
  dense->set_kind(TableSpec::DENSE);
  dense->add_shape(3);
  dense->add_parts()->set_name("value");
  dense->mutable_parts(0)->set_dim(2);
  return spec;
}

struct Tensors {
  std::vector<Key> keys = {3, 9};
  std::vector<float> w = {1, 2};
  std::vector<uint64_t> w_shape = {2, 1};
  std::vector<float> v = {3, 4, 5, 6};
  std::vector<float> b = {7, 8, 9};

  // The file and what its spec says of it.
  std::string Write(ExportSpec* spec) const {
    FakeFileSystem files;
    auto writer = SafetensorsWriter::Create(
        files, "t", {{"emb.w", "F32", w_shape}, {"emb.v", "F32", {2, 2}}, {"emb.keys", "U64", {keys.size()}}, {"z/b", "F32", {3}}},
        {{"made_by", "a \"test\""}});
    REQUIRE(writer.ok());
    CHECK((*writer)->tensors()[0].name == "emb.keys");  // 8-byte elements first
    for (const std::string& bytes : {Bytes(keys), Bytes(w), Bytes(v), Bytes(b)}) REQUIRE((*writer)->Append(bytes).ok());
    auto written = (*writer)->Finish();
    REQUIRE(written.ok());
    spec->set_tensors_bytes(written->bytes);
    spec->set_tensors_xxh3(written->xxh3);
    return files.files["t"];
  }
};

std::string ReadError(const Tensors& tensors) {
  ExportSpec spec = Spec();
  const std::string bytes = tensors.Write(&spec);
  auto reader = ExportReader::Parse(spec, bytes, "f");
  CHECK(absl::IsDataLoss(reader.status()));
  return std::string(reader.status().message());
}

using Catch::Matchers::Contains;

TEST_CASE("what is written is read back, aligned and with a checksum") {
  ExportSpec spec;
  const std::string bytes = Tensors().Write(&spec);
  CHECK(spec.tensors_bytes() == bytes.size());
  CHECK(spec.tensors_xxh3() == StableHash(bytes));
  auto file = SafetensorsFile::Parse(bytes, "f");
  REQUIRE(file.ok());
  CHECK(file->tensors().size() == 4);
  CHECK(file->Find("emb.keys")->bytes == Bytes(Tensors().keys));
  CHECK(file->Find("emb.v")->bytes == Bytes(Tensors().v));
  CHECK(file->Find("emb.v")->info.shape == std::vector<uint64_t>{2, 2});
  CHECK(file->Find("none") == nullptr);
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof(header));
  CHECK(header % 8 == 0);
}

TEST_CASE("a writer takes exactly what was declared") {
  FakeFileSystem files;
  auto writer = SafetensorsWriter::Create(files, "t", {{"a", "F32", {2}}}, {});
  REQUIRE(writer.ok());
  REQUIRE((*writer)->Append("1234").ok());
  CHECK(absl::IsFailedPrecondition((*writer)->Finish().status()));
  CHECK(files.files.empty());
  CHECK(absl::IsInvalidArgument(SafetensorsWriter::Create(files, "t", {{"a", "F99", {2}}}, {}).status()));
  CHECK(absl::IsInvalidArgument(SafetensorsWriter::Create(files, "t", {{"a", "F32", {2}}, {"a", "F32", {2}}}, {}).status()));
}

TEST_CASE("a file that lies about itself is refused") {
  CHECK_THAT(ParseError("1234"), Contains("only 4 bytes"));
  CHECK_THAT(ParseError(WithHeader("{}", "").substr(0, 9)), Contains("truncated"));
  CHECK_THAT(ParseError(std::string(8, '\xff') + "{}"), Contains("truncated"));
  CHECK_THAT(ParseError(WithHeader("[1]", "")), Contains("no JSON object"));
  const auto tensor = [](const std::string& fields) { return ParseError(WithHeader("{\"a\":{" + fields + "}}", "12345678")); };
  CHECK_THAT(ParseError(WithHeader("{\"a\":1}", "")), Contains("\"a\": no object"));
  CHECK_THAT(tensor(R"("dtype":"F33","shape":[2],"data_offsets":[0,8])"), Contains("F33"));
  CHECK_THAT(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,9])"), Contains("bytes 0 to 9 of 8"));
  CHECK_THAT(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), Contains("bytes 8 to 0"));
  CHECK_THAT(tensor(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), Contains("3 elements in 8 bytes"));
  CHECK_THAT(tensor(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), Contains("no list of sizes"));
  CHECK_THAT(tensor(R"("dtype":"F32","shape":[1.5],"data_offsets":[0,8])"), Contains("no list of sizes"));
  CHECK_THAT(tensor(R"("dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8])"), Contains("too large"));
  CHECK_THAT(tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0])"), Contains("data_offsets"));
}

TEST_CASE("an export's tables are read whole") {
  ExportSpec spec = Spec();
  const std::string bytes = Tensors().Write(&spec);
  auto reader = ExportReader::Parse(spec, bytes, "f");
  REQUIRE(reader.ok());
  CHECK(std::vector<Key>(reader->keys(0).begin(), reader->keys(0).end()) == std::vector<Key>{3, 9});
  CHECK(std::vector<float>(reader->values(0, 1).begin(), reader->values(0, 1).end()) == std::vector<float>{3, 4, 5, 6});
  CHECK(std::vector<float>(reader->values(1, 0).begin(), reader->values(1, 0).end()) == std::vector<float>{7, 8, 9});
}

TEST_CASE("tensors that do not fit the spec are refused by name") {
  Tensors tensors;
  tensors.keys = {9, 3};
  CHECK_THAT(ReadError(tensors), Contains("\"emb.keys\": keys do not rise"));
  tensors = Tensors();
  tensors.w_shape = {1, 2};
  CHECK_THAT(ReadError(tensors), Contains("\"emb.w\" is F32 [1, 2], not F32 [2, 1]"));
  tensors = Tensors();
  tensors.b[1] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THAT(ReadError(tensors), Contains("\"z/b\" has a value that is not finite"));
}

TEST_CASE("a folder is opened only when it is complete, and its checksums hold") {
  FakeFileSystem files;
  CHECK(absl::IsNotFound(ExportReader::Open(files, "e").status()));
  ExportSpec spec = Spec();
  files.files["e/model.safetensors"] = Tensors().Write(&spec);
  files.files["e/job.textproto"] = "name: \"j\"";
  files.files["e/spec.json"] = ExportSpecJson(spec);
  auto reader = ExportReader::Open(files, "e");
  REQUIRE(reader.ok());
  CHECK(reader->config_text() == "name: \"j\"");
  CHECK(ExportSpecJson(reader->spec()) == ExportSpecJson(spec));
  files.files["e/model.safetensors"].back() ^= 1;
  CHECK_THAT(std::string(ExportReader::Open(files, "e").status().message()), Contains("damaged"));
  files.files["e/model.safetensors"].pop_back();
  CHECK_THAT(std::string(ExportReader::Open(files, "e").status().message()), Contains("bytes"));
  spec.set_format(kExportFormat + 1);
  files.files["e/spec.json"] = ExportSpecJson(spec);
  CHECK(absl::IsFailedPrecondition(ExportReader::Open(files, "e").status()));
  files.files["e/spec.json"] = "{}";
  CHECK(absl::IsDataLoss(ExportReader::Open(files, "e").status()));
}

}  // namespace
}  // namespace tidegate
