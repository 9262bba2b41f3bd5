#include "worker/data/candidates.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/stable_hash.h"
#include "common/strings.h"
#include "worker/data/columnar.h"
#include "worker/data/field_columns.h"

namespace tidegate {
namespace {

absl::Status TooManyItems() {
  return absl::ResourceExhaustedError(absl::StrCat("data.full_ranking: more than ", CandidatesBuilder::kItemsMax,
                                                   " items; name fewer in data.full_ranking.files"));
}

bool IsPositive(const DataSchema& schema, const FieldReader& fields) {
  double label = 0;
  return ParseNumber(fields[schema.labels[0].column], &label) && label > 0.5;
}

}  // namespace

FieldReader::FieldReader(const DataSchema& schema)
    : schema_(schema), splitter_(schema.csv.delimiter, schema.csv.quotes) {}

bool FieldReader::Read(const Row& row, std::string* what) {
  const std::string_view text = row.text();
  if (std::memchr(text.data(), 0, text.size()) != nullptr) {
    *what = "a NUL byte";
    return false;
  }
  if (schema_.format == DataConfig::NCF_NEGATIVES) return ReadPair(text, what);
  if (!splitter_.Split(text, schema_.columns + 1, what)) return false;
  fields_ = splitter_.fields();
  if (fields_.size() == schema_.columns) return true;
  *what = absl::StrCat(fields_.size(), " columns, not ", schema_.columns);
  return false;
}

bool FieldReader::ReadPair(std::string_view text, std::string* what) {
  const std::string_view pair = text.substr(0, text.find('\t'));
  fields_.assign(3, "1");
  if (SplitPair(pair, &fields_[1], &fields_[2])) return true;
  *what = Quoted(pair) + " is not (user,item)";
  return false;
}

uint32_t Candidates::Find(std::string_view item) const {
  const auto found = index_.find(std::string(item));
  return found == index_.end() ? kNone : found->second;
}

std::span<const Candidates::Seen> Candidates::SeenBy(uint64_t group) const {
  const auto first = std::lower_bound(seen_.begin(), seen_.end(), Seen{group, 0});
  auto last = first;
  while (last != seen_.end() && last->group == group) ++last;
  return {first, last};
}

CandidatesBuilder::CandidatesBuilder(size_t attributes) : made_(std::make_shared<Candidates>()) {
  made_->width_ = 1 + attributes;
}

absl::Status CandidatesBuilder::AddItems(char delimiter, RowStream* rows) {
  CsvSplitter splitter(delimiter, true);
  const auto width = static_cast<uint32_t>(made_->width_);
  Row row;
  std::string what;
  for (;;) {
    absl::StatusOr<bool> more = rows->Next(&row);
    if (!more.ok()) return more.status();
    if (!*more) return absl::OkStatus();
    const std::string where = absl::StrCat("data.full_ranking.files: ", rows->NameOf(row.source), ":", row.line, ": ");
    if (row.too_long) return absl::InvalidArgumentError(where + "the line is longer than 1 MiB");
    if (!splitter.Split(row.text(), width + 1, &what)) return absl::InvalidArgumentError(where + what);
    const auto& fields = splitter.fields();
    if (fields.size() != width) {
      return absl::InvalidArgumentError(absl::StrCat(where, fields.size(), " fields, not ", width, ": the item", width > 1 ? " and its attributes" : ""));
    }
    if (fields[0].empty()) return absl::InvalidArgumentError(where + "the item is empty");
    if (!made_->index_.try_emplace(std::string(fields[0]), static_cast<uint32_t>(made_->size())).second) continue;
    for (const std::string_view field : fields) made_->values_.emplace_back(field);
    if (made_->size() > kItemsMax) return TooManyItems();
  }
}

absl::Status CandidatesBuilder::AddTraining(const DataSchema& schema, RowStream* rows, Take take) {
  return AddLines(schema, rows, take, [](const DataSchema&, const FieldReader&) { return true; });
}

absl::Status CandidatesBuilder::AddPositives(const DataSchema& schema, RowStream* rows, bool items) {
  return AddLines(schema, rows, {items, true}, &IsPositive);
}

absl::Status CandidatesBuilder::AddLines(const DataSchema& schema, RowStream* rows, Take take, IsSeen is_seen) {
  FieldReader fields(schema);
  const FieldColumns columns(schema, schema.format == DataConfig::CSV ? '\0' : columnar::kValueEnd);
  const float label = 0;
  Batch scratch;
  Row row;
  std::string what;
  for (;;) {
    absl::StatusOr<bool> more = rows->Next(&row);
    if (!more.ok()) return more.status();
    if (!*more) return absl::OkStatus();
    if (row.too_long || !fields.Read(row, &what) || fields[schema.ranking.item].empty()) continue;
    uint32_t item = made_->Find(fields[schema.ranking.item]);
    if (item == Candidates::kNone && take.items) {
      schema.Prepare(&scratch);
      const auto field = [&fields](uint32_t column) { return fields[column]; };
      if (!columns.Append(field, 0, &label, &scratch, &what)) continue;
      item = static_cast<uint32_t>(made_->size());
      if (absl::Status s = AddItem(schema, fields); !s.ok()) return s;
    }
    if (take.items && schema.format == DataConfig::NCF_NEGATIVES) {
      if (absl::Status s = AddGiven(row.text()); !s.ok()) return s;
    }
    if (!take.seen || item == Candidates::kNone || !is_seen(schema, fields)) continue;
    if (made_->seen_.size() == kPairsMax) {
      return absl::ResourceExhaustedError(
          absl::StrCat("data.full_ranking.exclude_seen: the data has more than ", kPairsMax,
                       " rows, more pairs than are held in memory; say exclude_seen: false"));
    }
    made_->seen_.push_back({StableHash(fields[schema.group]), item});
  }
}

absl::Status CandidatesBuilder::AddItem(const DataSchema& schema, const FieldReader& fields) {
  if (made_->size() == kItemsMax) return TooManyItems();
  made_->index_.emplace(fields[schema.ranking.item], static_cast<uint32_t>(made_->size()));
  made_->values_.emplace_back(fields[schema.ranking.item]);
  for (const uint32_t column : schema.ranking.attributes) made_->values_.emplace_back(fields[column]);
  return absl::OkStatus();
}

absl::Status CandidatesBuilder::AddGiven(std::string_view line) {
  for (size_t tab = line.find('\t'); tab != std::string_view::npos;) {
    const size_t end = line.find('\t', tab + 1);
    const std::string item(line.substr(tab + 1, end == std::string_view::npos ? end : end - tab - 1));
    tab = end;
    if (item.empty() || !made_->index_.try_emplace(item, static_cast<uint32_t>(made_->size())).second) continue;
    made_->values_.push_back(item);
    if (made_->size() > kItemsMax) return TooManyItems();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Candidates>> CandidatesBuilder::Build() {
  if (made_->size() == 0) return absl::InvalidArgumentError("data.full_ranking: the data has no item to rank among");
  std::sort(made_->seen_.begin(), made_->seen_.end());
  return std::shared_ptr<const Candidates>(std::move(made_));
}

}  // namespace tidegate
