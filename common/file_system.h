#pragma once
// The port to files: what state stores and checkpoints need of a disk, so that tests and the simulation
// can give them another one (tests/fakes/fake_file_system.h). Thread-safe.
//
// What WriteAtomically or WritableFile::Commit returned OK for survives a crash of the machine: under
// `path` there is either the old content or the whole new one. Errors name the path.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tidegate {

// A file being written in chunks; it appears under its path only by Commit. Destroyed without Commit,
// nothing is left. Not thread-safe.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  virtual absl::Status Append(std::string_view bytes) = 0;
  virtual absl::Status Commit() = 0;  // sync, rename, sync of the folder; at most once
};

// Held as long as it lives.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) = 0;
  // NOT_FOUND if there is none; RESOURCE_EXHAUSTED if it is larger than max_bytes.
  virtual absl::StatusOr<std::string> Read(const std::string& path, uint64_t max_bytes) = 0;
  virtual absl::StatusOr<uint64_t> Size(const std::string& path) = 0;
  virtual absl::Status CreateDirectories(const std::string& path) = 0;
  // Names (without the folder) of files and folders, sorted.
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& directory) = 0;
  // Files that a shell pattern (*, ?, [..] in any component) matches, sorted; empty if none.
  virtual absl::StatusOr<std::vector<std::string>> Glob(const std::string& pattern) = 0;
  virtual absl::Status Remove(const std::string& path) = 0;  // a file; OK if there is none
  // FAILED_PRECONDITION if another process (or this one) holds it; names the holder's pid if known.
  // Creates the folder if need be.
  virtual absl::StatusOr<std::unique_ptr<FileLock>> LockDirectory(const std::string& directory) = 0;

  absl::Status WriteAtomically(const std::string& path, std::string_view content);
  // Whether it seems that the file, or files in the folder (which is created), can be written: to be
  // asked early about what is written late. Nothing else is left behind.
  absl::Status CheckWritableFile(const std::string& path);
  absl::Status CheckWritableFolder(const std::string& path);
};

// The machine's own; lives as long as the process.
FileSystem& RealFileSystem();

// "dir/name", with one slash.
std::string JoinPath(std::string_view directory, std::string_view name);

}  // namespace tidegate
