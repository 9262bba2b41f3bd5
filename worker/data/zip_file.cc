#include "worker/data/zip_file.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tidegate {
namespace {

constexpr uint64_t kDirectoryMax = 64 << 20;
constexpr size_t kEndBytes = 22;
constexpr size_t kEnd64Bytes = 56;
constexpr size_t kLocatorBytes = 20;
constexpr size_t kEntryBytes = 46;
constexpr size_t kLocalBytes = 30;
constexpr uint64_t kInflateRatioMax = 1032;  // of deflate

template <typename T>
T Little(const char* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

absl::Status Bad(const std::string& path, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
}

absl::StatusOr<std::string> ReadRange(const std::string& path, uint64_t begin, uint64_t size) {
  auto reader = OpenBytes(path, begin);
  if (!reader.ok()) return reader.status();
  std::string out(size, '\0');
  for (size_t have = 0; have < size;) {
    auto n = (*reader)->Read(out.data() + have, size - have);
    if (!n.ok()) return n.status();
    if (*n == 0) return absl::DataLossError(absl::StrCat(path, ": is cut off at byte ", begin + have));
    have += *n;
  }
  return out;
}

struct Directory {
  uint64_t begin = 0, size = 0, entries = 0;
};

absl::StatusOr<Directory> FindDirectory(const std::string& path, uint64_t bytes) {
  const uint64_t tail = std::min<uint64_t>(bytes, kEndBytes + 0xffff);
  auto end = ReadRange(path, bytes - tail, tail);
  if (!end.ok()) return end.status();
  const size_t at = tail < kEndBytes ? std::string::npos : end->rfind("PK\5\6", tail - kEndBytes);
  if (at == std::string::npos) return Bad(path, "is no ZIP file (or cut off: its directory is missing)");
  const char* p = end->data() + at;
  Directory d{Little<uint32_t>(p + 16), Little<uint32_t>(p + 12), Little<uint16_t>(p + 10)};
  const uint64_t end_at = bytes - tail + at;
  uint64_t limit = end_at;
  if (d.begin == 0xffffffff || d.size == 0xffffffff || d.entries == 0xffff) {
    if (end_at < kLocatorBytes) return Bad(path, "its ZIP64 locator is missing");
    auto locator = ReadRange(path, end_at - kLocatorBytes, kLocatorBytes);
    if (!locator.ok()) return locator.status();
    const uint64_t at64 = Little<uint64_t>(locator->data() + 8);
    if (locator->compare(0, 4, "PK\6\7") != 0 || at64 > end_at - kLocatorBytes ||
        end_at - kLocatorBytes - at64 < kEnd64Bytes) {
      return Bad(path, "its ZIP64 locator is damaged");
    }
    auto end64 = ReadRange(path, at64, kEnd64Bytes);
    if (!end64.ok()) return end64.status();
    if (end64->compare(0, 4, "PK\6\6") != 0) return Bad(path, "its ZIP64 directory is damaged");
    d = {Little<uint64_t>(end64->data() + 48), Little<uint64_t>(end64->data() + 40),
         Little<uint64_t>(end64->data() + 32)};
    limit = at64;
  }
  if (d.begin > limit || d.size > limit - d.begin || d.size > kDirectoryMax ||
      d.entries > d.size / kEntryBytes) {
    return Bad(path, "its ZIP directory does not fit the file");
  }
  return d;
}

// Sizes that do not fit 32 bits are in an extra field.
bool TakeZip64(std::string_view extra, ZipEntry* e) {
  while (extra.size() >= 4) {
    const auto id = Little<uint16_t>(extra.data());
    const size_t size = Little<uint16_t>(extra.data() + 2);
    if (size > extra.size() - 4) return false;
    std::string_view body = extra.substr(4, size);
    if (id == 1) {
      for (uint64_t* value : {&e->size, &e->compressed, &e->header}) {
        if (*value != 0xffffffff) continue;
        if (body.size() < 8) return false;
        *value = Little<uint64_t>(body.data());
        body.remove_prefix(8);
      }
    }
    extra.remove_prefix(4 + size);
  }
  return true;
}

// The limit of what Read() gives, and the checksum of it.
class Checked final : public ByteReader {
 public:
  Checked(std::unique_ptr<ByteReader> input, std::string name, uint64_t size, uint32_t crc)
      : input_(std::move(input)), name_(std::move(name)), left_(size), want_(crc) {}
  absl::StatusOr<size_t> Read(char* out, size_t size) override {
    if (left_ == 0) return 0;
    auto n = input_->Read(out, std::min<uint64_t>(size, left_));
    if (!n.ok()) return n;
    if (*n == 0) return absl::DataLossError(absl::StrCat(name_, ": is cut off, ", left_, " bytes before its end"));
    left_ -= *n;
    crc_ = crc32_z(crc_, reinterpret_cast<const Bytef*>(out), *n);
    if (left_ == 0 && crc_ != want_) {
      return absl::DataLossError(absl::StrCat(name_, ": the checksum is wrong"));
    }
    return n;
  }

 private:
  const std::unique_ptr<ByteReader> input_;
  const std::string name_;
  uint64_t left_;
  const uint32_t want_;
  uLong crc_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<ZipEntry>> ReadZipDirectory(const std::string& path) {
  auto bytes = FileBytes(path);
  if (!bytes.ok()) return bytes.status();
  auto found = FindDirectory(path, *bytes);
  if (!found.ok()) return found.status();
  auto text = ReadRange(path, found->begin, found->size);
  if (!text.ok()) return text.status();
  std::vector<ZipEntry> entries;
  std::string_view rest = *text;
  for (uint64_t i = 0; i < found->entries; ++i) {
    if (rest.size() < kEntryBytes || rest.substr(0, 4) != "PK\1\2") {
      return Bad(path, absl::StrCat("entry ", i + 1, " of its ZIP directory is damaged"));
    }
    const char* p = rest.data();
    const size_t name = Little<uint16_t>(p + 28), extra = Little<uint16_t>(p + 30),
                 comment = Little<uint16_t>(p + 32);
    ZipEntry e;
    e.method = Little<uint16_t>(p + 10);
    e.crc = Little<uint32_t>(p + 16);
    e.compressed = Little<uint32_t>(p + 20);
    e.size = Little<uint32_t>(p + 24);
    e.header = Little<uint32_t>(p + 42);
    if (rest.size() < kEntryBytes + name + extra + comment) {
      return Bad(path, absl::StrCat("entry ", i + 1, " of its ZIP directory is cut off"));
    }
    e.name = rest.substr(kEntryBytes, name);
    const bool encrypted = (Little<uint16_t>(p + 8) & 1) != 0;
    if (!TakeZip64(rest.substr(kEntryBytes + name, extra), &e) || e.header > *bytes ||
        e.compressed > *bytes - e.header || (e.method == 0 && e.size != e.compressed) ||
        e.size / kInflateRatioMax > e.compressed) {
      return Bad(path, absl::StrCat("entry \"", e.name, "\": its sizes do not fit the file"));
    }
    if (encrypted || (e.method != 0 && e.method != 8)) {
      return Bad(path, absl::StrCat("entry \"", e.name, "\": ",
                                    encrypted ? "is encrypted" : "is neither stored nor deflated"));
    }
    entries.push_back(std::move(e));
    rest.remove_prefix(kEntryBytes + name + extra + comment);
  }
  return entries;
}

absl::StatusOr<std::unique_ptr<ByteReader>> OpenZipEntry(const std::string& path,
                                                         const ZipEntry& entry) {
  const std::string name = absl::StrCat(path, ": ", entry.name);
  auto local = ReadRange(path, entry.header, kLocalBytes);
  if (!local.ok()) return local.status();
  if (local->compare(0, 4, "PK\3\4") != 0) return absl::DataLossError(absl::StrCat(name, ": its header is damaged"));
  const uint64_t begin = entry.header + kLocalBytes + Little<uint16_t>(local->data() + 26) +
                         Little<uint16_t>(local->data() + 28);
  auto bytes = OpenBytes(path, begin);
  if (!bytes.ok()) return bytes.status();
  std::unique_ptr<ByteReader> input = *std::move(bytes);
  if (entry.method == 8) input = NewDeflateReader(std::move(input), name);
  return std::make_unique<Checked>(std::move(input), name, entry.size, entry.crc);
}

}  // namespace tidegate
