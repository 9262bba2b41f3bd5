#pragma once
// Lines of text files as rows. A byte range owns the lines that start in it, so that ranges that
// cover a file give each line once. Line ends may be LF or CRLF, the last may lack its own; blank
// lines are passed over; a byte order mark at the start is dropped.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/byte_reader.h"
#include "worker/data/rows.h"

namespace tidegate {

inline constexpr size_t kMaxLineBytes = 1 << 20;

// Lines of one file. Not thread-safe.
class LineReader {
 public:
  struct Line {
    const char* data = nullptr;
    size_t size = 0;
    uint64_t offset = 0;
    bool too_long = false;
  };
  static constexpr uint64_t kToEnd = ~0ull;

  // `input` stands at byte `begin` if begin is 0, else at begin - 1. Lines that start before `end`.
  LineReader(std::unique_ptr<ByteReader> input, uint64_t begin, uint64_t end);
  // False at the end; FAILED_PRECONDITION where the input ends before `end`. The line is valid until the next call.
  absl::StatusOr<bool> Next(Line* line);

 private:
  absl::StatusOr<bool> Refill();  // false: at the end of the input
  absl::StatusOr<bool> FindEnd(size_t* length);
  absl::Status Drop();

  std::unique_ptr<ByteReader> input_;
  std::vector<char> buffer_;
  size_t pos_ = 0;
  size_t fill_ = 0;
  uint64_t offset_ = 0;  // in the file, of buffer_[pos_]
  uint64_t end_;
  bool eof_ = false;
  bool skip_first_ = false;
};

class TextRows final : public RowStream {
 public:
  struct Piece {
    uint32_t source = 0;
    std::string file;
    uint64_t begin = 0;
    uint64_t end = LineReader::kToEnd;
  };
  // Given the first line of a file, which is then no row.
  using CheckHeader = std::function<absl::Status(const std::string& file, std::string_view line)>;
  // Where a file's text comes from, if not from its bytes: then a piece is a whole file.
  using OpenText = std::function<absl::StatusOr<std::unique_ptr<ByteReader>>(const Piece&)>;
  // Pieces in order. Files are opened as they are reached.
  explicit TextRows(std::vector<Piece> pieces, CheckHeader header = nullptr,
                    OpenText open = nullptr);
  // A stream, "-" or a named pipe (stream_reader.h).
  static std::unique_ptr<TextRows> OfStream(uint32_t source, const std::string& file);

  absl::StatusOr<bool> Next(Row* row) override;
  absl::StatusOr<uint64_t> Skip(uint64_t rows) override;
  std::string NameOf(uint32_t source) const override;
  void Cancel() override { cancelled_->store(true); }

 private:
  absl::Status Open(const Piece& piece);
  absl::Status TakeHeader(const std::string& file);

  const std::vector<Piece> pieces_;
  const CheckHeader header_;
  OpenText open_;
  const std::shared_ptr<std::atomic<bool>> cancelled_ = std::make_shared<std::atomic<bool>>(false);
  size_t next_piece_ = 0;
  std::unique_ptr<LineReader> lines_;
  uint32_t source_ = 0;
  uint64_t line_ = 0;
  bool lines_known_ = false;
};

// Rows [begin, end) of a generated set.
class GeneratedRows final : public RowStream {
 public:
  GeneratedRows(uint64_t begin, uint64_t end) : next_(begin), end_(end) {}
  absl::StatusOr<bool> Next(Row* row) override;
  absl::StatusOr<uint64_t> Skip(uint64_t rows) override;
  std::string NameOf(uint32_t) const override { return "generated"; }

 private:
  uint64_t next_, end_;
};

// The files of data.train or data.valid: globs expanded (sorted within each), in the order of the
// config. NOT_FOUND when a name matches nothing; INVALID_ARGUMENT for no files, a folder, or a
// single empty file. An index into the result is Split.source and Row.source.
absl::StatusOr<std::vector<std::string>> ExpandFiles(const std::vector<std::string>& patterns);

// Of a name that matches nothing: " (did you mean \"x\"?)" by the names in its folder, the part of its path that is not
// there, or "".
std::string MissingFileHint(const std::string& path);

}  // namespace tidegate
