#pragma once
// Files in memory, for tests and the simulation: whole files appear by Commit only, as on a disk whose
// crashes keep what was synced. The next `fail_writes` commits or appends fail. Not thread-safe.

#include <fnmatch.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/file_system.h"

namespace tidegate {

class FakeFileSystem final : public FileSystem {
 public:
  int fail_writes = 0;
  std::map<std::string, std::string> files;  // by path

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    return std::make_unique<File>(this, path);
  }
  absl::StatusOr<std::string> Read(const std::string& path, uint64_t max_bytes) override {
    const auto file = files.find(path);
    if (file == files.end()) return absl::NotFoundError("cannot open " + path);
    if (file->second.size() > max_bytes) return absl::ResourceExhaustedError(path + " is too large");
    return file->second;
  }
  absl::StatusOr<uint64_t> Size(const std::string& path) override {
    const auto file = files.find(path);
    if (file == files.end()) return absl::NotFoundError("cannot stat " + path);
    return file->second.size();
  }
  absl::Status CreateDirectories(const std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<std::string>> List(const std::string& directory) override {
    const std::string prefix = JoinPath(directory, "");
    std::set<std::string> names;
    for (const auto& [path, content] : files) {
      if (path.rfind(prefix, 0) != 0) continue;
      const std::string rest = path.substr(prefix.size());
      names.insert(rest.substr(0, rest.find('/')));
    }
    return std::vector<std::string>(names.begin(), names.end());
  }
  absl::StatusOr<std::vector<std::string>> Glob(const std::string& pattern) override {
    std::vector<std::string> found;
    for (const auto& [path, content] : files) {
      if (fnmatch(pattern.c_str(), path.c_str(), FNM_PATHNAME) == 0) found.push_back(path);
    }
    return found;
  }
  absl::Status Remove(const std::string& path) override {
    files.erase(path);
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<FileLock>> LockDirectory(const std::string& directory) override {
    if (!locked_.insert(directory).second) {
      return absl::FailedPreconditionError(directory + " is in use");
    }
    return std::make_unique<Lock>(this, directory);
  }

 private:
  absl::Status MayWrite(const std::string& path) {
    if (fail_writes <= 0) return absl::OkStatus();
    --fail_writes;
    return absl::ResourceExhaustedError("cannot write " + path + ": no space left");
  }
  struct File final : WritableFile {
    File(FakeFileSystem* fs, std::string at) : system(fs), path(std::move(at)) {}
    absl::Status Append(std::string_view bytes) override {
      content.append(bytes);
      return system->MayWrite(path);
    }
    absl::Status Commit() override {
      if (absl::Status s = system->MayWrite(path); !s.ok()) return s;
      system->files[path] = std::move(content);
      return absl::OkStatus();
    }
    FakeFileSystem* system;
    std::string path;
    std::string content;
  };
  struct Lock final : FileLock {
    Lock(FakeFileSystem* fs, std::string at) : system(fs), directory(std::move(at)) {}
    ~Lock() override { system->locked_.erase(directory); }
    FakeFileSystem* system;
    std::string directory;
  };
  std::set<std::string> locked_;
};

}  // namespace tidegate
