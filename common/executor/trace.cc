#include "common/executor/trace.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <mutex>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/file_system.h"
#include "common/json.h"

namespace tidegate {
namespace {

constexpr int kAsync = -1;           // in place of a thread
constexpr size_t kSpansMax = 1 << 20;  // about 40 MiB

struct Span {
  const char* name;
  Clock clock;
  int64_t begin_us;
  int64_t end_us;
  int thread;
};

struct Spans {
  std::mutex mutex;
  std::string process;
  std::vector<Span> all;
};

Spans& Kept() {
  static Spans* const spans = new Spans;
  return *spans;
}

int ThisThread() {
  thread_local const int id = static_cast<int>(syscall(SYS_gettid));
  return id;
}

void AppendAsync(const char* phase, const Span& span, int pid, int64_t at_us, std::string* out) {
  absl::StrAppend(out, ",\n{\"ph\": \"", phase, "\", \"cat\": \"async\", \"name\": ", JsonQuoted(span.name), ", \"pid\": ", pid,
                  ", \"tid\": ", pid, ", \"id\": ", span.clock, ", \"ts\": ", at_us, ", \"args\": {\"clock\": ", span.clock, "}}");
}

}  // namespace

std::atomic<Clock> Trace::end_clock_{0};

void Trace::Start(const std::string& process, uint64_t clocks) {
  {
    std::lock_guard lock(Kept().mutex);
    Kept().process = process;
    Kept().all.clear();
  }
  end_clock_ = static_cast<Clock>(clocks);
}

int64_t Trace::NowUs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

void Trace::Add(const char* name, Clock clock, int64_t begin_us, int64_t end_us) {
  std::lock_guard lock(Kept().mutex);
  if (Kept().all.size() < kSpansMax) Kept().all.push_back({name, clock, begin_us, end_us, ThisThread()});
}

void Trace::AddAsync(const char* name, Clock clock, int64_t begin_us, int64_t end_us) {
  std::lock_guard lock(Kept().mutex);
  if (Kept().all.size() < kSpansMax) Kept().all.push_back({name, clock, begin_us, end_us, kAsync});
}

std::string Trace::Events() {
  std::lock_guard lock(Kept().mutex);
  if (Kept().process.empty()) return "";
  const int pid = getpid();
  std::string out = absl::StrCat("{\"ph\": \"M\", \"name\": \"process_name\", \"pid\": ", pid,
                                 ", \"args\": {\"name\": ", JsonQuoted(Kept().process), "}}");
  for (const Span& span : Kept().all) {
    if (span.thread == kAsync) {
      AppendAsync("b", span, pid, span.begin_us, &out);
      AppendAsync("e", span, pid, span.end_us, &out);
      continue;
    }
    absl::StrAppend(&out, ",\n{\"ph\": \"X\", \"name\": ", JsonQuoted(span.name), ", \"pid\": ", pid, ", \"tid\": ", span.thread,
                    ", \"ts\": ", span.begin_us, ", \"dur\": ", span.end_us - span.begin_us, ", \"args\": {\"clock\": ", span.clock, "}}");
  }
  return out;
}

absl::Status Trace::Write(const std::string& path) {
  return path.empty() ? absl::OkStatus() : RealFileSystem().WriteAtomically(path, Events());
}

}  // namespace tidegate
