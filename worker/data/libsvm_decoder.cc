#include <cstring>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/data/decoder_columns.h"

namespace tidegate {
namespace {

bool IsSpace(char c) { return c == ' ' || c == '\t'; }

class LibsvmDecoder final : public RowDecoder {
 public:
  explicit LibsvmDecoder(std::shared_ptr<const DataSchema> schema) : schema_(std::move(schema)) {}

  bool Decode(const Row& row, Batch* batch, std::string* what) override {
    if (!Split(row.text(), what)) return false;
    bool good = Labels(batch, what) && Extras(batch, what) && Numbers(batch, what);
    for (size_t i = 0; good && i < schema_->features.size(); ++i) {
      good = Ids(schema_->features[i], &batch->features[i], what);
    }
    if (good) {
      decoder::Finish(SampleId(row.source, row.position), batch);
    } else {
      decoder::Rollback(batch);
    }
    return good;
  }

 private:
  struct Token {
    std::string_view index;
    double value;
  };

  // Fills label_ and tokens_. A token that begins with '#' begins a comment.
  bool Split(std::string_view text, std::string* what) {
    tokens_.clear();
    if (std::memchr(text.data(), 0, text.size()) != nullptr) {
      *what = "a NUL byte";
      return false;
    }
    const char* p = text.data();
    const char* const end = p + text.size();
    bool first = true;
    for (;;) {
      while (p != end && IsSpace(*p)) ++p;
      if (p == end || *p == '#') break;
      const char* const begin = p;
      const char* colon = nullptr;
      for (; p != end && !IsSpace(*p); ++p) {
        if (*p == ':' && colon == nullptr) colon = p;
      }
      const std::string_view token(begin, static_cast<size_t>(p - begin));
      if (first && !(colon != nullptr && !schema_->targets)) {
        first = false;
        if (schema_->targets && !ParseNumber(token, &label_)) {
          *what = "label: " + Quoted(token) + " is no number";
          return false;
        }
        continue;
      }
      first = false;
      Token t{};
      if (colon == nullptr || colon == begin ||
          !ParseNumber({colon + 1, static_cast<size_t>(p - colon - 1)}, &t.value)) {
        *what = absl::StrCat("token ", tokens_.size() + 1, ": ") + Quoted(token) +
                " is not index:value";
        return false;
      }
      t.index = {begin, static_cast<size_t>(colon - begin)};
      tokens_.push_back(t);
    }
    if (first) *what = "no label";
    return !first;
  }

  bool Labels(Batch* batch, std::string* what) const {
    for (size_t i = 0; i < schema_->labels.size(); ++i) {
      const DataSchema::Label& l = schema_->labels[i];
      if (l.column > tokens_.size()) {
        batch->labels[i].push_back(std::numeric_limits<float>::quiet_NaN());
        continue;
      }
      if (!decoder::AddLabel(l, Value(l.column), &batch->labels[i], what)) return false;
    }
    return true;
  }

  double Value(uint32_t column) const {
    return column == DataSchema::kLabelColumn ? label_ : tokens_[column - 1].value;
  }

  bool Extras(Batch* batch, std::string* what) const {
    const std::pair<const char*, uint32_t> wanted[] = {
        {"weight", schema_->weight}, {"timestamp", schema_->timestamp}, {"group", schema_->group}};
    for (const auto& [name, column] : wanted) {
      if (column == DataSchema::kNoColumn || column <= tokens_.size()) continue;
      *what = absl::StrCat(name, ": the line has no token ", column);
      return false;
    }
    if (schema_->weight != DataSchema::kNoColumn &&
        !decoder::AddWeight(Value(schema_->weight), batch, what)) {
      return false;
    }
    if (schema_->timestamp != DataSchema::kNoColumn &&
        !decoder::AddTimestamp(Value(schema_->timestamp), batch, what)) {
      return false;
    }
    if (schema_->group == DataSchema::kLabelColumn) {
      *what = "group: the label is no group";
      return false;
    }
    if (schema_->group != DataSchema::kNoColumn) {
      decoder::AddGroup(tokens_[schema_->group - 1].index, batch);
    }
    return true;
  }

  bool Numbers(Batch* batch, std::string* what) const {
    for (size_t i = 0; i < schema_->numeric.size(); ++i) {
      const DataSchema::Numeric& n = schema_->numeric[i];
      if (n.column > tokens_.size()) {
        batch->numeric[i].push_back(n.missing_value);
      } else if (!decoder::AddNumber(n, tokens_[n.column - 1].value, &batch->numeric[i], what)) {
        return false;
      }
    }
    return true;
  }

  bool Ids(const DataSchema::Feature& f, FeatureColumn* column, std::string* what) const {
    const bool all = f.column == DataSchema::kAllTokens;
    const size_t begin = all ? 0 : f.column - 1;
    const size_t end = all ? tokens_.size() : f.column;
    if (begin >= tokens_.size()) {
      decoder::AddMissing(f, column);
      return true;
    }
    for (size_t i = begin; i < end; ++i) {
      const Token& t = tokens_[i];
      if (f.log2_bucket) {
        decoder::AddBucket(f, t.value, column);
      } else {
        decoder::AddId(f, t.index, column);
      }
      if (!f.use_values) continue;
      if (!decoder::IsFloat(t.value)) return decoder::OutOfRange(f.name, t.value, " is no float", what);
      column->weights.push_back(static_cast<float>(t.value));
    }
    return decoder::Shorten(f, column, what);
  }

  const std::shared_ptr<const DataSchema> schema_;
  double label_ = 0;
  std::vector<Token> tokens_;
};

}  // namespace

std::unique_ptr<RowDecoder> NewLibsvmDecoder(std::shared_ptr<const DataSchema> schema) {
  return std::make_unique<LibsvmDecoder>(std::move(schema));
}

}  // namespace tidegate
