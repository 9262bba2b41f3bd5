#pragma once
// An export's tables, for reading without a cluster: answers what LoadedCheckpoint would of the
// checkpoint that it was made from, absent rows included. Thread-safe (const only).

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/export/export_reader.h"
#include "server/table/row_layout.h"

namespace tidegate {

class LoadedExport {
 public:
  static absl::StatusOr<LoadedExport> Load(FileSystem& files, const std::string& directory);

  const ExportSpec& spec() const { return reader_.spec(); }
  const std::string& config_text() const { return reader_.config_text(); }
  // `rows`: [keys.size(), width of the table]. NOT_FOUND: no such table. INVALID_ARGUMENT: a dense key
  // beyond the table, or rows of another length.
  absl::Status Gather(TableId table, std::span<const Key> keys, std::span<float> rows) const;

 private:
  explicit LoadedExport(ExportReader reader) : reader_(std::move(reader)) {}
  void SparseRow(TableId table, Key key, float* row) const;
  void DenseRow(TableId table, Key key, float* row) const;

  ExportReader reader_;
  std::vector<RowLayout> layouts_;
};

}  // namespace tidegate
