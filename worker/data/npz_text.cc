#include "worker/data/npz_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "worker/data/columnar.h"
#include "worker/data/text_rows.h"
#include "worker/data/zip_file.h"

namespace tidegate {
namespace {

constexpr size_t kHeaderMax = 1 << 16;

// What the header of an array says.
struct Npy {
  char kind = 0;  // of numpy: b i u f S U
  uint32_t item_bytes = 0;
  uint64_t rows = 0;
  uint64_t values = 1;  // a row
};

// After `key` in the header's dict, as 'key': value.
std::string_view ValueOf(std::string_view header, std::string_view key) {
  const std::string quoted = absl::StrCat("'", std::string(key), "':");
  const size_t at = header.find(quoted);
  if (at == std::string_view::npos) return {};
  std::string_view rest = header.substr(at + quoted.size());
  while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
  return rest;
}

bool ParseDescr(std::string_view text, Npy* npy) {
  if (text.size() < 5 || text[0] != '\'') return false;
  const char order = text[1];
  npy->kind = text[2];
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + 3, end, npy->item_bytes);
  if (error != std::errc() || stop == end || *stop != '\'') return false;
  const uint32_t n = npy->item_bytes;
  if (order != '<' && order != '|') return false;
  switch (npy->kind) {
    case 'b': return n == 1;
    case 'i':
    case 'u': return n == 1 || n == 2 || n == 4 || n == 8;
    case 'f': return n == 4 || n == 8;
    case 'S': return n >= 1 && n <= kMaxLineBytes;
    case 'U': return n >= 1 && n <= kMaxLineBytes / 4 && ((npy->item_bytes *= 4) != 0);
    default: return false;
  }
}

// "(rows, a, b)": false where the product is no number of values that a line can hold.
bool ParseShape(std::string_view text, Npy* npy) {
  if (text.empty() || text[0] != '(') return false;
  const char* p = text.data() + 1;
  const char* const end = text.data() + text.size();
  size_t dimensions = 0;
  for (;;) {
    while (p != end && (*p == ' ' || *p == ',')) ++p;
    if (p == end) return false;
    if (*p == ')') return dimensions > 0;
    uint64_t n = 0;
    const auto [stop, error] = std::from_chars(p, end, n);
    if (error != std::errc()) return false;
    p = stop;
    if (dimensions++ == 0) {
      npy->rows = n;
    } else {
      if (n == 0 || n > kMaxLineBytes || npy->values > kMaxLineBytes / n) return false;
      npy->values *= n;
    }
  }
}

// One wanted array, read row by row.
class Column {
 public:
  static absl::StatusOr<Column> Open(const std::string& path, const ZipEntry& entry) {
    auto bytes = OpenZipEntry(path, entry);
    if (!bytes.ok()) return bytes.status();
    Column column;
    column.bytes_ = *std::move(bytes);
    column.name_ = absl::StrCat(path, ": ", entry.name);
    if (absl::Status s = column.ReadHeader(entry.size); !s.ok()) return s;
    return column;
  }
  uint64_t rows() const { return npy_.rows; }
  const std::string& name() const { return name_; }

  // Appends the values of the next row.
  absl::Status AppendRow(std::string* out) {
    const size_t size = static_cast<size_t>(npy_.values) * npy_.item_bytes;
    if (fill_ - pos_ < size) {
      if (absl::Status s = Refill(size); !s.ok()) return s;
    }
    const char* p = buffer_.data() + pos_;
    pos_ += size;
    ++row_;
    for (uint64_t i = 0; i < npy_.values; ++i, p += npy_.item_bytes) {
      if (i > 0) *out += columnar::kValueEnd;
      if (!Append(p, out)) {
        return absl::InvalidArgumentError(absl::StrCat(
            name_, ": row ", row_, ": a text with a line break or a control byte, or that is no Unicode"));
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Bad(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(name_, ": ", what));
  }

  absl::Status ReadExactly(char* out, size_t size) {
    while (size > 0) {
      auto n = bytes_->Read(out, size);
      if (!n.ok()) return n.status();
      if (*n == 0) return absl::DataLossError(absl::StrCat(name_, ": the array is cut off"));
      out += *n;
      size -= *n;
    }
    return absl::OkStatus();
  }

  absl::Status ReadHeader(uint64_t entry_bytes) {
    unsigned char head[12];
    if (entry_bytes < sizeof(head)) return Bad("is no array");
    if (absl::Status s = ReadExactly(reinterpret_cast<char*>(head), 10); !s.ok()) return s;
    if (std::memcmp(head, "\x93NUMPY", 6) != 0 || head[6] < 1 || head[6] > 3) {
      return Bad("is no array of numpy's format 1 to 3");
    }
    size_t length = head[8] + 256u * head[9], before = 10;
    if (head[6] > 1) {
      if (absl::Status s = ReadExactly(reinterpret_cast<char*>(head) + 10, 2); !s.ok()) return s;
      length += (size_t{head[10]} << 16) + (size_t{head[11]} << 24);
      before = 12;
    }
    if (length > kHeaderMax || before + length > entry_bytes) return Bad("its header does not fit");
    std::string header(length, '\0');
    if (absl::Status s = ReadExactly(header.data(), length); !s.ok()) return s;
    if (!ParseDescr(ValueOf(header, "descr"), &npy_)) {
      return Bad(absl::StrCat("its dtype is not read: bool, integers, float32, float64, S and U, little endian, are: ",
                              header.substr(0, 80)));
    }
    if (!ParseShape(ValueOf(header, "shape"), &npy_)) {
      return Bad(absl::StrCat("its shape has no rows, or rows too large to be read: ", header.substr(0, 120)));
    }
    if (ValueOf(header, "fortran_order").substr(0, 5) != "False" && npy_.values > 1) {
      return Bad("is in Fortran order: save numpy.ascontiguousarray of it");
    }
    const uint64_t row_bytes = npy_.values * npy_.item_bytes;
    const uint64_t data = entry_bytes - before - length;
    if (row_bytes > 4 * kMaxLineBytes || npy_.rows > data / row_bytes || npy_.rows * row_bytes != data) {
      return Bad(absl::StrCat("has ", data, " bytes, not ", npy_.rows, " rows of ", row_bytes));
    }
    rows_left_ = npy_.rows;
    return absl::OkStatus();
  }

  // Reads whole rows. REQUIRES: a row is left.
  absl::Status Refill(size_t row_bytes) {
    const uint64_t rows = std::min<uint64_t>(rows_left_, std::max<size_t>(1, (64 << 10) / row_bytes));
    if (rows == 0) return absl::InternalError(absl::StrCat(name_, ": no row is left"));
    buffer_.resize(rows * row_bytes);
    pos_ = 0;
    fill_ = buffer_.size();
    rows_left_ -= rows;
    return ReadExactly(buffer_.data(), buffer_.size());
  }

  template <typename T>
  static void Number(const char* p, std::string* out) {
    T value;
    std::memcpy(&value, p, sizeof(T));
    if constexpr (std::is_floating_point_v<T>) {
      if (std::isnan(value)) return;  // missing
    }
    char text[32];
    const auto [end, error] = std::to_chars(text, text + sizeof(text), value);
    out->append(text, end);
  }

  bool Append(const char* p, std::string* out) const {
    switch (npy_.kind) {
      case 'b': *out += *p != 0 ? '1' : '0'; return true;
      case 'i':
        if (npy_.item_bytes == 1) Number<int8_t>(p, out);
        if (npy_.item_bytes == 2) Number<int16_t>(p, out);
        if (npy_.item_bytes == 4) Number<int32_t>(p, out);
        if (npy_.item_bytes == 8) Number<int64_t>(p, out);
        return true;
      case 'u':
        if (npy_.item_bytes == 1) Number<uint8_t>(p, out);
        if (npy_.item_bytes == 2) Number<uint16_t>(p, out);
        if (npy_.item_bytes == 4) Number<uint32_t>(p, out);
        if (npy_.item_bytes == 8) Number<uint64_t>(p, out);
        return true;
      case 'f':
        if (npy_.item_bytes == 4) Number<float>(p, out);
        if (npy_.item_bytes == 8) Number<double>(p, out);
        return true;
      case 'S': {
        const std::string_view text(p, strnlen(p, npy_.item_bytes));
        if (std::any_of(text.begin(), text.end(), columnar::IsReserved)) return false;
        out->append(text);
        return true;
      }
      default: return AppendUtf32(p, out);
    }
  }
  bool AppendUtf32(const char* p, std::string* out) const {
    for (uint32_t i = 0; i < npy_.item_bytes; i += 4) {
      uint32_t c;
      std::memcpy(&c, p + i, 4);
      if (c == 0) return true;  // numpy pads with zeros
      if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return false;
      if (c < 0x80) {
        if (columnar::IsReserved(static_cast<char>(c))) return false;
        *out += static_cast<char>(c);
        continue;
      }
      const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
      *out += static_cast<char>((more == 1 ? 0xc0 : more == 2 ? 0xe0 : 0xf0) | (c >> (6 * more)));
      for (int k = more - 1; k >= 0; --k) *out += static_cast<char>(0x80 | ((c >> (6 * k)) & 0x3f));
    }
    return true;
  }

  std::string name_;
  std::unique_ptr<ByteReader> bytes_;
  Npy npy_;
  uint64_t rows_left_ = 0;  // not in the buffer yet
  uint64_t row_ = 0;
  std::vector<char> buffer_;
  size_t pos_ = 0, fill_ = 0;
};

class NpzText final : public ByteReader {
 public:
  explicit NpzText(std::vector<Column> columns)
      : columns_(std::move(columns)), rows_left_(columns_.empty() ? 0 : columns_[0].rows()) {}

  absl::StatusOr<size_t> Read(char* out, size_t size) override {
    while (pos_ == text_.size() && rows_left_ > 0) {
      text_.clear();
      pos_ = 0;
      for (; rows_left_ > 0 && text_.size() < size; --rows_left_) {
        for (size_t c = 0; c < columns_.size(); ++c) {
          if (c > 0) text_ += columnar::kFieldEnd;
          if (absl::Status s = columns_[c].AppendRow(&text_); !s.ok()) return s;
        }
        text_ += '\n';
      }
    }
    const size_t n = std::min(size, text_.size() - pos_);
    std::memcpy(out, text_.data() + pos_, n);
    pos_ += n;
    return n;
  }

 private:
  std::vector<Column> columns_;
  uint64_t rows_left_;
  std::string text_;
  size_t pos_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ByteReader>> OpenNpzText(const std::string& path,
                                                        const std::vector<std::string>& columns) {
  auto entries = ReadZipDirectory(path);
  if (!entries.ok()) return entries.status();
  std::vector<Column> opened;
  for (const std::string& name : columns) {
    const auto found = std::find_if(entries->begin(), entries->end(), [&](const ZipEntry& e) {
      return e.name == name + ".npy";
    });
    if (found == entries->end()) {
      const auto names = absl::StrJoin(*entries, ", ", [](std::string* out, const ZipEntry& e) {
        absl::StrAppend(out, e.name.substr(0, e.name.rfind(".npy")));
      });
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": no array \"", name, "\"; there are ", names));
    }
    auto column = Column::Open(path, *found);
    if (!column.ok()) return column.status();
    if (!opened.empty() && column->rows() != opened.front().rows()) {
      return absl::InvalidArgumentError(absl::StrCat(column->name(), " has ", column->rows(), " rows, but ",
                                                     opened.front().name(), " ", opened.front().rows()));
    }
    opened.push_back(*std::move(column));
  }
  return std::make_unique<NpzText>(std::move(opened));
}

}  // namespace tidegate
