#pragma once
// Reads an export's folder (docs/formats.md): spec.json, job.textproto, model.safetensors. All of it is
// verified before anything is used: format, size and checksum of the tensors, a tensor of the right
// shape for every table and part, rising keys, finite values. Holds the tensors in memory. Needs no
// server code. Thread-safe once open (const only).

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/export/safetensors.h"
#include "common/file_system.h"
#include "common/types.h"
#include "proto/export.pb.h"

namespace tidegate {

inline constexpr uint32_t kExportFormat = 1;
inline constexpr char kExportSpecName[] = "spec.json";
inline constexpr char kExportTensorsName[] = "model.safetensors";
inline constexpr char kExportConfigName[] = "job.textproto";

// Tensor names.
std::string KeysTensor(const TableSpec& table);                       // "emb.keys"
std::string PartTensor(const TableSpec& table, const PartSpec& part); // "emb.v"; a dense table's is its name

std::string ExportSpecJson(const ExportSpec& spec);
// DATA_LOSS: no spec. FAILED_PRECONDITION: of a newer format.
absl::StatusOr<ExportSpec> ParseExportSpec(const std::string& json, const std::string& name);
// Of the export in `directory`, its tensors unread. NOT_FOUND: no complete export there.
absl::StatusOr<ExportSpec> ReadExportSpec(FileSystem& files, const std::string& directory);

class ExportReader {
 public:
  // NOT_FOUND: no complete export there.
  static absl::StatusOr<ExportReader> Open(FileSystem& files, const std::string& directory);
  // The same from contents; `name` stands in errors.
  static absl::StatusOr<ExportReader> Parse(ExportSpec spec, std::string tensors, const std::string& name);

  const ExportSpec& spec() const { return spec_; }
  const std::string& config_text() const { return config_text_; }
  // Of a sparse table, rising.
  std::span<const Key> keys(TableId table) const { return tables_[table].keys; }
  // Where a key of a sparse table is in keys().
  std::optional<size_t> Find(TableId table, Key key) const;
  // All elements of a part, row by row in the order of keys(); of a dense table its tensor (part 0).
  std::span<const float> values(TableId table, size_t part) const { return tables_[table].parts[part]; }

 private:
  struct Table {
    std::vector<Key> keys;
    std::vector<std::vector<float>> parts;
  };
  absl::Status LoadTable(const SafetensorsFile& file, const TableSpec& spec, Table* table) const;

  ExportSpec spec_;
  std::string config_text_;
  std::vector<Table> tables_;
};

}  // namespace tidegate
