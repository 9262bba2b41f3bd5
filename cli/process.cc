#include "cli/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tidegate::cli {
namespace {

constexpr int kExecFailed = 127;

// Between fork and exec: only async-signal-safe calls.
[[noreturn]] void RunChild(char* const* argv, bool keep_stdin, int output, int failure, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kExecFailed);
  if (!keep_stdin) dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  for (int signal : {SIGINT, SIGTERM, SIGPIPE, SIGHUP}) ::signal(signal, SIG_DFL);
  execv(argv[0], argv);
  const int error = errno;
  [[maybe_unused]] const ssize_t n = write(failure, &error, sizeof error);
  _exit(kExecFailed);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(std::string name,
                                                                  const std::vector<std::string>& argv,
                                                                  bool keep_stdin) {
  std::vector<char*> pointers;
  for (const std::string& word : argv) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  int output[2];
  int failure[2];
  if (pipe2(output, O_CLOEXEC) != 0) return absl::InternalError(absl::StrCat("pipe: ", std::strerror(errno)));
  if (pipe2(failure, O_CLOEXEC) != 0) {
    close(output[0]);
    close(output[1]);
    return absl::InternalError(absl::StrCat("pipe: ", std::strerror(errno)));
  }
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) RunChild(pointers.data(), keep_stdin, output[1], failure[1], parent);
  const int fork_error = errno;
  close(output[1]);
  close(failure[1]);
  int error = 0;
  ssize_t n = 0;
  if (pid > 0) {
    do {
      n = read(failure[0], &error, sizeof error);
    } while (n < 0 && errno == EINTR);
  }
  close(failure[0]);
  if (pid < 0 || n == sizeof error) {
    close(output[0]);
    if (pid > 0) waitpid(pid, nullptr, 0);
    return absl::NotFoundError(
        absl::StrCat("cannot start ", argv[0], ": ", std::strerror(pid < 0 ? fork_error : error)));
  }
  fcntl(output[0], F_SETFL, O_NONBLOCK);
  return std::unique_ptr<ChildProcess>(new ChildProcess(std::move(name), pid, output[0]));
}

ChildProcess::~ChildProcess() {
  if (!Ended()) {
    Signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  CloseOutput();
}

void ChildProcess::CloseOutput() {
  if (output_ >= 0) close(output_);
  output_ = -1;
}

bool ChildProcess::Ended() {
  if (ended_) return true;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return false;
  ended_ = true;
  if (WIFSIGNALED(status)) {
    signal_ = WTERMSIG(status);
    exit_status_ = 128 + signal_;
  } else {
    exit_status_ = WEXITSTATUS(status);
  }
  return true;
}

void ChildProcess::Signal(int signal) {
  if (!ended_) kill(pid_, signal);
}

std::string ChildProcess::Ending() const {
  if (signal_ != 0) return absl::StrCat("killed by signal ", signal_, " (", strsignal(signal_), ")");
  return absl::StrCat("exit status ", exit_status_);
}

std::string OwnFolder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
}

}  // namespace tidegate::cli
