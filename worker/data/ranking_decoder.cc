#include <algorithm>

#include "absl/strings/str_cat.h"
#include "worker/data/candidates.h"
#include "worker/data/columnar.h"
#include "worker/data/field_columns.h"

namespace tidegate {
namespace {

// A positive's line as it is, then copies with label 0 and each candidate's values; other lines give no row.
class RankingDecoder final : public RowDecoder {
 public:
  RankingDecoder(std::shared_ptr<const DataSchema> schema, std::shared_ptr<const Candidates> candidates)
      : schema_(std::move(schema)),
        candidates_(std::move(candidates)),
        fields_(*schema_),
        columns_(*schema_, schema_->format == DataConfig::CSV ? '\0' : columnar::kValueEnd),
        item_of_column_(schema_->columns, kOfTheLine),
        marks_(candidates_->size(), 0),
        next_(static_cast<uint32_t>(candidates_->size())) {
    item_of_column_[schema_->ranking.item] = 0;
    for (size_t i = 0; i < schema_->ranking.attributes.size(); ++i) {
      item_of_column_[schema_->ranking.attributes[i]] = static_cast<int>(i) + 1;
    }
  }

  bool Decode(const Row& row, Batch* batch, std::string* what) override {
    next_ = static_cast<uint32_t>(candidates_->size());
    if (!fields_.Read(row, what)) return false;
    const std::string_view item = fields_[schema_->ranking.item];
    if (item.empty()) {
      *what = "full_ranking: the item is empty";
      return false;
    }
    const size_t before = batch->rows;
    id_ = SampleId(row.source, row.position);
    if (!columns_.Append([this](uint32_t c) { return fields_[c]; }, id_, nullptr, batch, what)) return false;
    if (!(batch->labels[0].back() > 0.5f)) {
      decoder::ForgetRows(before, batch);
      return true;
    }
    next_ = 0;
    ++mark_;
    for (const Candidates::Seen& seen : candidates_->SeenBy(batch->group_id.back())) marks_[seen.item] = mark_;
    if (const uint32_t own = candidates_->Find(item); own != Candidates::kNone) marks_[own] = mark_;
    return true;
  }

  absl::Status Continue(size_t max_rows, Batch* batch) override {
    const float label = 0;
    std::string what;
    for (; next_ < marks_.size() && batch->rows < max_rows; ++next_) {
      if (marks_[next_] == mark_) continue;
      const auto field = [this](uint32_t c) {
        return item_of_column_[c] == kOfTheLine ? fields_[c]
                                                : candidates_->Value(next_, static_cast<size_t>(item_of_column_[c]));
      };
      if (columns_.Append(field, Mix64(id_ + 1 + next_), &label, batch, &what)) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("data.full_ranking: item ") + Quoted(candidates_->Value(next_, 0)) + ": " + what);
    }
    return absl::OkStatus();
  }

 private:
  static constexpr int kOfTheLine = -1;

  const std::shared_ptr<const DataSchema> schema_;
  const std::shared_ptr<const Candidates> candidates_;
  FieldReader fields_;
  const FieldColumns columns_;
  std::vector<int> item_of_column_;  // kOfTheLine, or of Candidates::Value
  std::vector<uint32_t> marks_;      // [item] == mark_: left out for the line in hand
  uint32_t mark_ = 0;
  uint64_t id_ = 0;
  uint32_t next_;
};

}  // namespace

std::unique_ptr<RowDecoder> NewRankingDecoder(std::shared_ptr<const DataSchema> schema,
                                              std::shared_ptr<const Candidates> candidates) {
  return std::make_unique<RankingDecoder>(std::move(schema), std::move(candidates));
}

}  // namespace tidegate
