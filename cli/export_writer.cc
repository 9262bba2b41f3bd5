#include "cli/export_writer.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/export/export_reader.h"
#include "common/export/safetensors.h"
#include "common/job_config/job_config.h"
#include "common/stable_hash.h"
#include "common/version.h"
#include "server/checkpoint/loaded_checkpoint.h"
#include "worker/data/text_rows.h"
#include "worker/model/preset.h"
#include "worker/model/table_specs.h"

namespace tidegate::cli {
namespace {

constexpr size_t kChunkRows = 8192;
constexpr size_t kFingerprintBytes = 64 << 10;
constexpr int kVectorFeatures = 8;

// First and last 64 KiB.
uint64_t HashOfEnds(const std::string& path, uint64_t bytes) {
  std::ifstream in(path, std::ios::binary);
  std::string ends(std::min<uint64_t>(bytes, kFingerprintBytes), 0);
  in.read(ends.data(), static_cast<std::streamsize>(ends.size()));
  if (bytes > kFingerprintBytes) {
    std::string last(kFingerprintBytes, 0);
    in.seekg(static_cast<std::streamoff>(bytes - kFingerprintBytes));
    in.read(last.data(), static_cast<std::streamsize>(last.size()));
    ends += last;
  }
  return StableHash(ends);
}

void FingerprintData(const DataConfig& data, DataFingerprint* out) {
  std::string text;
  if (data.format() == DataConfig::GENERATED) {
    text = data.generator().SerializeAsString() + data.train().SerializeAsString();
  }
  for (const std::string& pattern : data.train().files()) {
    auto paths = ExpandFiles({pattern});
    if (!paths.ok()) {
      DataFile* file = out->add_files();
      file->set_path(pattern);
      file->set_missing(true);
      absl::StrAppend(&text, pattern, "\n");
      continue;
    }
    for (const std::string& path : *paths) {
      DataFile* file = out->add_files();
      file->set_path(path);
      const bool regular = std::filesystem::is_regular_file(path);  // not a pipe
      if (regular) file->set_bytes(std::filesystem::file_size(path));
      const std::string name = std::filesystem::path(path).filename().string();
      absl::StrAppend(&text, name, " ", file->bytes(), " ", regular ? HashOfEnds(path, file->bytes()) : 0, "\n");
    }
  }
  out->set_xxh3(StableHash(text));
}

void AddVector(const std::string& salt, const std::string& value, Key key, HashSpec* hash) {
  HashVector* vector = hash->add_vectors();
  vector->set_salt(salt);
  vector->set_value(value);
  vector->set_key(key);
}

// Values of every length class of XXH3, so that a partial implementation is noticed.
void DescribeHash(const JobConfig& job, HashSpec* hash) {
  hash->set_name("XXH3-64");
  hash->set_version("xxhash 0.8");
  int features = 0;
  for (const FeatureConfig& feature : job.feature()) {
    if (!feature.has_table() || ++features > kVectorFeatures) continue;
    const uint64_t salt = SaltOf(feature.salt());
    for (const char* value : {"", "7", "68fd1e64", "a-value-of-16-by"}) AddVector(feature.salt(), value, FeatureKey(salt, value), hash);
    for (const size_t length : {40, 200, 1000}) {
      std::string value;
      for (size_t i = 0; i < length; ++i) value += static_cast<char>('a' + i % 26);
      AddVector(feature.salt(), value, FeatureKey(salt, value), hash);
    }
    AddVector(feature.salt(), std::string("\0missing", 8), MissingKey(salt), hash);
    AddVector(feature.salt(), std::string("\0oov", 4), OutOfVocabularyKey(salt), hash);
  }
}

class Writer {
 public:
  Writer(const LoadedCheckpoint& checkpoint, FileSystem& files) : checkpoint_(checkpoint), files_(files) {}

  absl::StatusOr<SafetensorsWriter::Written> Write(const std::string& path, ExportResult* result) {
    std::vector<TensorInfo> tensors;
    for (const TableSpec& table : checkpoint_.manifest().tables()) {
      keys_.push_back(table.kind() == TableSpec::DENSE ? DenseKeys(table) : checkpoint_.Keys(table.id()));
      if (table.kind() == TableSpec::SPARSE) {
        Declare(KeysTensor(table), "U64", {keys_.back().size()}, {table.id(), -1}, &tensors);
        result->rows += keys_.back().size();
      }
      for (int p = 0; p < table.parts_size(); ++p) {
        std::vector<uint64_t> shape(table.shape().begin(), table.shape().end());
        if (table.kind() == TableSpec::SPARSE) shape = {keys_.back().size(), table.parts(p).dim()};
        Declare(PartTensor(table, table.parts(p)), "F32", shape, {table.id(), p}, &tensors);
      }
    }
    result->tensors = tensors.size();
    auto writer = SafetensorsWriter::Create(files_, path, std::move(tensors), {{"tidegate", kVersion}});
    if (!writer.ok()) return writer.status();
    for (const TensorInfo& tensor : (*writer)->tensors()) {
      const auto [table, part] = sources_.at(tensor.name);
      absl::Status status = part < 0 ? (*writer)->Append(Bytes(keys_[table])) : WritePart(table, part, writer->get());
      if (!status.ok()) return status;
    }
    return (*writer)->Finish();
  }

 private:
  struct Source {
    TableId table;
    int part;  // -1: the keys
  };

  template <typename T>
  static std::string_view Bytes(const std::vector<T>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
  }
  static std::vector<Key> DenseKeys(const TableSpec& table) {
    std::vector<Key> keys(DenseBlocks(table));
    for (size_t k = 0; k < keys.size(); ++k) keys[k] = k;
    return keys;
  }
  void Declare(const std::string& name, const char* dtype, std::vector<uint64_t> shape, Source source,
               std::vector<TensorInfo>* tensors) {
    tensors->push_back({name, dtype, std::move(shape)});
    sources_[name] = source;
  }

  absl::Status WritePart(TableId id, int part, SafetensorsWriter* writer) {
    const TableSpec& table = checkpoint_.manifest().tables(static_cast<int>(id));
    const uint32_t width = RowWidth(table);
    const uint32_t dim = table.parts(part).dim();
    size_t first = 0;
    for (int p = 0; p < part; ++p) first += table.parts(p).dim();
    uint64_t left = table.kind() == TableSpec::DENSE ? DenseElements(table) : keys_[id].size() * dim;
    for (size_t begin = 0; begin < keys_[id].size(); begin += kChunkRows) {
      const size_t rows = std::min(kChunkRows, keys_[id].size() - begin);
      row_values_.resize(rows * width);
      absl::Status status = checkpoint_.Gather(id, std::span(keys_[id]).subspan(begin, rows), row_values_);
      if (!status.ok()) return status;
      part_values_.resize(rows * dim);
      for (size_t r = 0; r < rows; ++r) std::copy_n(row_values_.data() + r * width + first, dim, part_values_.data() + r * dim);
      part_values_.resize(std::min<uint64_t>(part_values_.size(), left));  // the tensor ends within its last block
      left -= part_values_.size();
      if (absl::Status s = writer->Append(Bytes(part_values_)); !s.ok()) return s;
    }
    return absl::OkStatus();
  }

  const LoadedCheckpoint& checkpoint_;
  FileSystem& files_;
  std::vector<std::vector<Key>> keys_;  // [table]
  std::map<std::string, Source> sources_;
  std::vector<float> row_values_, part_values_;
};

absl::StatusOr<ExportSpec> Describe(const CheckpointManifest& manifest, const JobConfig& job) {
  ExportSpec spec;
  spec.set_format(kExportFormat);
  spec.set_version(manifest.version());
  spec.set_job(job.name());
  DescribeHash(job, spec.mutable_hash());
  *spec.mutable_data() = job.data();
  *spec.mutable_features() = job.feature();
  auto model = ExpandPreset(job.model());
  if (!model.ok()) return model.status();
  *spec.mutable_model() = *std::move(model);
  *spec.mutable_tables() = manifest.tables();
  spec.set_clock(manifest.clock());
  spec.set_epoch(manifest.epoch());
  *spec.mutable_metrics() = manifest.metrics();
  FingerprintData(job.data(), spec.mutable_data_fingerprint());
  return spec;
}

}  // namespace

absl::StatusOr<ExportResult> WriteExport(FileSystem& files, const std::string& directory, const std::string& out) {
  auto checkpoint = LoadedCheckpoint::Load(files, directory);
  if (!checkpoint.ok()) return checkpoint.status();
  JobConfig job;
  if (!job.ParseFromString(checkpoint->manifest().job_config())) {
    return absl::DataLossError(directory + "/MANIFEST holds no job config");
  }
  job.clear_cluster();  // how it was trained, not what it is
  auto spec = Describe(checkpoint->manifest(), job);
  if (!spec.ok()) return spec.status();
  if (absl::Status s = files.CreateDirectories(out); !s.ok()) return s;
  if (absl::Status s = files.Remove(JoinPath(out, kExportSpecName)); !s.ok()) return s;
  ExportResult result;
  auto written = Writer(*checkpoint, files).Write(JoinPath(out, kExportTensorsName), &result);
  if (!written.ok()) return written.status();
  result.bytes = written->bytes;
  spec->set_tensors_bytes(written->bytes);
  spec->set_tensors_xxh3(written->xxh3);
  if (absl::Status s = files.WriteAtomically(JoinPath(out, kExportConfigName), JobConfigText(job)); !s.ok()) return s;
  if (absl::Status s = files.WriteAtomically(JoinPath(out, kExportSpecName), ExportSpecJson(*spec)); !s.ok()) return s;
  return result;
}

}  // namespace tidegate::cli
