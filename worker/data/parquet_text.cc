#include "worker/data/parquet_text.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

extern char** environ;

namespace tidegate {
namespace {

constexpr size_t kErrorBytes = 4096;

ssize_t ReadSome(int fd, char* out, size_t size) {
  for (;;) {
    const ssize_t n = read(fd, out, size);
    if (n >= 0 || errno != EINTR) return n;
  }
}

class ProcessText final : public ByteReader {
 public:
  ProcessText(pid_t pid, int out, int err, std::string path)
      : pid_(pid), out_(out), err_(err), path_(std::move(path)) {}
  ~ProcessText() override {
    close(out_);
    close(err_);
    if (pid_ == 0) return;
    kill(pid_, SIGTERM);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

  absl::StatusOr<size_t> Read(char* out, size_t size) override {
    if (pid_ == 0 || size == 0) return 0;
    const ssize_t n = ReadSome(out_, out, size);
    if (n > 0) return static_cast<size_t>(n);
    if (n < 0) {
      return absl::UnavailableError(absl::StrCat(path_, ": its reader's output cannot be read: ",
                                                 std::strerror(errno)));
    }
    if (absl::Status s = Ended(); !s.ok()) return s;
    return 0;
  }

 private:
  absl::Status Ended() {
    char error[kErrorBytes];
    size_t have = 0;
    for (ssize_t n; have < sizeof(error) && (n = ReadSome(err_, error + have, sizeof(error) - have)) > 0;) {
      have += static_cast<size_t>(n);
    }
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
    std::string_view why(error, have);
    while (!why.empty() && why.back() == '\n') why.remove_suffix(1);
    if (!why.empty()) return absl::InvalidArgumentError(absl::StrCat(path_, ": ", std::string(why)));
    return absl::UnavailableError(absl::StrCat(
        path_, ": tidegate-parquet ended by ", WIFSIGNALED(status) ? "signal " : "exit status ",
        WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)));
  }

  pid_t pid_;  // 0: has been waited for
  const int out_, err_;
  const std::string path_;
};

}  // namespace

absl::StatusOr<std::string> ParquetProgram() {
  const char* set = std::getenv("TIDEGATE_PARQUET");
  std::string program = set == nullptr ? "" : set;
  if (program.empty()) {
    char self[4096];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof(self));
    program.assign(self, n > 0 ? static_cast<size_t>(n) : 0);
    program.resize(program.rfind('/') + 1);
    program += "tidegate-parquet";
  }
  if (access(program.c_str(), X_OK) == 0) return program;
  return absl::FailedPreconditionError(
      absl::StrCat("format PARQUET needs the program tidegate-parquet, and there is no ", program,
                   ": build it as docs/formats.md says, or set TIDEGATE_PARQUET to where it is"));
}

absl::StatusOr<std::unique_ptr<ByteReader>> OpenParquetText(const std::string& program,
                                                            const std::string& path,
                                                            const std::vector<std::string>& columns) {
  int out[2], err[2];
  if (pipe2(out, O_CLOEXEC) != 0) return absl::ResourceExhaustedError(absl::StrCat(path, ": no pipe"));
  if (pipe2(err, O_CLOEXEC) != 0) {
    close(out[0]);
    close(out[1]);
    return absl::ResourceExhaustedError(absl::StrCat(path, ": no pipe"));
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  posix_spawn_file_actions_adddup2(&actions, err[1], 2);
  std::vector<char*> argv = {const_cast<char*>(program.c_str()), const_cast<char*>(path.c_str())};
  for (const std::string& c : columns) argv.push_back(const_cast<char*>(c.c_str()));
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int code = posix_spawn(&pid, program.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  close(err[1]);
  if (code == 0) return std::make_unique<ProcessText>(pid, out[0], err[0], path);
  close(out[0]);
  close(err[0]);
  return absl::UnavailableError(absl::StrCat(program, ": cannot be started: ", std::strerror(code)));
}

}  // namespace tidegate
