#include "common/checkpoint/shard_file.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tidegate {
namespace {

constexpr std::string_view kMagic = "TGSHARD1";
constexpr std::string_view kIncrementalMagic = "TGSHARD2";
constexpr uint32_t kRowRecord = 0;
constexpr uint32_t kCounterRecord = 1;
constexpr size_t kRecordHead = sizeof(Key) + sizeof(uint32_t);
constexpr uint64_t kRowBytesMax = uint64_t{16} << 20;

absl::Status Damaged(const std::string& name, const std::string& what) {
  return absl::DataLossError(absl::StrCat(name, " is damaged: ", what));
}

template <typename T>
T Load(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

// Bytes of a row up to its optimizer slots.
uint64_t ValueBytesEnd(const TableSpec& table) {
  uint64_t bytes = kCheckpointRowHeaderBytes;
  for (const PartSpec& part : table.parts()) {
    const uint64_t element = part.dtype() == BFLOAT16 ? 2 : 4;
    bytes += (part.dim() * element + 3) / 4 * 4;
  }
  return bytes;
}

absl::Status CheckSection(const ShardSection& section, int index, std::span<const TableSpec> tables,
                          const std::string& name) {
  if (section.table() >= tables.size()) {
    return Damaged(name, absl::StrCat("section ", index, " is of table ", section.table(), " of ",
                                      tables.size()));
  }
  if (section.row_bytes() < ValueBytesEnd(tables[section.table()]) ||
      section.row_bytes() > kRowBytesMax) {
    return Damaged(name, absl::StrCat("rows of ", section.row_bytes(), " bytes in table \"",
                                      tables[section.table()].name(), "\""));
  }
  return absl::OkStatus();
}

bool DecodeRow(const TableSpec& table, const char* row, std::vector<float>* values) {
  values->clear();
  const char* at = row + kCheckpointRowHeaderBytes;
  bool finite = true;
  for (const PartSpec& part : table.parts()) {
    const bool bfloat16 = part.dtype() == BFLOAT16;
    for (uint32_t i = 0; i < part.dim(); ++i) {
      const float value = bfloat16 ? std::bit_cast<float>(uint32_t{Load<uint16_t>(at + 2 * i)} << 16)
                                   : Load<float>(at + 4 * i);
      finite = finite && std::isfinite(value);
      values->push_back(value);
    }
    at += (uint64_t{part.dim()} * (bfloat16 ? 2 : 4) + 3) / 4 * 4;
  }
  return finite;
}

}  // namespace

Key ShardFile::removed(size_t index, size_t i) const {
  return Load<Key>(bytes_.data() + offsets_[index] + header_.sections(static_cast<int>(index)).bytes() + i * sizeof(Key));
}

std::string EncodeShardFileHead(const ShardFileHeader& header, bool incremental) {
  std::string out(incremental ? kIncrementalMagic : kMagic);
  const std::string body = header.SerializeAsString();
  const uint32_t size = static_cast<uint32_t>(body.size());
  out.append(reinterpret_cast<const char*>(&size), sizeof(size));
  return out + body;
}

absl::StatusOr<ShardFile> ShardFile::Parse(std::string bytes, std::span<const TableSpec> tables,
                                           const std::string& name) {
  ShardFile file;
  file.bytes_ = std::move(bytes);
  file.name_ = name;
  const std::string& b = file.bytes_;
  const size_t head = kMagic.size() + sizeof(uint32_t);
  if (b.size() < head) return Damaged(name, absl::StrCat("only ", b.size(), " bytes"));
  const std::string_view magic = std::string_view(b).substr(0, kMagic.size());
  file.incremental_ = magic == kIncrementalMagic;
  if (magic != kMagic && !file.incremental_) {
    return absl::DataLossError(absl::StrCat(name, " is no shard file of a checkpoint"));
  }
  const uint32_t header_bytes = Load<uint32_t>(b.data() + kMagic.size());
  if (header_bytes > b.size() - head ||
      !file.header_.ParseFromArray(b.data() + head, static_cast<int>(header_bytes))) {
    return Damaged(name, "its header cannot be read");
  }
  size_t offset = head + header_bytes;
  for (int i = 0; i < file.header_.sections_size(); ++i) {
    const ShardSection& section = file.header_.sections(i);
    if (absl::Status s = CheckSection(section, i, tables, name); !s.ok()) return s;
    if (section.bytes() > b.size() - offset) {
      return Damaged(name, absl::StrCat("truncated in section ", i));
    }
    file.offsets_.push_back(offset);
    offset += section.bytes();
    if (section.removed() > 0 && !file.incremental_) return Damaged(name, "it is not incremental, and names removed keys");
    if (section.removed() > (b.size() - offset) / sizeof(Key)) {
      return Damaged(name, absl::StrCat("truncated in the removed keys of section ", i));
    }
    offset += section.removed() * sizeof(Key);
  }
  if (offset != b.size()) return Damaged(name, "bytes after its last section");
  return file;
}

bool IsRow(std::string_view record) { return Load<uint32_t>(record.data() + sizeof(Key)) == kRowRecord; }

absl::Status VisitRecords(const ShardFile& file, size_t section_index, const RecordVisitor& visit) {
  const ShardSection& section = file.header().sections(static_cast<int>(section_index));
  const std::string_view bytes = file.section(section_index);
  for (size_t offset = 0; offset < bytes.size();) {
    const auto damaged = [&](const char* what) {
      return Damaged(file.name(), absl::StrCat("section ", section_index, ", byte ", offset, ": ", what));
    };
    if (bytes.size() - offset < kRecordHead) return damaged("truncated record");
    const uint32_t kind = Load<uint32_t>(bytes.data() + offset + sizeof(Key));
    if (kind != kRowRecord && kind != kCounterRecord) return damaged("unknown kind of record");
    const size_t size = kRecordHead + (kind == kRowRecord ? section.row_bytes() : sizeof(uint32_t));
    if (bytes.size() - offset < size) return damaged("truncated record");
    visit(Load<Key>(bytes.data() + offset), bytes.substr(offset, size));
    offset += size;
  }
  return absl::OkStatus();
}

absl::Status VisitRows(const ShardFile& file, size_t section_index, const TableSpec& table,
                       const RowVisitor& visit) {
  std::vector<float> values;
  uint64_t rows = 0;
  absl::Status bad;
  absl::Status status = VisitRecords(file, section_index, [&](Key key, std::string_view record) {
    if (!bad.ok() || !IsRow(record)) return;
    if (!DecodeRow(table, record.data() + kRecordHead, &values)) {
      bad = Damaged(file.name(), absl::StrCat("table \"", table.name(), "\", key ", key,
                                              ": a value that is not finite"));
      return;
    }
    visit(key, values);
    ++rows;
  });
  if (status.ok()) status = bad;
  if (!status.ok()) return status;
  const uint64_t expected = file.header().sections(static_cast<int>(section_index)).rows();
  if (rows != expected) {
    return Damaged(file.name(), absl::StrCat("table \"", table.name(), "\" has ", rows,
                                             " rows, its header says ", expected));
  }
  return absl::OkStatus();
}

}  // namespace tidegate
