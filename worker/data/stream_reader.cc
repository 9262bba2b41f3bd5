#include "worker/data/stream_reader.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"

namespace tidegate {
namespace {

constexpr int kPollMs = 100;
constexpr int kSilentPollsToTell = 100;

class StreamReader final : public ByteReader {
 public:
  StreamReader(int fd, std::string path, std::shared_ptr<const std::atomic<bool>> cancelled)
      : fd_(fd), path_(std::move(path)), cancelled_(std::move(cancelled)) {}
  ~StreamReader() override { close(fd_); }

  absl::StatusOr<size_t> Read(char* out, size_t size) override {
    for (;;) {
      if (cancelled_->load(std::memory_order_relaxed)) {
        return absl::CancelledError(absl::StrCat("stopped while waiting for ", path_));
      }
      // A pipe that no writer has opened yet has no event; one that all have closed hangs up.
      pollfd wait{fd_, POLLIN, 0};
      const int ready = poll(&wait, 1, kPollMs);
      if (ready == 0 && ++silent_polls_ % kSilentPollsToTell == 0) {
        TG_LOG(INFO) << "waiting for " << path_ << ": " << (any_ ? "no more bytes come yet" : "nobody has written to it yet");
      }
      if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
      silent_polls_ = 0;
      const ssize_t n = read(fd_, out, size);
      if (n > 0) any_ = true;
      if (n >= 0) return static_cast<size_t>(n);
      if (errno == EINTR || errno == EAGAIN) continue;
      return absl::UnavailableError(absl::StrCat(path_, ": cannot be read: ", std::strerror(errno)));
    }
  }

 private:
  const int fd_;
  const std::string path_;
  const std::shared_ptr<const std::atomic<bool>> cancelled_;
  int silent_polls_ = 0;
  bool any_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ByteReader>> OpenStream(
    const std::string& path, std::shared_ptr<const std::atomic<bool>> cancelled) {
  const int fd = path == "-" ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
                             : open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat info;
  if (fd < 0 || fstat(fd, &info) != 0) {
    const std::string message = absl::StrCat(path, ": cannot be opened: ", std::strerror(errno));
    const bool absent = errno == ENOENT;
    if (fd >= 0) close(fd);
    return absent ? absl::NotFoundError(message) : absl::UnavailableError(message);
  }
  auto reader = std::make_unique<StreamReader>(fd, path == "-" ? "standard input" : path, std::move(cancelled));
  if (S_ISDIR(info.st_mode)) return absl::InvalidArgumentError(absl::StrCat(path, ": is a folder"));
  return reader;
}

}  // namespace tidegate
