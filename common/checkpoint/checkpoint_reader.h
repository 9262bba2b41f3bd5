#pragma once
// Reads a checkpoint's folder: the manifest first, then its files one by one, each verified (size,
// checksum, structure) before anything of it is used. Memory is bounded by the largest file. Needs no
// server code. Not thread-safe.

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/checkpoint/manifest.h"
#include "common/checkpoint/shard_file.h"
#include "common/file_system.h"

namespace tidegate {

class CheckpointReader {
 public:
  // NOT_FOUND: no complete checkpoint there. DATA_LOSS: a file is missing or has another size, a shard is
  // missing or doubled. FAILED_PRECONDITION: a newer format.
  static absl::StatusOr<CheckpointReader> Open(FileSystem& files, const std::string& directory);

  const CheckpointManifest& manifest() const { return manifest_; }
  // The file of manifest().files(index). DATA_LOSS names it.
  absl::StatusOr<ShardFile> Read(int index) const;
  // Every row of every table, file by file.
  absl::Status VisitAllRows(
      const std::function<void(TableId, Key, std::span<const float>)>& visit) const;

 private:
  CheckpointReader(FileSystem& files, std::string directory, CheckpointManifest manifest)
      : files_(&files), directory_(std::move(directory)), manifest_(std::move(manifest)) {}

  FileSystem* files_;
  std::string directory_;
  CheckpointManifest manifest_;
  std::vector<TableSpec> tables_;
};

}  // namespace tidegate
