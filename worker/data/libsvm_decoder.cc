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
    if (!Labels(batch, what)) {
      decoder::Rollback(batch);
      return false;
    }
    Numbers(batch);
    for (size_t i = 0; i < schema_->features.size(); ++i) {
      Ids(schema_->features[i], &batch->features[i]);
    }
    decoder::Finish(row, batch);
    return true;
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
      if (first) {
        first = false;
        if (!ParseNumber(token, &label_)) {
          *what = "label: " + Quoted(token) + " is no number";
          return false;
        }
        continue;
      }
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
      const double x = l.column == DataSchema::kLabelColumn ? label_ : tokens_[l.column - 1].value;
      if (decoder::AddLabel(l, x, &batch->labels[i])) continue;
      *what = absl::StrCat(l.name, ": ", x, " is outside [0, 1]");
      return false;
    }
    return true;
  }

  void Numbers(Batch* batch) const {
    for (size_t i = 0; i < schema_->numeric.size(); ++i) {
      const DataSchema::Numeric& n = schema_->numeric[i];
      batch->numeric[i].push_back(
          n.column > tokens_.size() ? n.missing_value
                                    : decoder::Transform(n.transform, tokens_[n.column - 1].value));
    }
  }

  void Ids(const DataSchema::Feature& f, FeatureColumn* column) const {
    const bool all = f.column == DataSchema::kAllTokens;
    const size_t begin = all ? 0 : f.column - 1;
    size_t end = all ? tokens_.size() : f.column;
    if (begin >= tokens_.size()) return decoder::AddMissing(f, column);
    if (f.max_values > 0 && end - begin > f.max_values) end = begin + f.max_values;
    for (size_t i = begin; i < end; ++i) {
      if (f.log2_bucket) {
        decoder::AddBucket(f, tokens_[i].value, column);
      } else {
        decoder::AddId(f, tokens_[i].index, column);
      }
      if (f.use_values) column->weights.push_back(static_cast<float>(tokens_[i].value));
    }
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
