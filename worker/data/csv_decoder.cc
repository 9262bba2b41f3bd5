#include <charconv>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "worker/data/columnar.h"
#include "worker/data/field_columns.h"
#include "worker/data/fields.h"

namespace tidegate {
namespace {

// One row of a line, or with negative sampling 1 + per_positive: the line as it is, with label 1, and
// copies with label 0 and a drawn value.
class CsvDecoder final : public RowDecoder {
 public:
  CsvDecoder(std::shared_ptr<const DataSchema> schema,
             std::shared_ptr<const NegativeSampler> negatives)
      : schema_(std::move(schema)),
        negatives_(std::move(negatives)),
        columns_(*schema_, schema_->format == DataConfig::CSV ? '\0' : columnar::kValueEnd),
        splitter_(schema_->csv.delimiter, schema_->csv.quotes) {}

  bool Decode(const Row& row, Batch* batch, std::string* what) override {
    const std::string_view text = row.text();
    if (!splitter_.Split(text, schema_->columns + 1, what)) return false;
    const std::vector<std::string_view>& fields = splitter_.fields();
    if (fields.size() != schema_->columns) {
      *what = absl::StrCat(fields.size(), " columns, not ", schema_->columns);
      return false;
    }
    if (std::memchr(text.data(), 0, text.size()) != nullptr) {
      *what = "a NUL byte";
      return false;
    }
    const auto field = [&fields](uint32_t column) { return fields[column]; };
    const uint64_t id = SampleId(row.source, row.position);
    if (schema_->negatives.per_positive == 0) {
      return columns_.Append(field, id, nullptr, batch, what);
    }
    return WithNegatives(fields, id, batch, what);
  }

 private:
  bool WithNegatives(const std::vector<std::string_view>& fields, uint64_t id, Batch* batch,
                     std::string* what) {
    const DataSchema::Negatives& n = schema_->negatives;
    std::string_view by;
    if (n.seen_by != DataSchema::kNoColumn) by = fields[n.seen_by];
    // All values first: a line gives all its rows or none.
    drawn_.clear();
    for (uint32_t i = 0; i < n.per_positive; ++i) {
      uint64_t value = 0;
      if (!negatives_->Draw(id, i, by, &value)) {
        *what = absl::StrCat(schema_->csv.names[n.seen_by], ": ") + Quoted(by) +
                " was seen with nearly every value of data.negatives";
        return false;
      }
      drawn_.push_back(value);
    }
    float label = 1;
    const auto positive = [&fields](uint32_t column) { return fields[column]; };
    if (!columns_.Append(positive, id, &label, batch, what)) return false;
    label = 0;
    const size_t before = batch->rows - 1;
    for (uint32_t i = 0; i < n.per_positive; ++i) {
      char text[24];
      const auto [end, error] = std::to_chars(text, text + sizeof(text), drawn_[i]);
      const std::string_view value(text, static_cast<size_t>(end - text));
      const auto field = [&](uint32_t c) { return c == n.column ? value : fields[c]; };
      if (columns_.Append(field, Mix64(id + 1 + i), &label, batch, what)) continue;
      decoder::ForgetRows(before, batch);
      return false;
    }
    return true;
  }

  const std::shared_ptr<const DataSchema> schema_;
  const std::shared_ptr<const NegativeSampler> negatives_;
  const FieldColumns columns_;
  CsvSplitter splitter_;
  std::vector<uint64_t> drawn_;
};

// `(user,item)`, a tab, and negative items between tabs: a row with label 1, then rows with label 0.
// (The .test.negative files of He et al., Neural Collaborative Filtering, WWW 2017.)
class NcfDecoder final : public RowDecoder {
 public:
  explicit NcfDecoder(std::shared_ptr<const DataSchema> schema)
      : schema_(std::move(schema)), columns_(*schema_), splitter_('\t', false) {}

  bool Decode(const Row& row, Batch* batch, std::string* what) override {
    const std::string_view text = row.text();
    if (std::memchr(text.data(), 0, text.size()) != nullptr) {
      *what = "a NUL byte";
      return false;
    }
    if (!splitter_.Split(text, kMaxItems + 1, what)) return false;
    const std::vector<std::string_view>& items = splitter_.fields();
    std::string_view user, positive;
    if (!SplitPair(items[0], &user, &positive)) {
      *what = Quoted(items[0]) + " is not (user,item)";
      return false;
    }
    for (size_t i = 1; i < items.size(); ++i) {
      if (!items[i].empty()) continue;
      *what = absl::StrCat("negative ", i, " is empty");
      return false;
    }
    const uint64_t id = SampleId(row.source, row.position);
    const size_t before = batch->rows;
    for (size_t i = 0; i < items.size(); ++i) {
      const std::string_view fields[] = {
          i == 0 ? "1" : "0", user, i == 0 ? positive : items[i]};
      const auto field = [&fields](uint32_t column) { return fields[column]; };
      if (columns_.Append(field, i == 0 ? id : Mix64(id + i), nullptr, batch, what)) continue;
      decoder::ForgetRows(before, batch);
      return false;
    }
    return true;
  }

 private:
  static constexpr uint32_t kMaxItems = 1 << 18;

  const std::shared_ptr<const DataSchema> schema_;
  const FieldColumns columns_;
  CsvSplitter splitter_;
};

}  // namespace

std::unique_ptr<RowDecoder> NewCsvDecoder(std::shared_ptr<const DataSchema> schema,
                                          std::shared_ptr<const NegativeSampler> negatives) {
  return std::make_unique<CsvDecoder>(std::move(schema), std::move(negatives));
}
std::unique_ptr<RowDecoder> NewNcfDecoder(std::shared_ptr<const DataSchema> schema) {
  return std::make_unique<NcfDecoder>(std::move(schema));
}

}  // namespace tidegate
