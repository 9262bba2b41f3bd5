#pragma once
// A child process whose output comes through a pipe. It dies with this process, and is in a process
// group of its own, so that Ctrl-C in a terminal reaches only us and the end is orderly.
// Not thread-safe; made and used by the main thread (the kernel ties "dies with its parent" to it).

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tidegate::cli {

class ChildProcess {
 public:
  // argv[0] is the binary's path. `name` is for people. Its standard input is empty, or this process's own.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(std::string name, const std::vector<std::string>& argv,
                                                             bool keep_stdin = false);
  ~ChildProcess();  // kills it if it is still there
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  const std::string& name() const { return name_; }
  pid_t pid() const { return pid_; }
  int output() const { return output_; }  // stdout and stderr, non-blocking; -1 once closed
  void CloseOutput();

  // True once it has ended.
  bool Ended();
  void Signal(int signal);
  // Of an ended process: its exit status, or 128 + the signal that ended it.
  int exit_status() const { return exit_status_; }
  bool killed() const { return signal_ != 0; }
  std::string Ending() const;  // "exit status 3", "killed by signal 9 (Killed)"

 private:
  ChildProcess(std::string name, pid_t pid, int output) : name_(std::move(name)), pid_(pid), output_(output) {}

  std::string name_;
  pid_t pid_;
  int output_;
  bool ended_ = false;
  int exit_status_ = 0;
  int signal_ = 0;
};

// The folder of the running binary.
std::string OwnFolder();

}  // namespace tidegate::cli
