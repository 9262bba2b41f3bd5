#pragma once
// Spans of this process's work, for a Chrome trace (--profile): steps of workers, requests at servers,
// calls at the scheduler, all by the machine's monotonic clock, so that the traces of processes on one
// machine can be laid over each other. Off, a span costs one load. Thread-safe.

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "common/types.h"

namespace tidegate {

class Trace {
 public:
  // From now on spans of clocks below `clocks` are kept, up to a limit of memory. Once, early in main.
  static void Start(const std::string& process, uint64_t clocks);
  static bool Wants(Clock clock) {
    return clock >= 0 && clock < end_clock_.load(std::memory_order_relaxed);
  }
  static int64_t NowUs();
  // `name` lives as long as the process.
  static void Add(const char* name, Clock clock, int64_t begin_us, int64_t end_us);
  // Of something under way while the thread does other things: it may overlap others of its name.
  static void AddAsync(const char* name, Clock clock, int64_t begin_us, int64_t end_us);
  // Events, with commas between, one a line.
  static std::string Events();
  // Does nothing where there is no `path`.
  static absl::Status Write(const std::string& path);

 private:
  static std::atomic<Clock> end_clock_;
};

// The time from its making to its end.
class TraceSpan {
 public:
  TraceSpan(const char* name, Clock clock) : name_(name), clock_(clock), begin_us_(Trace::Wants(clock) ? Trace::NowUs() : -1) {}
  ~TraceSpan() {
    if (begin_us_ >= 0) Trace::Add(name_, clock_, begin_us_, Trace::NowUs());
  }
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

 private:
  const char* const name_;
  const Clock clock_;
  const int64_t begin_us_;
};

}  // namespace tidegate
