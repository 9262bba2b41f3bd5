#include "cli/terminal.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace tidegate::cli {
namespace {

constexpr TimeMs kPlainProgressMs = 3000;
constexpr size_t kLineLimit = 64 << 10;  // a longer one is cut in pieces
constexpr size_t kLastBytes = 2048;
constexpr std::string_view kClear = "\r\033[K";

bool Digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

struct GlogLine {
  char severity;
  std::string_view time;     // hh:mm:ss
  std::string_view message;  // after "] "
};

// "I20230101 15:04:05.123456  1234 file.cc:12] message", also with a date of four digits.
bool ParseGlog(std::string_view line, GlogLine* out) {
  if (line.size() < 20 || std::string_view("IWEF").find(line[0]) == std::string_view::npos) return false;
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || !Digits(line.substr(1, space - 1))) return false;
  if (line.size() < space + 9 || line[space + 3] != ':' || line[space + 6] != ':') return false;
  const size_t bracket = line.find("] ", space);
  if (bracket == std::string_view::npos) return false;
  *out = {line[0], line.substr(space + 1, 8), line.substr(bracket + 2)};
  return true;
}

// The role stands in front of the line already.
std::string_view WithoutRole(std::string_view message) {
  if (message.empty() || message[0] != '[') return message;
  const size_t end = message.find("] ");
  return end == std::string_view::npos || end > 40 ? message : message.substr(end + 2);
}

// The end of a job is told by everyone who hears of it; here it is said once, by whoever runs them.
bool EchoOfEnd(std::string_view message) {
  for (const std::string_view beginning : {"the job failed: ", "failed: ", "the job was stopped: ", "stopped: "}) {
    if (message.substr(0, beginning.size()) == beginning) return true;
  }
  return false;
}

// "server 1 (server/0) left: the job failed: ..." without why.
std::string_view WithoutEcho(std::string_view message) {
  constexpr std::string_view kLeft = ") left";
  const size_t at = message.find(kLeft);
  if (at == std::string_view::npos || message.substr(at + kLeft.size(), 2) != ": ") return message;
  return EchoOfEnd(message.substr(at + kLeft.size() + 2)) ? message.substr(0, at + kLeft.size()) : message;
}

void WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n <= 0) return;
    text.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace

std::string ShownLine(std::string_view line, Verbosity verbosity) {
  GlogLine glog;
  if (verbosity == Verbosity::kVerbose || line.empty()) return std::string(line);
  if (!ParseGlog(line, &glog)) return std::string(line);
  if (verbosity == Verbosity::kQuiet && glog.severity == 'I') return "";
  const std::string_view message = WithoutEcho(WithoutRole(glog.message));
  if (EchoOfEnd(message)) return "";
  return std::string(1, glog.severity) + " " + std::string(glog.time) + " " + std::string(message);
}

std::string_view ErrorText(std::string_view line) {
  GlogLine glog;
  if (!ParseGlog(line, &glog) || (glog.severity != 'E' && glog.severity != 'F')) return "";
  return WithoutRole(glog.message);
}

Terminal::Terminal(Verbosity verbosity, std::string log_directory, bool is_terminal)
    : verbosity_(verbosity), log_directory_(std::move(log_directory)), is_terminal_(is_terminal) {}

Terminal::~Terminal() {
  ClearProgress();
  for (auto& [name, stream] : streams_) {
    if (stream.log >= 0) close(stream.log);
  }
}

void Terminal::Output(const std::string& name, std::string_view bytes) {
  auto [it, fresh] = streams_.try_emplace(name);
  Stream& stream = it->second;
  if (fresh && !log_directory_.empty()) {
    std::string file = name;
    std::replace(file.begin(), file.end(), '/', '-');
    stream.log = open((log_directory_ + "/" + file + ".log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  }
  if (stream.log >= 0) WriteAll(stream.log, bytes);
  stream.rest += bytes;
  size_t begin = 0;
  for (size_t end; (end = stream.rest.find('\n', begin)) != std::string::npos; begin = end + 1) {
    Line(name, &stream, std::string_view(stream.rest).substr(begin, end - begin));
  }
  stream.rest.erase(0, begin);
  if (stream.rest.size() > kLineLimit) EndOutput(name);
}

void Terminal::EndOutput(const std::string& name) {
  const auto it = streams_.find(name);
  if (it == streams_.end() || it->second.rest.empty()) return;
  Line(name, &it->second, it->second.rest);
  it->second.rest.clear();
}

void Terminal::Line(const std::string& name, Stream* stream, std::string_view line) {
  stream->last += std::string(line) + "\n";
  if (stream->last.size() > kLastBytes) stream->last.erase(0, stream->last.size() - kLastBytes);
  const std::string shown = ShownLine(line, verbosity_);
  if (!shown.empty()) Write(name + std::string(name.size() < 9 ? 9 - name.size() : 0, ' ') + " | " + shown + "\n");
}

void Terminal::Say(std::string_view line) { Write(std::string(line) + "\n"); }

void Terminal::Write(std::string_view text) {
  if (!is_terminal_ || progress_.empty()) return WriteAll(STDERR_FILENO, text);
  WriteAll(STDERR_FILENO, std::string(kClear) + std::string(text) + progress_);
}

void Terminal::Progress(const std::string& text, TimeMs now_ms) {
  if (is_terminal_) {
    progress_ = text;
    WriteAll(STDERR_FILENO, std::string(kClear) + text);
    return;
  }
  if (text == progress_ || (progress_shown_ms_ != 0 && now_ms - progress_shown_ms_ < kPlainProgressMs)) return;
  progress_shown_ms_ = now_ms;
  progress_ = text;
  WriteAll(STDERR_FILENO, text + "\n");
}

void Terminal::ClearProgress() {
  if (is_terminal_ && !progress_.empty()) WriteAll(STDERR_FILENO, kClear);
  progress_.clear();
}

std::string Terminal::LastLines(const std::string& name) const {
  const auto it = streams_.find(name);
  return it == streams_.end() ? "" : it->second.last;
}

}  // namespace tidegate::cli
