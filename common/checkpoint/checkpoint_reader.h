#pragma once
// Reads a checkpoint's folder: the manifest first, then its files one by one, each verified (size,
// checksum, structure) before anything of it is used. One that is incremental is read with all that it builds on, as if it
// were full. Memory is bounded by a few times the largest shard with all its files, its own and those that it builds on. Needs
// no server code. Not thread-safe.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/checkpoint/manifest.h"
#include "common/checkpoint/shard_file.h"
#include "common/file_system.h"

namespace tidegate {

class CheckpointReader {
 public:
  // NOT_FOUND: no complete checkpoint there. DATA_LOSS: a file is missing or has another size, a shard is
  // missing or doubled; the same of one that it builds on, or that one was replaced. FAILED_PRECONDITION: a newer format.
  static absl::StatusOr<CheckpointReader> Open(FileSystem& files, const std::string& directory);

  const CheckpointManifest& manifest() const { return manifest_; }
  // All rows of the shard of manifest().files(index). DATA_LOSS names the file.
  absl::StatusOr<ShardFile> Read(int index) const;
  // Every row of every table, file by file.
  absl::Status VisitAllRows(
      const std::function<void(TableId, Key, std::span<const float>)>& visit) const;

 private:
  CheckpointReader(FileSystem& files, std::string directory, CheckpointManifest manifest)
      : files_(&files), directory_(std::move(directory)), manifest_(std::move(manifest)) {}

  static absl::StatusOr<CheckpointReader> OpenLink(FileSystem& files, const std::string& directory, CheckpointManifest manifest);
  static absl::StatusOr<std::shared_ptr<const CheckpointReader>> OpenBase(FileSystem& files, const std::string& directory,
                                                                          const CheckpointManifest& manifest);
  absl::StatusOr<ShardFile> ReadOwn(int index) const;

  FileSystem* files_;
  std::string directory_;
  CheckpointManifest manifest_;
  std::vector<int> file_of_;  // by shard
  std::shared_ptr<const CheckpointReader> base_;  // null: it holds all rows
  std::vector<TableSpec> tables_;
};

}  // namespace tidegate
