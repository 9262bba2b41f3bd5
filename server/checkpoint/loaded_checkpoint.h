#pragma once
// A checkpoint's tables in memory, for reading without a cluster (`tidegate evaluate`): answers what a
// server with that state would answer to a pull in mode EVAL, absent rows and lazy decay included.
// Thread-compatible: Gather from one thread at a time.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "proto/checkpoint.pb.h"
#include "server/table/table_group.h"

namespace tidegate {

class LoadedCheckpoint {
 public:
  // Verifies every file before it is used. Errors name the file.
  static absl::StatusOr<LoadedCheckpoint> Load(FileSystem& files, const std::string& directory);

  const CheckpointManifest& manifest() const { return manifest_; }
  // `rows`: [keys.size(), width of the table]. NOT_FOUND: no such table. INVALID_ARGUMENT: a dense key
  // beyond the table, or rows of another length.
  absl::Status Gather(TableId table, std::span<const Key> keys, std::span<float> rows) const;
  uint64_t rows() const;
  // Of a table's rows, rising.
  std::vector<Key> Keys(TableId table) const;
  // The key's record as docs/formats.md has it: of a row or of a key not admitted yet; empty: neither.
  std::string Record(TableId table, Key key) const;

 private:
  CheckpointManifest manifest_;
  std::vector<std::unique_ptr<const RowLayout>> layouts_;
  std::vector<std::unique_ptr<TableGroup>> tables_;
};

}  // namespace tidegate
