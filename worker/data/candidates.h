#pragma once
// What data.full_ranking ranks a positive among: all items, and which of them a user has already. Immutable once
// built; thread-safe.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/fields.h"
#include "worker/data/rows.h"
#include "worker/data/schema.h"

namespace tidegate {

// The fields of a line by column number: of CSV, NPZ and PARQUET, and of NCF_NEGATIVES the positive's. Not thread-safe.
class FieldReader {
 public:
  explicit FieldReader(const DataSchema& schema);  // outlives this object

  // False: the line is bad, *what says why. The fields are those of `row`, until the next call.
  bool Read(const Row& row, std::string* what);
  std::string_view operator[](uint32_t column) const { return fields_[column]; }

 private:
  bool ReadPair(std::string_view text, std::string* what);

  const DataSchema& schema_;
  CsvSplitter splitter_;
  std::vector<std::string_view> fields_;
};

class Candidates {
 public:
  static constexpr uint32_t kNone = ~0u;
  struct Seen {
    uint64_t group;
    uint32_t item;
    bool operator<(const Seen& other) const { return group != other.group ? group < other.group : item < other.item; }
  };

  size_t size() const { return index_.size(); }
  // Of item i < size(), in order of first sight: 0 is the item, then its attributes.
  std::string_view Value(uint32_t item, size_t column) const { return values_[item * width_ + column]; }
  uint32_t Find(std::string_view item) const;  // kNone
  // Items that lines of this group id hold: those of the training data, where they count, and the positives.
  std::span<const Seen> SeenBy(uint64_t group) const;

 private:
  friend class CandidatesBuilder;
  size_t width_ = 1;
  std::vector<std::string> values_;
  std::unordered_map<std::string, uint32_t> index_;
  std::vector<Seen> seen_;  // sorted
};

// Lines that are no rows are passed over: training and evaluation report them. RESOURCE_EXHAUSTED beyond the limits.
class CandidatesBuilder {
 public:
  static constexpr size_t kItemsMax = size_t{1} << 22;
  static constexpr size_t kPairsMax = size_t{1} << 26;  // 1 GiB
  struct Take {
    bool items = true;  // whatever item is there is a candidate
    bool seen = true;   // counts as seen by its group
  };

  explicit CandidatesBuilder(size_t attributes);

  // Items one a line, with their attributes after them.
  absl::Status AddItems(char delimiter, RowStream* rows);
  absl::Status AddTraining(const DataSchema& schema, RowStream* rows, Take take);
  // Of data.valid the positives count as seen, so that a user's positives are never each other's negatives.
  absl::Status AddPositives(const DataSchema& schema, RowStream* rows, bool items);
  // INVALID_ARGUMENT without an item.
  absl::StatusOr<std::shared_ptr<const Candidates>> Build();

 private:
  using IsSeen = bool (*)(const DataSchema&, const FieldReader&);
  absl::Status AddLines(const DataSchema& schema, RowStream* rows, Take take, IsSeen is_seen);
  absl::Status AddItem(const DataSchema& schema, const FieldReader& fields);
  absl::Status AddGiven(std::string_view line);  // the negatives of an NCF_NEGATIVES line

  std::shared_ptr<Candidates> made_;
};

}  // namespace tidegate
