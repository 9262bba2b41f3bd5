#include "worker/data/text_rows.h"

#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/job_config/job_config.h"
#include "worker/data/stream_reader.h"

namespace tidegate {
namespace {
constexpr size_t kChunkBytes = 256 << 10;
constexpr size_t kNamesCompared = 10000;
}  // namespace

LineReader::LineReader(std::unique_ptr<ByteReader> input, uint64_t begin, uint64_t end)
    : input_(std::move(input)),
      buffer_(kChunkBytes),
      offset_(begin == 0 ? 0 : begin - 1),
      end_(end),
      skip_first_(begin > 0) {}

absl::StatusOr<bool> LineReader::Refill() {
  if (eof_) return false;
  if (pos_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + pos_, fill_ - pos_);
    fill_ -= pos_;
    pos_ = 0;
  }
  if (buffer_.size() - fill_ < kChunkBytes / 2) buffer_.resize(buffer_.size() * 2);
  absl::StatusOr<size_t> n = input_->Read(buffer_.data() + fill_, buffer_.size() - fill_);
  if (!n.ok()) return n.status();
  fill_ += *n;
  eof_ = *n == 0;
  return !eof_;
}

// Length up to the line end, the buffer's or the limit's, whichever comes first.
absl::StatusOr<bool> LineReader::FindEnd(size_t* length) {
  size_t scanned = 0;
  for (;;) {
    const char* from = buffer_.data() + pos_;
    const size_t have = fill_ - pos_;
    const void* found = std::memchr(from + scanned, '\n', have - scanned);
    if (found != nullptr) {
      *length = static_cast<size_t>(static_cast<const char*>(found) - from);
      return true;
    }
    if (have > kMaxLineBytes + 1) {  // one more for the CR of a CRLF
      *length = have;
      return false;
    }
    scanned = have;
    absl::StatusOr<bool> more = Refill();
    if (!more.ok()) return more;
    if (!*more) {
      *length = have;
      return false;
    }
  }
}

// Passes over the rest of a line that is too long to hold.
absl::Status LineReader::Drop() {
  for (;;) {
    const char* from = buffer_.data() + pos_;
    const void* found = std::memchr(from, '\n', fill_ - pos_);
    const size_t n = found == nullptr
                         ? fill_ - pos_
                         : static_cast<size_t>(static_cast<const char*>(found) - from) + 1;
    pos_ += n;
    offset_ += n;
    if (found != nullptr) return absl::OkStatus();
    absl::StatusOr<bool> more = Refill();
    if (!more.ok()) return more.status();
    if (!*more) return absl::OkStatus();
  }
}

absl::StatusOr<bool> LineReader::Next(Line* line) {
  if (skip_first_) {
    skip_first_ = false;
    if (absl::Status s = Drop(); !s.ok()) return s;
  }
  if (offset_ >= end_) return false;
  size_t length = 0;
  absl::StatusOr<bool> ended = FindEnd(&length);
  if (!ended.ok()) return ended;
  if (!*ended && length == 0) {
    if (end_ == kToEnd) return false;
    return absl::FailedPreconditionError(absl::StrCat("ends at byte ", offset_, ", but is to be read up to ", end_,
                                                      ": it was cut off while the job ran"));
  }
  const char* data = buffer_.data() + pos_;
  *line = Line{data, length, offset_, false};
  if (line->size > 0 && data[line->size - 1] == '\r') --line->size;
  line->too_long = line->size > kMaxLineBytes;
  if (line->too_long && !*ended) {
    if (absl::Status s = Drop(); !s.ok()) return s;
  } else {
    pos_ += length + (*ended ? 1 : 0);
    offset_ += length + (*ended ? 1 : 0);
  }
  if (line->too_long) {
    line->data = nullptr;
    line->size = 0;
  } else if (line->offset == 0 && line->size >= 3 && std::memcmp(data, "\xef\xbb\xbf", 3) == 0) {
    line->data += 3;
    line->size -= 3;
  }
  return true;
}

TextRows::TextRows(std::vector<Piece> pieces, CheckHeader header, OpenText open)
    : pieces_(std::move(pieces)), header_(std::move(header)), open_(std::move(open)) {}

std::unique_ptr<TextRows> TextRows::OfStream(uint32_t source, const std::string& file) {
  auto rows = std::make_unique<TextRows>(std::vector<Piece>{{source, file, 0, LineReader::kToEnd}});
  rows->open_ = [cancelled = rows->cancelled_](const Piece& piece) {
    return OpenStream(piece.file, cancelled);
  };
  return rows;
}

absl::Status TextRows::TakeHeader(const std::string& file) {
  LineReader::Line line;
  absl::StatusOr<bool> more = lines_->Next(&line);
  if (!more.ok()) return more.status();
  line_ = 1;
  if (*more && !line.too_long) return header_(file, {line.data, line.size});
  return absl::InvalidArgumentError(absl::StrCat(file, ":1: no header"));
}

absl::Status TextRows::Open(const Piece& piece) {
  const bool whole = open_ != nullptr || CompressionOf(piece.file) != Compression::kNone;
  if (piece.begin > 0 && whole) {
    return absl::InvalidArgumentError(
        absl::StrCat(piece.file, ": a file that is not plain text is one split, from byte 0"));
  }
  if (piece.begin > piece.end) {
    return absl::InvalidArgumentError(absl::StrCat(piece.file, ": the split [", piece.begin, ", ",
                                                   piece.end, ") ends before it begins"));
  }
  if (piece.end != LineReader::kToEnd) {
    absl::StatusOr<uint64_t> bytes = FileBytes(piece.file);
    if (!bytes.ok()) return bytes.status();
    if (whole ? piece.end != *bytes : piece.end > *bytes) {
      return absl::FailedPreconditionError(
          absl::StrCat(piece.file, ": has ", *bytes, " bytes, but ", piece.end,
                       " were planned: not the file that the job was planned with"));
    }
  }
  auto input = open_ != nullptr ? open_(piece)
                                : OpenFile(piece.file, piece.begin == 0 ? 0 : piece.begin - 1);
  if (!input.ok()) return input.status();
  lines_ = std::make_unique<LineReader>(*std::move(input), piece.begin,
                                        whole ? LineReader::kToEnd : piece.end);
  source_ = piece.source;
  line_ = 0;
  lines_known_ = piece.begin == 0;
  if (header_ && piece.begin == 0) return TakeHeader(piece.file);
  return absl::OkStatus();
}

absl::StatusOr<bool> TextRows::Next(Row* row) {
  LineReader::Line line;
  for (;;) {
    if (lines_ == nullptr) {
      if (next_piece_ == pieces_.size()) return false;
      if (absl::Status s = Open(pieces_[next_piece_++]); !s.ok()) return s;
    }
    absl::StatusOr<bool> more = lines_->Next(&line);
    if (absl::IsFailedPrecondition(more.status())) {
      return absl::FailedPreconditionError(absl::StrCat(NameOf(source_), " ", more.status().message()));
    }
    if (!more.ok()) return more;
    if (!*more) {
      lines_.reset();
      continue;
    }
    ++line_;
    if (line.size == 0 && !line.too_long) continue;
    *row = Row{line.data,   static_cast<uint32_t>(line.size), source_,
               line.offset, lines_known_ ? line_ : 0,         line.too_long};
    return true;
  }
}

absl::StatusOr<uint64_t> TextRows::Skip(uint64_t rows) {
  Row row;
  for (uint64_t i = 0; i < rows; ++i) {
    absl::StatusOr<bool> more = Next(&row);
    if (!more.ok()) return more.status();
    if (!*more) return i;
  }
  return rows;
}

std::string TextRows::NameOf(uint32_t source) const {
  for (const Piece& p : pieces_) {
    if (p.source == source) return p.file;
  }
  return absl::StrCat("source ", source);
}

absl::StatusOr<bool> GeneratedRows::Next(Row* row) {
  if (next_ >= end_) return false;
  *row = Row{};
  row->position = next_++;
  return true;
}

absl::StatusOr<uint64_t> GeneratedRows::Skip(uint64_t rows) {
  const uint64_t n = next_ < end_ ? std::min(rows, end_ - next_) : 0;
  next_ += n;
  return n;
}

std::string MissingFileHint(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::path folder = fs::path(path).parent_path();
  if (folder.empty()) folder = ".";
  if (folder.native().find_first_of("*?[") != std::string::npos) return "";
  if (!fs::is_directory(folder, error)) {
    while (folder.has_parent_path() && !fs::is_directory(folder.parent_path(), error)) folder = folder.parent_path();
    return absl::StrCat(" (there is no folder ", folder.native(), ")");
  }
  const std::string name = fs::path(path).filename().native();
  if (name.find_first_of("*?[") != std::string::npos) return "";
  std::vector<std::string> names;
  for (fs::directory_iterator entry(folder, fs::directory_options::skip_permission_denied, error), end; !error && entry != end && names.size() < kNamesCompared;
       entry.increment(error)) {
    if (entry->is_regular_file(error)) names.push_back(entry->path().filename().native());
  }
  std::sort(names.begin(), names.end());
  return DidYouMean(name, names);
}

absl::StatusOr<std::vector<std::string>> ExpandFiles(const std::vector<std::string>& patterns) {
  if (patterns.empty()) return absl::InvalidArgumentError("no files: set data.train.files");
  std::vector<std::string> files;
  for (const std::string& pattern : patterns) {
    struct stat literal;
    if (stat(pattern.c_str(), &literal) == 0) {  // a name may hold [ or *
      files.push_back(pattern);
      continue;
    }
    glob_t found;
    const int code = glob(pattern.c_str(), 0, nullptr, &found);
    if (code == 0) {
      const size_t first = files.size();
      for (size_t i = 0; i < found.gl_pathc; ++i) files.emplace_back(found.gl_pathv[i]);
      std::sort(files.begin() + static_cast<ptrdiff_t>(first), files.end());  // not by locale
    }
    globfree(&found);
    if (code == GLOB_NOMATCH) {
      return absl::NotFoundError(absl::StrCat(pattern, ": no such file", MissingFileHint(pattern)));
    }
    if (code != 0) return absl::UnavailableError(absl::StrCat(pattern, ": cannot be read"));
  }
  uint64_t total = 0;
  for (const std::string& file : files) {
    struct stat info;
    if (stat(file.c_str(), &info) != 0) {
      return absl::NotFoundError(absl::StrCat(file, ": ", std::strerror(errno)));
    }
    if (S_ISDIR(info.st_mode)) {
      return absl::InvalidArgumentError(absl::StrCat(file, ": is a folder; write ", file, "/*"));
    }
    total += static_cast<uint64_t>(info.st_size);
  }
  if (total == 0) {
    return absl::InvalidArgumentError(
        files.size() == 1
            ? absl::StrCat(files[0], ": is empty")
            : absl::StrCat("all ", files.size(), " files are empty, ", files[0], " first"));
  }
  return files;
}

}  // namespace tidegate
