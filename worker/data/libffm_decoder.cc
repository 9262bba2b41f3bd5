#include <charconv>
#include <cstring>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "worker/data/decoder_columns.h"

namespace tidegate {
namespace {

bool IsSpace(char c) { return c == ' ' || c == '\t'; }

// Every token goes, as it is read, to what reads its field; what is not there is filled in after.
class LibffmDecoder final : public RowDecoder {
 public:
  explicit LibffmDecoder(std::shared_ptr<const DataSchema> schema) : schema_(std::move(schema)) {
    for (uint32_t i = 0; i < schema_->features.size(); ++i) {
      Read(schema_->features[i].column, {Reader::kFeature, i});
    }
    for (uint32_t i = 0; i < schema_->numeric.size(); ++i) {
      Read(schema_->numeric[i].column, {Reader::kNumeric, i});
    }
    for (uint32_t i = 0; i < schema_->labels.size(); ++i) {
      Read(schema_->labels[i].column, {Reader::kLabel, i});
    }
    Read(schema_->weight, {Reader::kWeight, 0});
    Read(schema_->group, {Reader::kGroup, 0});
    Read(schema_->timestamp, {Reader::kTimestamp, 0});
  }

  bool Decode(const Row& row, Batch* batch, std::string* what) override {
    if (Tokens(row.text(), batch, what) && Complete(batch, what)) {
      decoder::Finish(SampleId(row.source, row.position), batch);
      return true;
    }
    decoder::Rollback(batch);
    return false;
  }

 private:
  struct Reader {
    enum What { kFeature, kNumeric, kLabel, kWeight, kGroup, kTimestamp } what;
    uint32_t index;
  };
  struct Token {
    uint32_t field;
    std::string_view index;
    double value;
  };

  void Read(uint32_t column, Reader reader) {
    if (column == DataSchema::kNoColumn) return;
    if (column == DataSchema::kAllTokens) {
      of_all_.push_back(reader);
    } else if (column == DataSchema::kLabelColumn) {
      of_label_.push_back(reader);
    } else {
      if (of_field_.size() < column) of_field_.resize(column);
      of_field_[column - 1].push_back(reader);
    }
  }

  // A token that begins with '#' begins a comment.
  bool Tokens(std::string_view text, Batch* batch, std::string* what) {
    if (std::memchr(text.data(), 0, text.size()) != nullptr) {
      *what = "a NUL byte";
      return false;
    }
    const char* p = text.data();
    const char* const end = p + text.size();
    size_t number = 0;
    for (;; ++number) {
      while (p != end && IsSpace(*p)) ++p;
      if (p == end || *p == '#') break;
      const char* const begin = p;
      while (p != end && !IsSpace(*p)) ++p;
      const std::string_view token(begin, static_cast<size_t>(p - begin));
      const bool label_left_out = !schema_->targets && token.find(':') != token.npos;
      if (number == 0 && !label_left_out) {
        if (schema_->targets && !ParseNumber(token, &label_)) {
          *what = "label: " + Quoted(token) + " is no number";
          return false;
        }
        for (const Reader& r : of_label_) {
          if (!Take(r, {0, token, label_}, batch, what)) return false;
        }
        continue;
      }
      Token t{};
      if (!ParseToken(token, &t)) {
        *what = absl::StrCat("token ", number, ": ") + Quoted(token) + " is not field:index:value";
        return false;
      }
      for (const Reader& r : of_all_) {
        if (!Take(r, t, batch, what)) return false;
      }
      if (t.field >= of_field_.size()) continue;
      for (const Reader& r : of_field_[t.field]) {
        if (!Take(r, t, batch, what)) return false;
      }
    }
    if (number == 0) *what = "no label";
    return number != 0;
  }

  static bool ParseToken(std::string_view token, Token* t) {
    const char* const end = token.data() + token.size();
    const auto [colon, error] = std::from_chars(token.data(), end, t->field);
    if (error != std::errc() || colon == end || *colon != ':') return false;
    const char* const index = colon + 1;
    const auto* second =
        static_cast<const char*>(std::memchr(index, ':', static_cast<size_t>(end - index)));
    if (second == nullptr || second == index) return false;
    t->index = {index, static_cast<size_t>(second - index)};
    return ParseNumber({second + 1, static_cast<size_t>(end - second - 1)}, &t->value);
  }

  static bool Twice(std::string_view name, uint32_t field, const char* advice, std::string* what) {
    *what = absl::StrCat(ToAbsl(name), ": field ", field, " is there twice", advice);
    return false;
  }

  bool Take(const Reader& r, const Token& t, Batch* batch, std::string* what) const {
    const size_t rows = batch->rows;
    switch (r.what) {
      case Reader::kFeature: {
        const DataSchema::Feature& f = schema_->features[r.index];
        FeatureColumn* column = &batch->features[r.index];
        if (!f.multi_valued && column->keys.size() > column->offsets.back()) {
          return Twice(f.name, t.field, ": say id { multi_valued: true }", what);
        }
        if (f.log2_bucket) {
          decoder::AddBucket(f, t.value, column);
        } else {
          decoder::AddId(f, t.index, column);
        }
        if (!f.use_values) return true;
        if (!decoder::IsFloat(t.value)) return decoder::OutOfRange(f.name, t.value, " is no float", what);
        column->weights.push_back(static_cast<float>(t.value));
        return true;
      }
      case Reader::kNumeric: {
        const DataSchema::Numeric& n = schema_->numeric[r.index];
        if (batch->numeric[r.index].size() > rows) return Twice(n.name, t.field, "", what);
        return decoder::AddNumber(n, t.value, &batch->numeric[r.index], what);
      }
      case Reader::kLabel: {
        const DataSchema::Label& l = schema_->labels[r.index];
        if (batch->labels[r.index].size() > rows) return Twice(l.name, t.field, "", what);
        return decoder::AddLabel(l, t.value, &batch->labels[r.index], what);
      }
      case Reader::kWeight:
        if (batch->sample_weight.size() > rows) return Twice("weight", t.field, "", what);
        return decoder::AddWeight(t.value, batch, what);
      case Reader::kGroup:
        if (batch->group_id.size() > rows) return Twice("group", t.field, "", what);
        decoder::AddGroup(t.index, batch);
        return true;
      case Reader::kTimestamp:
        if (batch->timestamp.size() > rows) return Twice("timestamp", t.field, "", what);
        return decoder::AddTimestamp(t.value, batch, what);
    }
    return false;
  }

  bool Complete(Batch* batch, std::string* what) const {
    const size_t rows = batch->rows;
    for (size_t i = 0; i < schema_->features.size(); ++i) {
      FeatureColumn* column = &batch->features[i];
      if (column->keys.size() == column->offsets.back()) {
        decoder::AddMissing(schema_->features[i], column);
      } else if (!decoder::Shorten(schema_->features[i], column, what)) {
        return false;
      }
    }
    for (size_t i = 0; i < schema_->numeric.size(); ++i) {
      if (batch->numeric[i].size() == rows) {
        batch->numeric[i].push_back(schema_->numeric[i].missing_value);
      }
    }
    for (size_t i = 0; i < schema_->labels.size(); ++i) {
      if (batch->labels[i].size() == rows) {
        batch->labels[i].push_back(std::numeric_limits<float>::quiet_NaN());
      }
    }
    const char* missing = nullptr;
    if (schema_->weight != DataSchema::kNoColumn && batch->sample_weight.size() == rows) {
      missing = "weight";
    } else if (schema_->group != DataSchema::kNoColumn && batch->group_id.size() == rows) {
      missing = "group";
    } else if (schema_->timestamp != DataSchema::kNoColumn && batch->timestamp.size() == rows) {
      missing = "timestamp";
    }
    if (missing != nullptr) *what = absl::StrCat(missing, ": the line has no such field");
    return missing == nullptr;
  }

  const std::shared_ptr<const DataSchema> schema_;
  std::vector<std::vector<Reader>> of_field_;  // [field]
  std::vector<Reader> of_all_;
  std::vector<Reader> of_label_;
  double label_ = 0;
};

}  // namespace

std::unique_ptr<RowDecoder> NewLibffmDecoder(std::shared_ptr<const DataSchema> schema) {
  return std::make_unique<LibffmDecoder>(std::move(schema));
}

}  // namespace tidegate
