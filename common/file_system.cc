#include "common/file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace tidegate {
namespace {

absl::Status Errno(const char* what, const std::string& path) {
  const int error = errno;
  return absl::ErrnoToStatus(error, absl::StrCat(what, " ", path));
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  bool ok() const { return fd_ >= 0; }

 private:
  int fd_;
};

int OpenRetry(const char* path, int flags, mode_t mode = 0666) {
  int fd;
  do {
    fd = open(path, flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status SyncFolder(const std::string& folder) {
  Descriptor fd(OpenRetry(folder.c_str(), O_RDONLY | O_DIRECTORY));
  if (!fd.ok()) return Errno("cannot open folder", folder);
  // Some file systems do not sync folders (EINVAL): there is nothing more that can be done there.
  if (fsync(fd.get()) != 0 && errno != EINVAL) return Errno("cannot sync folder", folder);
  return absl::OkStatus();
}

absl::Status WriteAll(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return Errno("cannot write", path);
    }
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(int fd, std::string path, std::string temporary)
      : fd_(fd), path_(std::move(path)), temporary_(std::move(temporary)) {}
  ~PosixWritableFile() override {
    if (!committed_) unlink(temporary_.c_str());
  }
  absl::Status Append(std::string_view bytes) override {
    return WriteAll(fd_.get(), bytes, temporary_);
  }
  absl::Status Commit() override {
    if (fsync(fd_.get()) != 0) return Errno("cannot sync", temporary_);
    if (close(fd_.release()) != 0) return Errno("cannot close", temporary_);
    if (rename(temporary_.c_str(), path_.c_str()) != 0) {
      return Errno(absl::StrCat("cannot rename ", temporary_, " to").c_str(), path_);
    }
    committed_ = true;
    return SyncFolder(FolderOf(path_));
  }

 private:
  Descriptor fd_;
  std::string path_;
  std::string temporary_;
  bool committed_ = false;
};

class PosixFileLock final : public FileLock {
 public:
  explicit PosixFileLock(Descriptor fd) : fd_(std::move(fd)) {}

 private:
  Descriptor fd_;  // closing it releases the lock
};

class PosixFileSystem final : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    static std::atomic<uint64_t> counter{0};
    std::string temporary = absl::StrCat(path, ".tmp.", getpid(), ".", counter++);
    const int fd = OpenRetry(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC);
    if (fd < 0) return Errno("cannot create", temporary);
    return std::make_unique<PosixWritableFile>(fd, path, std::move(temporary));
  }

  absl::StatusOr<std::string> Read(const std::string& path, uint64_t max_bytes) override {
    Descriptor fd(OpenRetry(path.c_str(), O_RDONLY));
    if (!fd.ok()) return Errno("cannot open", path);
    std::string content;
    char buffer[1 << 16];
    for (;;) {
      const ssize_t n = read(fd.get(), buffer, sizeof(buffer));
      if (n < 0) {
        if (errno == EINTR) continue;
        return Errno("cannot read", path);
      }
      if (n == 0) return content;
      if (static_cast<uint64_t>(n) > max_bytes - content.size()) {
        return absl::ResourceExhaustedError(
            absl::StrCat(path, " is larger than the ", max_bytes, " bytes that can be expected"));
      }
      content.append(buffer, static_cast<size_t>(n));
    }
  }

  absl::StatusOr<uint64_t> Size(const std::string& path) override {
    struct stat info;
    if (stat(path.c_str(), &info) != 0) return Errno("cannot stat", path);
    if (!S_ISREG(info.st_mode)) {
      return absl::FailedPreconditionError(absl::StrCat(path, " is no regular file"));
    }
    return static_cast<uint64_t>(info.st_size);
  }

  absl::Status CreateDirectories(const std::string& path) override {
    for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
      const std::string folder = path.substr(0, end);
      if (mkdir(folder.c_str(), 0777) == 0) {
        if (absl::Status s = SyncFolder(FolderOf(folder)); !s.ok()) return s;
      } else if (errno != EEXIST && errno != EISDIR) {
        // A parent that exists but cannot be written (EROFS, EACCES) is no error unless it is missing.
        struct stat info;
        const int error = errno;
        if (stat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
          return absl::ErrnoToStatus(error, absl::StrCat("cannot create folder ", folder));
        }
      }
      if (end == std::string::npos) break;
    }
    struct stat info;
    if (stat(path.c_str(), &info) != 0) return Errno("cannot create folder", path);
    if (!S_ISDIR(info.st_mode)) {
      return absl::AlreadyExistsError(absl::StrCat(path, " exists and is no folder"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& directory) override {
    DIR* folder = opendir(directory.c_str());
    if (folder == nullptr) return Errno("cannot list", directory);
    std::vector<std::string> names;
    while (const dirent* entry = readdir(folder)) {
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    closedir(folder);
    std::sort(names.begin(), names.end());
    return names;
  }

  absl::StatusOr<std::vector<std::string>> Glob(const std::string& pattern) override {
    glob_t found = {};
    errno = 0;
    const int rc = glob(pattern.c_str(), GLOB_ERR | GLOB_NOSORT, nullptr, &found);
    const int error = errno;
    std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + (rc == 0 ? found.gl_pathc : 0));
    globfree(&found);
    const bool no_such_folder = rc == GLOB_ABORTED && error == ENOENT;
    errno = error;
    if (rc != 0 && rc != GLOB_NOMATCH && !no_such_folder) return Errno("cannot look for", pattern);
    std::sort(paths.begin(), paths.end());
    return paths;
  }

  absl::Status Remove(const std::string& path) override {
    if (unlink(path.c_str()) != 0 && errno != ENOENT) return Errno("cannot remove", path);
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<FileLock>> LockDirectory(const std::string& directory) override {
    if (absl::Status s = CreateDirectories(directory); !s.ok()) return s;
    const std::string path = JoinPath(directory, "LOCK");
    Descriptor fd(OpenRetry(path.c_str(), O_RDWR | O_CREAT));
    if (!fd.ok()) return Errno("cannot open", path);
    if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return Errno("cannot lock", path);
      char holder[32] = {};
      int64_t pid = 0;
      const ssize_t n = pread(fd.get(), holder, sizeof(holder) - 1, 0);
      const bool known = n > 0 && absl::SimpleAtoi(holder, &pid);
      return absl::FailedPreconditionError(
          absl::StrCat(directory, " is in use by another process",
                       known ? absl::StrCat(" (pid ", pid, ")") : std::string(),
                       ": stop it, or name another folder"));
    }
    const std::string pid = absl::StrCat(getpid(), "\n");
    if (ftruncate(fd.get(), 0) != 0) return Errno("cannot write", path);
    if (absl::Status s = WriteAll(fd.get(), pid, path); !s.ok()) return s;
    return std::make_unique<PosixFileLock>(std::move(fd));
  }
};

}  // namespace

absl::Status FileSystem::WriteAtomically(const std::string& path, std::string_view content) {
  auto file = Create(path);
  if (!file.ok()) return file.status();
  if (absl::Status s = (*file)->Append(content); !s.ok()) return s;
  return (*file)->Commit();
}

absl::Status FileSystem::CheckWritableFile(const std::string& path) {
  if (List(path).ok()) return absl::FailedPreconditionError(absl::StrCat(path, " is a folder"));
  if (Size(path).status().code() == absl::StatusCode::kFailedPrecondition) return Size(path).status();
  auto file = Create(path);
  if (!file.ok()) return file.status();
  return (*file)->Append("?");  // not committed: gone with the object
}

absl::Status FileSystem::CheckWritableFolder(const std::string& path) {
  if (absl::Status s = CreateDirectories(path); !s.ok()) return s;
  return CheckWritableFile(JoinPath(path, "probe"));
}

FileSystem& RealFileSystem() {
  static PosixFileSystem* const system = new PosixFileSystem;
  return *system;
}

std::string JoinPath(std::string_view directory, std::string_view name) {
  if (directory.empty()) return std::string(name);
  const bool slash = directory.back() == '/';
  return absl::StrCat(ToAbsl(directory), slash ? "" : "/", ToAbsl(name));
}

}  // namespace tidegate
