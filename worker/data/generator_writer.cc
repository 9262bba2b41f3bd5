#include "worker/data/generator_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/data/byte_reader.h"
#include "worker/data/schema.h"

namespace tidegate {
namespace {

constexpr size_t kFlushBytes = 1 << 20;
constexpr uint64_t kProgressRows = 65536;

// A file, perhaps compressed. Errors stay until Close() reports them.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual bool Write(const std::string& bytes) = 0;
  virtual bool Close() = 0;
};

class PlainSink final : public Sink {
 public:
  explicit PlainSink(FILE* file) : file_(file) {}
  ~PlainSink() override {
    if (file_ != nullptr) fclose(file_);
  }
  bool Write(const std::string& bytes) override {
    return fwrite(bytes.data(), 1, bytes.size(), file_) == bytes.size();
  }
  bool Close() override {
    const bool synced = fflush(file_) == 0 && fsync(fileno(file_)) == 0;
    const bool closed = fclose(std::exchange(file_, nullptr)) == 0;
    return synced && closed;
  }

 private:
  FILE* file_;
};

class GzipSink final : public Sink {
 public:
  explicit GzipSink(std::unique_ptr<Sink> out) : out_(std::move(out)) {
    ready_ = deflateInit2(&stream_, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK;
  }
  ~GzipSink() override {
    if (ready_) deflateEnd(&stream_);
  }
  bool Write(const std::string& bytes) override { return Deflate(bytes, Z_NO_FLUSH); }
  bool Close() override { return Deflate("", Z_FINISH) && out_->Close(); }

 private:
  bool Deflate(const std::string& bytes, int flush) {
    if (!ready_) return false;
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream_.avail_in = static_cast<uInt>(bytes.size());
    do {
      buffer_.resize(kFlushBytes);
      stream_.next_out = reinterpret_cast<Bytef*>(buffer_.data());
      stream_.avail_out = static_cast<uInt>(buffer_.size());
      if (deflate(&stream_, flush) == Z_STREAM_ERROR) return false;
      const bool full = stream_.avail_out == 0;
      buffer_.resize(buffer_.size() - stream_.avail_out);
      if (!out_->Write(buffer_)) return false;
      if (!full) return true;
    } while (true);
  }

  const std::unique_ptr<Sink> out_;
  z_stream stream_{};
  bool ready_ = false;
  std::string buffer_;
};

class ZstdSink final : public Sink {
 public:
  explicit ZstdSink(std::unique_ptr<Sink> out) : out_(std::move(out)), stream_(ZSTD_createCCtx()) {}
  ~ZstdSink() override { ZSTD_freeCCtx(stream_); }
  bool Write(const std::string& bytes) override { return Compress(bytes, ZSTD_e_continue); }
  bool Close() override { return Compress("", ZSTD_e_end) && out_->Close(); }

 private:
  bool Compress(const std::string& bytes, ZSTD_EndDirective directive) {
    if (stream_ == nullptr) return false;
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    for (;;) {
      buffer_.resize(kFlushBytes);
      ZSTD_outBuffer out{buffer_.data(), buffer_.size(), 0};
      const size_t left = ZSTD_compressStream2(stream_, &out, &in, directive);
      if (ZSTD_isError(left)) return false;
      buffer_.resize(out.pos);
      if (!out_->Write(buffer_)) return false;
      if (directive == ZSTD_e_end ? left == 0 : in.pos == in.size) return true;
    }
  }

  const std::unique_ptr<Sink> out_;
  ZSTD_CCtx* const stream_;
  std::string buffer_;
};

void Append(uint64_t x, std::string* out) {
  char text[24];
  const auto [end, error] = std::to_chars(text, text + sizeof(text), x);
  out->append(text, static_cast<size_t>(end - text));
}

void AppendCriteo(const GeneratedRow& row, std::string* out) {
  *out += row.label ? '1' : '0';
  for (uint32_t j = 0; j < kCriteoNumeric; ++j) {
    *out += '\t';
    if (j < row.numeric.size() && row.numeric[j] != GeneratedRow::kMissing) {
      Append(static_cast<uint64_t>(row.numeric[j]), out);
    }
  }
  for (uint32_t c = 0; c < kCriteoCategories; ++c) {
    *out += '\t';
    if (c < row.category.size() && row.category[c] != 0) Append(row.category[c], out);
  }
  *out += '\n';
}

void AppendLibsvm(const GeneratedRow& row, const GeneratorConfig& config, std::string* out) {
  *out += row.label ? '1' : '0';
  for (size_t j = 0; j < row.numeric.size(); ++j) {
    *out += ' ';
    Append(j + 1, out);
    *out += ':';
    Append(row.numeric[j] == GeneratedRow::kMissing ? 0 : static_cast<uint64_t>(row.numeric[j]),
           out);
  }
  uint64_t base = row.numeric.size() + 1;
  for (size_t c = 0; c < row.category.size(); ++c) {
    *out += ' ';
    Append(base + row.category[c], out);
    *out += ":1";
    base += config.cardinality(static_cast<int>(c)) + 1;
  }
  *out += '\n';
}

absl::Status Failed(const std::string& path) {
  return absl::UnavailableError(absl::StrCat(path, ": cannot write: ", std::strerror(errno)));
}

bool WriteAll(const Generator& generator, uint64_t begin, uint64_t end, Sink* sink,
              const std::function<void(uint64_t)>& progress) {
  const bool criteo = WrittenFormat(generator) == DataConfig::CRITEO_TSV;
  GeneratedRow row;
  std::string text;
  for (uint64_t i = begin; i < end; ++i) {
    generator.Make(i, &row);
    criteo ? AppendCriteo(row, &text) : AppendLibsvm(row, generator.config(), &text);
    if (text.size() >= kFlushBytes) {
      if (!sink->Write(text)) return false;
      text.clear();
    }
    if (progress && (i + 1 - begin) % kProgressRows == 0) progress(i + 1 - begin);
  }
  if (!text.empty() && !sink->Write(text)) return false;
  if (progress) progress(end - begin);
  return true;
}

}  // namespace

DataConfig::Format WrittenFormat(const Generator& generator) {
  return generator.numeric_fields() <= kCriteoNumeric &&
                 generator.category_fields() <= kCriteoCategories
             ? DataConfig::CRITEO_TSV
             : DataConfig::LIBSVM;
}

absl::Status WriteRows(const Generator& generator, uint64_t begin, uint64_t end,
                       const std::string& path, const std::function<void(uint64_t)>& progress) {
  if (begin >= end) {
    return absl::InvalidArgumentError(absl::StrCat("no rows to write: [", begin, ", ", end, ")"));
  }
  struct stat there;
  if (stat(path.c_str(), &there) == 0 && !S_ISREG(there.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": there is something that is no regular file"));
  }
  const std::string temporary = absl::StrCat(path, ".tmp", getpid());
  FILE* file = fopen(temporary.c_str(), "wb");
  if (file == nullptr) return Failed(temporary);
  std::unique_ptr<Sink> sink = std::make_unique<PlainSink>(file);
  const Compression compression = CompressionOf(path);
  if (compression == Compression::kGzip) sink = std::make_unique<GzipSink>(std::move(sink));
  if (compression == Compression::kZstd) sink = std::make_unique<ZstdSink>(std::move(sink));
  if (WriteAll(generator, begin, end, sink.get(), progress) && sink->Close() &&
      rename(temporary.c_str(), path.c_str()) == 0) {
    return absl::OkStatus();
  }
  absl::Status status = Failed(path);
  unlink(temporary.c_str());
  return status;
}

}  // namespace tidegate
