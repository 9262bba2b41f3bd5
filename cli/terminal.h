#pragma once
// The one writer of stderr while processes run: their log lines, each behind its process's name, and one
// progress line kept below them (on a terminal), or repeated every few seconds (elsewhere).
// Not thread-safe.

#include <map>
#include <string>
#include <string_view>

#include "common/types.h"

namespace tidegate::cli {

enum class Verbosity {
  kQuiet,    // of the processes' lines only warnings and errors
  kNormal,   // glog's prefix cut to severity and time, and not from everyone why the job has ended
  kVerbose,  // as written
};

// A line as it is shown, or empty where this verbosity leaves it out.
std::string ShownLine(std::string_view line, Verbosity verbosity);

// What a line of severity E or F says; empty for other lines.
std::string_view ErrorText(std::string_view line);

class Terminal {
 public:
  Terminal(Verbosity verbosity, std::string log_directory, bool is_terminal);
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // Bytes that process `name` wrote; whole lines are shown and appended to <log_directory>/<name>.log.
  void Output(const std::string& name, std::string_view bytes);
  void EndOutput(const std::string& name);  // shows a last line without newline
  void Say(std::string_view line);          // our own
  void Progress(const std::string& text, TimeMs now_ms);
  void ClearProgress();

  // The last lines of a process, for the report of its death.
  std::string LastLines(const std::string& name) const;

 private:
  struct Stream {
    std::string rest;
    std::string last;
    int log = -1;
  };
  void Line(const std::string& name, Stream* stream, std::string_view line);
  void Write(std::string_view text);

  Verbosity verbosity_;
  std::string log_directory_;
  bool is_terminal_;
  std::map<std::string, Stream> streams_;
  std::string progress_;
  TimeMs progress_shown_ms_ = 0;
};

}  // namespace tidegate::cli
