#pragma once
// The one way to log: TG_LOG(INFO|WARNING|ERROR) << ...; and invariants: TG_CHECK(cond) << ..., which
// stop the process with their values, in every build. glog's own macros stay behind this header
// (tests' CHECK is Catch2's).

#include <ostream>
#include <sstream>
#include <string>

namespace tidegate {

// Call once in main. Logs go to stderr as glog lines; `role` ("server 12") stands in front of each.
void InitLogging(const char* argv0, const std::string& role);

namespace internal {
enum class Severity { INFO, WARNING, ERROR, FATAL };
class LogLine {
 public:
  LogLine(Severity severity, const char* file, int line)
      : severity_(severity), file_(file), line_(line) {}
  ~LogLine();  // FATAL aborts
  std::ostream& stream() { return stream_; }

 private:
  Severity severity_;
  const char* file_;
  int line_;
  std::ostringstream stream_;
};
struct Voidify {
  void operator&(std::ostream&) {}
};
}  // namespace internal
}  // namespace tidegate

#define TG_LOG(severity)                                                                     \
  ::tidegate::internal::LogLine(::tidegate::internal::Severity::severity, __FILE__, __LINE__) \
      .stream()
#define TG_CHECK(condition)                                                  \
  (condition) ? (void)0                                                      \
              : ::tidegate::internal::Voidify() & TG_LOG(FATAL)              \
                                                      << "Check failed: " #condition " "
#define TG_CHECK_EQ(a, b) TG_CHECK((a) == (b)) << (a) << " vs " << (b) << " "
