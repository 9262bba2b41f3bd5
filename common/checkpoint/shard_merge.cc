#include "common/checkpoint/shard_merge.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace tidegate {
namespace {

struct Record {
  Key key;
  std::string_view bytes;
};

absl::Status Damaged(const ShardFile& file, const std::string& what) {
  return absl::DataLossError(absl::StrCat(file.name(), " is damaged: ", what));
}

// `section`, with keys that rise.
absl::StatusOr<std::vector<Record>> RecordsOf(const ShardFile& file, size_t section) {
  std::vector<Record> records;
  bool rise = true;
  const absl::Status status = VisitRecords(file, section, [&](Key key, std::string_view bytes) {
    rise = rise && (records.empty() || records.back().key < key);
    records.push_back({key, bytes});
  });
  if (!status.ok()) return status;
  if (!rise) return Damaged(file, absl::StrCat("the keys of section ", section, " do not rise"));
  return records;
}

absl::StatusOr<std::vector<Key>> RemovedOf(const ShardFile& file, size_t section) {
  std::vector<Key> keys;
  const uint64_t count = file.header().sections(static_cast<int>(section)).removed();
  for (size_t i = 0; i < count; ++i) {
    const Key key = file.removed(section, i);
    if (!keys.empty() && key <= keys.back()) return Damaged(file, absl::StrCat("the removed keys of section ", section, " do not rise"));
    keys.push_back(key);
  }
  return keys;
}

class Merger {
 public:
  explicit Merger(std::string* out) : out_(out) {}
  uint64_t rows() const { return rows_; }

  absl::Status Merge(const ShardFile& base, const ShardFile& later, size_t section) {
    const auto old_records = RecordsOf(base, section);
    if (!old_records.ok()) return old_records.status();
    const auto new_records = RecordsOf(later, section);
    if (!new_records.ok()) return new_records.status();
    const auto removed = RemovedOf(later, section);
    if (!removed.ok()) return removed.status();
    auto next = new_records->begin();
    auto gone = removed->begin();
    for (const Record& record : *old_records) {
      for (; next != new_records->end() && next->key < record.key; ++next) Append(*next);
      if (next != new_records->end() && next->key == record.key) continue;  // the later one counts
      while (gone != removed->end() && *gone < record.key) ++gone;
      if (gone == removed->end() || *gone != record.key) Append(record);
    }
    for (; next != new_records->end(); ++next) Append(*next);
    return absl::OkStatus();
  }

 private:
  void Append(const Record& record) {
    out_->append(record.bytes);
    if (IsRow(record.bytes)) ++rows_;
  }

  std::string* const out_;
  uint64_t rows_ = 0;
};

}  // namespace

absl::StatusOr<ShardFile> MergeShardFiles(const ShardFile& base, const ShardFile& later, std::span<const TableSpec> tables) {
  ShardFileHeader header = later.header();
  const ShardFileHeader& before = base.header();
  bool same = before.shard() == header.shard() && before.shards() == header.shards() && before.sections_size() == header.sections_size();
  for (int s = 0; same && s < header.sections_size(); ++s) {
    same = before.sections(s).table() == header.sections(s).table() && before.sections(s).row_bytes() == header.sections(s).row_bytes();
  }
  if (!same) return absl::DataLossError(absl::StrCat(later.name(), " does not build on ", base.name(), ": other shards or tables"));
  std::string sections;
  for (int s = 0; s < header.sections_size(); ++s) {
    const size_t begin = sections.size();
    Merger merger(&sections);
    if (absl::Status status = merger.Merge(base, later, static_cast<size_t>(s)); !status.ok()) return status;
    header.mutable_sections(s)->set_rows(merger.rows());
    header.mutable_sections(s)->set_bytes(sections.size() - begin);
    header.mutable_sections(s)->clear_removed();
  }
  std::string bytes = EncodeShardFileHead(header);
  bytes.append(sections);
  return ShardFile::Parse(std::move(bytes), tables, later.name());
}

}  // namespace tidegate
