#include "common/export/export_reader.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/stable_hash.h"

namespace tidegate {
namespace {

constexpr uint64_t kTextBytesMax = 256 << 20;

template <typename T>
std::vector<T> Elements(const SafetensorsFile::Tensor& tensor) {
  std::vector<T> out(tensor.elements);
  if (!out.empty()) std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
  return out;
}

absl::StatusOr<const SafetensorsFile::Tensor*> Expect(const SafetensorsFile& file, const std::string& tensor,
                                                      const std::string& dtype, const std::vector<uint64_t>& shape) {
  const SafetensorsFile::Tensor* found = file.Find(tensor);
  if (found == nullptr) return absl::DataLossError(absl::StrCat(file.name(), ": no tensor \"", tensor, "\""));
  if (found->info.dtype != dtype || found->info.shape != shape) {
    return absl::DataLossError(absl::StrCat(file.name(), ": tensor \"", tensor, "\" is ", found->info.dtype, " [",
                                            absl::StrJoin(found->info.shape, ", "), "], not ", dtype, " [",
                                            absl::StrJoin(shape, ", "), "]"));
  }
  return found;
}

}  // namespace

std::string KeysTensor(const TableSpec& table) { return table.name() + ".keys"; }
std::string PartTensor(const TableSpec& table, const PartSpec& part) {
  return table.kind() == TableSpec::DENSE ? table.name() : table.name() + "." + part.name();
}

std::string ExportSpecJson(const ExportSpec& spec) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(spec, &json, options);
  return status.ok() ? json : "";
}

absl::StatusOr<ExportSpec> ParseExportSpec(const std::string& json, const std::string& name) {
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;  // of a newer format, which is refused below
  ExportSpec spec;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &spec, options);
  if (!status.ok()) return absl::DataLossError(absl::StrCat(name, " is no export's spec: ", status.ToString()));
  if (spec.format() > kExportFormat) {
    return absl::FailedPreconditionError(absl::StrCat(name, " has format ", spec.format(), " (written by version ",
                                                      spec.version(), "), this version reads ", kExportFormat));
  }
  if (spec.format() != kExportFormat) return absl::DataLossError(absl::StrCat(name, " is no export's spec: no format"));
  return spec;
}

absl::StatusOr<ExportSpec> ReadExportSpec(FileSystem& files, const std::string& directory) {
  const std::string path = JoinPath(directory, kExportSpecName);
  auto json = files.Read(path, kTextBytesMax);
  if (absl::IsNotFound(json.status())) {
    return absl::NotFoundError(absl::StrCat(directory, " is no complete export: no ", path));
  }
  if (!json.ok()) return json.status();
  return ParseExportSpec(*json, path);
}

absl::StatusOr<ExportReader> ExportReader::Open(FileSystem& files, const std::string& directory) {
  auto spec = ReadExportSpec(files, directory);
  if (!spec.ok()) return spec.status();
  auto config = files.Read(JoinPath(directory, kExportConfigName), kTextBytesMax);
  if (!config.ok()) return absl::DataLossError(absl::StrCat("a file of the export is missing: ", config.status().message()));
  const std::string tensors_path = JoinPath(directory, kExportTensorsName);
  auto size = files.Size(tensors_path);
  if (!size.ok()) return absl::DataLossError(absl::StrCat("a file of the export is missing: ", size.status().message()));
  if (*size != spec->tensors_bytes()) {
    return absl::DataLossError(absl::StrCat(tensors_path, " has ", *size, " bytes, its spec says ", spec->tensors_bytes()));
  }
  auto tensors = files.Read(tensors_path, *size);
  if (!tensors.ok()) return tensors.status();
  if (StableHash(*tensors) != spec->tensors_xxh3()) {
    return absl::DataLossError(absl::StrCat(tensors_path, " is damaged: its checksum is not that of its spec"));
  }
  auto reader = Parse(*std::move(spec), *std::move(tensors), tensors_path);
  if (reader.ok()) reader->config_text_ = *std::move(config);
  return reader;
}

absl::StatusOr<ExportReader> ExportReader::Parse(ExportSpec spec, std::string tensors, const std::string& name) {
  auto file = SafetensorsFile::Parse(std::move(tensors), name);
  if (!file.ok()) return file.status();
  ExportReader reader;
  reader.spec_ = std::move(spec);
  for (int t = 0; t < reader.spec_.tables_size(); ++t) {
    const TableSpec& table = reader.spec_.tables(t);
    if (table.id() != static_cast<uint32_t>(t)) return absl::DataLossError(name + ": table ids are not 0, 1, 2, ...");
    Table& loaded = reader.tables_.emplace_back();
    if (absl::Status s = reader.LoadTable(*file, table, &loaded); !s.ok()) return s;
  }
  return reader;
}

std::optional<size_t> ExportReader::Find(TableId table, Key key) const {
  const std::vector<Key>& keys = tables_[table].keys;
  const auto it = std::lower_bound(keys.begin(), keys.end(), key);
  if (it == keys.end() || *it != key) return std::nullopt;
  return static_cast<size_t>(it - keys.begin());
}

absl::Status ExportReader::LoadTable(const SafetensorsFile& file, const TableSpec& spec, Table* table) const {
  const bool dense = spec.kind() == TableSpec::DENSE;
  if (dense && spec.parts_size() != 1) return absl::DataLossError(absl::StrCat(file.name(), ": table \"", spec.name(), "\" needs one part"));
  if (!dense) {
    const SafetensorsFile::Tensor* keys = file.Find(KeysTensor(spec));
    if (keys == nullptr || keys->info.dtype != "U64" || keys->info.shape.size() != 1) {
      return absl::DataLossError(absl::StrCat(file.name(), ": no tensor \"", KeysTensor(spec), "\" of U64 keys"));
    }
    table->keys = Elements<Key>(*keys);
    for (size_t k = 1; k < table->keys.size(); ++k) {
      if (table->keys[k] <= table->keys[k - 1]) {
        return absl::DataLossError(absl::StrCat(file.name(), ": tensor \"", KeysTensor(spec), "\": keys do not rise at ", k));
      }
    }
  }
  for (const PartSpec& part : spec.parts()) {
    const std::vector<uint64_t> shape = dense ? std::vector<uint64_t>(spec.shape().begin(), spec.shape().end())
                                              : std::vector<uint64_t>{table->keys.size(), part.dim()};
    auto tensor = Expect(file, PartTensor(spec, part), "F32", shape);
    if (!tensor.ok()) return tensor.status();
    table->parts.push_back(Elements<float>(**tensor));
    for (const float value : table->parts.back()) {
      if (!std::isfinite(value)) {
        return absl::DataLossError(absl::StrCat(file.name(), ": tensor \"", PartTensor(spec, part), "\" has a value that is not finite"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace tidegate
