#include "scheduler/store/metrics_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/json.h"
#include "scheduler/store/event_file.h"

namespace tidegate {
namespace {

absl::Status ErrnoStatus(const std::string& path, const char* what) {
  return absl::UnavailableError(absl::StrCat(path, ": ", what, ": ", std::strerror(errno)));
}

std::string Number(double value) {
  if (!std::isfinite(value)) return "null";
  char text[32];
  std::snprintf(text, sizeof(text), "%.12g", value);
  return text;
}

std::string Quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out.push_back('\\');
    if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", c);
      out += escape;
    } else {
      out.push_back(c);
    }
  }
  return out + "\"";
}

// Of the file's whole lines.
absl::StatusOr<uint64_t> WholeLines(const std::string& path, int descriptor) {
  off_t end = lseek(descriptor, 0, SEEK_END);
  char buffer[4096];
  while (end > 0) {
    const off_t begin = end > static_cast<off_t>(sizeof(buffer)) ? end - static_cast<off_t>(sizeof(buffer)) : 0;
    const ssize_t n = pread(descriptor, buffer, static_cast<size_t>(end - begin), begin);
    if (n <= 0) return ErrnoStatus(path, "cannot be read");
    for (ssize_t i = n; i > 0; --i) {
      if (buffer[i - 1] == '\n') return static_cast<uint64_t>(begin + i);
    }
    end = begin;
  }
  if (end < 0) return ErrnoStatus(path, "cannot be read");
  return 0;
}

}  // namespace

std::string MetricsLine(double wall_time, const MetricsRecord& record) {
  std::string line = absl::StrCat("{\"kind\": ", Quoted(record.kind), ", \"step\": ", record.step,
                                  ", \"epoch\": ", record.epoch, ", \"samples\": ", record.samples,
                                  ", \"seconds\": ", Number(record.seconds), ", \"wall_time\": ");
  char time[32];
  std::snprintf(time, sizeof(time), "%.3f", wall_time);
  absl::StrAppend(&line, time, ", \"learning_rate_factor\": ", JsonNumber(static_cast<float>(record.learning_rate_factor)),
                  ", \"metrics\": {");
  bool first = true;
  for (const MetricValue& metric : record.values) {
    absl::StrAppend(&line, first ? "" : ", ", Quoted(metric.name()), ": ", Number(metric.value()));
    first = false;
  }
  return line + "}}";
}

absl::StatusOr<std::unique_ptr<MetricsLog>> MetricsLog::Open(const std::string& folder, double wall_time) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return absl::UnavailableError(absl::StrCat(folder, ": cannot be made: ", error.message()));
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  auto log = std::unique_ptr<MetricsLog>(new MetricsLog());
  log->lines_.path = absl::StrCat(folder, "/metrics.jsonl");
  log->events_.path = absl::StrCat(folder, "/events.out.tfevents.", static_cast<int64_t>(wall_time), ".", host,
                                   ".", getpid());
  for (File* file : {&log->lines_, &log->events_}) {
    file->descriptor = open(file->path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file->descriptor < 0) return ErrnoStatus(file->path, "cannot be written");
  }
  auto whole = WholeLines(log->lines_.path, log->lines_.descriptor);
  if (!whole.ok()) return whole.status();
  log->lines_.bytes = *whole;
  if (ftruncate(log->lines_.descriptor, static_cast<off_t>(*whole)) != 0) {
    return ErrnoStatus(log->lines_.path, "cannot be cut to its whole lines");
  }
  if (absl::Status s = Append(EventFileHeader(wall_time), &log->events_); !s.ok()) return s;
  return log;
}

MetricsLog::~MetricsLog() {
  for (const File* file : {&lines_, &events_}) {
    if (file->descriptor >= 0) close(file->descriptor);
  }
}

absl::Status MetricsLog::Append(std::string_view bytes, File* file) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = pwrite(file->descriptor, bytes.data() + done, bytes.size() - done,
                             static_cast<off_t>(file->bytes + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const absl::Status status = ErrnoStatus(file->path, "cannot be written");
      if (ftruncate(file->descriptor, static_cast<off_t>(file->bytes)) != 0) return status;
      return status;
    }
    done += static_cast<size_t>(n);
  }
  file->bytes += bytes.size();
  return absl::OkStatus();
}

absl::Status MetricsLog::Write(double wall_time, const MetricsRecord& record) {
  const absl::Status lines = Append(MetricsLine(wall_time, record) + "\n", &lines_);
  std::vector<MetricValue> values = record.values;
  MetricValue& factor = values.emplace_back();
  factor.set_name("learning_rate_factor");
  factor.set_value(record.learning_rate_factor);
  const absl::Status events = Append(ScalarEvent(wall_time, record.step, values), &events_);
  return lines.ok() ? events : lines;
}

}  // namespace tidegate
