#include "worker/data/byte_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace tidegate {
namespace {

constexpr size_t kInputBytes = 256 << 10;

absl::Status FromErrno(const std::string& path, const char* doing) {
  const std::string message = absl::StrCat(path, ": cannot ", doing, ": ", std::strerror(errno));
  if (errno == ENOENT) return absl::NotFoundError(message);
  if (errno == EACCES) return absl::PermissionDeniedError(message);
  return absl::UnavailableError(message);
}

class PlainFile final : public ByteReader {
 public:
  PlainFile(int fd, std::string path, uint64_t offset)
      : fd_(fd), path_(std::move(path)), offset_(offset) {}
  ~PlainFile() override { close(fd_); }

  absl::StatusOr<size_t> Read(char* out, size_t size) override {
    for (;;) {
      const ssize_t n = pread(fd_, out, size, static_cast<off_t>(offset_));
      if (n >= 0) {
        offset_ += static_cast<uint64_t>(n);
        return static_cast<size_t>(n);
      }
      if (errno != EINTR) {
        return FromErrno(path_, absl::StrCat("read at byte ", offset_).c_str());
      }
    }
  }

 private:
  const int fd_;
  const std::string path_;
  uint64_t offset_;
};

// What gzip and zstd share: a buffer of compressed bytes and where it stands in the file.
class Inflated : public ByteReader {
 protected:
  Inflated(std::unique_ptr<ByteReader> input, std::string name)
      : name_(std::move(name)), input_(std::move(input)), buffer_(kInputBytes) {}

  // Makes sure that there is input, unless the file has ended. REQUIRES: none is left.
  absl::Status Refill() {
    consumed_before_ += fill_;
    absl::StatusOr<size_t> n = input_->Read(buffer_.data(), buffer_.size());
    if (!n.ok()) return n.status();
    pos_ = 0;
    fill_ = *n;
    ended_ = fill_ == 0;
    return absl::OkStatus();
  }
  bool empty() const { return pos_ == fill_; }
  absl::Status Damaged(const std::string& what) const {
    return absl::DataLossError(
        absl::StrCat(name_, ": ", what, " at compressed byte ", consumed_before_ + pos_));
  }

  const std::string name_;
  std::unique_ptr<ByteReader> input_;
  std::vector<char> buffer_;
  size_t pos_ = 0;
  size_t fill_ = 0;
  uint64_t consumed_before_ = 0;
  bool ended_ = false;
};

class GzipReader final : public Inflated {
 public:
  GzipReader(std::unique_ptr<ByteReader> input, std::string name)
      : Inflated(std::move(input), std::move(name)) {
    ready_ = inflateInit2(&stream_, 16 + MAX_WBITS) == Z_OK;
  }
  ~GzipReader() override {
    if (ready_) inflateEnd(&stream_);
  }

  absl::StatusOr<size_t> Read(char* out, size_t size) override {
    if (!ready_)
      return absl::ResourceExhaustedError(absl::StrCat(name_, ": no memory for inflate"));
    if (size == 0) return 0;
    for (;;) {
      if (empty() && !ended_) {
        if (absl::Status s = Refill(); !s.ok()) return s;
      }
      if (ended_) {
        if (in_member_) return Damaged("the gzip data is cut off");
        return 0;
      }
      if (!in_member_) {
        if (!BeginMember()) continue;
        if (padding_) return Damaged("bytes that are no gzip member follow padding");
      }
      absl::StatusOr<size_t> n = Inflate(out, size);
      if (!n.ok() || *n > 0) return n;
    }
  }

 private:
  // Skips a zero byte of padding after a member: false then.
  bool BeginMember() {
    if (members_ > 0 && buffer_[pos_] == 0) {
      ++pos_;
      padding_ = true;
      return false;
    }
    in_member_ = true;
    return true;
  }

  absl::StatusOr<size_t> Inflate(char* out, size_t size) {
    stream_.next_in = reinterpret_cast<Bytef*>(buffer_.data() + pos_);
    stream_.avail_in = static_cast<uInt>(fill_ - pos_);
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    const uInt room = static_cast<uInt>(std::min<size_t>(size, 1u << 30));
    stream_.avail_out = room;
    const int code = inflate(&stream_, Z_NO_FLUSH);
    pos_ = fill_ - stream_.avail_in;
    const size_t produced = room - stream_.avail_out;
    if (code == Z_STREAM_END) {
      in_member_ = false;
      ++members_;
      inflateReset(&stream_);
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      return Damaged(absl::StrCat("damaged gzip data (",
                                  stream_.msg == nullptr ? zError(code) : stream_.msg, ")"));
    }
    return produced;
  }

  z_stream stream_{};
  bool ready_ = false;
  bool in_member_ = true;  // a file without one is cut off
  bool padding_ = false;
  uint64_t members_ = 0;
};

class DeflateReader final : public Inflated {
 public:
  DeflateReader(std::unique_ptr<ByteReader> input, std::string name)
      : Inflated(std::move(input), std::move(name)) {
    ready_ = inflateInit2(&stream_, -MAX_WBITS) == Z_OK;
  }
  ~DeflateReader() override {
    if (ready_) inflateEnd(&stream_);
  }

  absl::StatusOr<size_t> Read(char* out, size_t size) override {
    if (!ready_)
      return absl::ResourceExhaustedError(absl::StrCat(name_, ": no memory for inflate"));
    while (!done_ && size > 0) {
      if (empty() && !ended_) {
        if (absl::Status s = Refill(); !s.ok()) return s;
      }
      if (ended_) return Damaged("the deflated data is cut off");
      stream_.next_in = reinterpret_cast<Bytef*>(buffer_.data() + pos_);
      stream_.avail_in = static_cast<uInt>(fill_ - pos_);
      stream_.next_out = reinterpret_cast<Bytef*>(out);
      const uInt room = static_cast<uInt>(std::min<size_t>(size, 1u << 30));
      stream_.avail_out = room;
      const int code = inflate(&stream_, Z_NO_FLUSH);
      pos_ = fill_ - stream_.avail_in;
      done_ = code == Z_STREAM_END;
      if (!done_ && code != Z_OK && code != Z_BUF_ERROR) {
        return Damaged(absl::StrCat("damaged deflated data (",
                                    stream_.msg == nullptr ? zError(code) : stream_.msg, ")"));
      }
      if (stream_.avail_out < room) return room - stream_.avail_out;
    }
    return 0;
  }

 private:
  z_stream stream_{};
  bool ready_ = false;
  bool done_ = false;
};

class ZstdReader final : public Inflated {
 public:
  ZstdReader(std::unique_ptr<ByteReader> input, std::string name)
      : Inflated(std::move(input), std::move(name)), stream_(ZSTD_createDStream()) {}
  ~ZstdReader() override { ZSTD_freeDStream(stream_); }

  absl::StatusOr<size_t> Read(char* out, size_t size) override {
    if (stream_ == nullptr) {
      return absl::ResourceExhaustedError(absl::StrCat(name_, ": no memory for zstd"));
    }
    if (size == 0) return 0;
    for (;;) {
      if (empty() && !ended_) {
        if (absl::Status s = Refill(); !s.ok()) return s;
      }
      ZSTD_inBuffer in{buffer_.data(), fill_, pos_};
      ZSTD_outBuffer to{out, size, 0};
      if (ended_ && !in_frame_) return 0;
      const size_t code = ZSTD_decompressStream(stream_, &to, &in);
      const bool moved = in.pos > pos_ || to.pos > 0;
      pos_ = in.pos;
      if (ZSTD_isError(code)) {
        return Damaged(absl::StrCat("damaged zstd data (", ZSTD_getErrorName(code), ")"));
      }
      in_frame_ = code != 0;
      if (to.pos > 0) return to.pos;
      if (ended_ && in_frame_ && !moved) return Damaged("the zstd data is cut off");
    }
  }

 private:
  ZSTD_DStream* const stream_;
  bool in_frame_ = true;  // a file without one is cut off
};

bool EndsWith(const std::string& s, const char* suffix) {
  const size_t n = std::strlen(suffix);
  return s.size() >= n && s.compare(s.size() - n, n, suffix) == 0;
}

Compression ContentOf(const unsigned char* magic, ssize_t n) {
  if (n >= 2 && magic[0] == 0x1f && magic[1] == 0x8b) return Compression::kGzip;
  if (n >= 4 && std::memcmp(magic, "\x28\xb5\x2f\xfd", 4) == 0) return Compression::kZstd;
  return Compression::kNone;
}

const char* NameOf(Compression c) {
  return c == Compression::kGzip ? "gzip" : c == Compression::kZstd ? "zstd" : "plain text";
}

}  // namespace

Compression CompressionOf(const std::string& path) {
  if (EndsWith(path, ".gz")) return Compression::kGzip;
  if (EndsWith(path, ".zst")) return Compression::kZstd;
  return Compression::kNone;
}

absl::StatusOr<std::unique_ptr<ByteReader>> OpenBytes(const std::string& path, uint64_t offset) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FromErrno(path, "open");
  auto file = std::make_unique<PlainFile>(fd, path, offset);
  struct stat info;
  if (fstat(fd, &info) != 0) return FromErrno(path, "stat");
  if (S_ISDIR(info.st_mode)) return absl::InvalidArgumentError(absl::StrCat(path, ": is a folder"));
  return file;
}

absl::StatusOr<std::unique_ptr<ByteReader>> OpenFile(const std::string& path, uint64_t offset) {
  auto file = OpenBytes(path, offset);
  if (!file.ok()) return file;
  const Compression named = CompressionOf(path);
  unsigned char magic[4];
  auto start = OpenBytes(path, 0);
  if (!start.ok()) return start;
  auto read = (*start)->Read(reinterpret_cast<char*>(magic), sizeof(magic));
  if (!read.ok()) return read.status();
  const auto n = static_cast<ssize_t>(*read);
  const Compression content = ContentOf(magic, n);
  if (n > 0 && content != named && !(named == Compression::kZstd && n >= 4)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": the name says ", NameOf(named),
                                                   ", the content looks like ", NameOf(content)));
  }
  if (named != Compression::kNone && offset != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": a compressed file can only be read from its start"));
  }
  if (named == Compression::kGzip) return NewGzipReader(*std::move(file), path);
  if (named == Compression::kZstd) return NewZstdReader(*std::move(file), path);
  return file;
}

absl::StatusOr<uint64_t> FileBytes(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return FromErrno(path, "stat");
  return static_cast<uint64_t>(info.st_size);
}

std::unique_ptr<ByteReader> NewGzipReader(std::unique_ptr<ByteReader> input, std::string name) {
  return std::make_unique<GzipReader>(std::move(input), std::move(name));
}
std::unique_ptr<ByteReader> NewDeflateReader(std::unique_ptr<ByteReader> input, std::string name) {
  return std::make_unique<DeflateReader>(std::move(input), std::move(name));
}
std::unique_ptr<ByteReader> NewZstdReader(std::unique_ptr<ByteReader> input, std::string name) {
  return std::make_unique<ZstdReader>(std::move(input), std::move(name));
}

}  // namespace tidegate
