#include <bit>
#include <cstring>
#include <limits>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "absl/strings/str_cat.h"
#include "worker/data/decoder_columns.h"

namespace tidegate {
namespace {

constexpr uint32_t kColumns = 1 + kCriteoNumeric + kCriteoCategories;

// Offsets of the first kColumns - 1 tabs; returns how many tabs there are (counting stops at
// kColumns).
uint32_t FindTabs(std::string_view text, uint32_t* tabs) {
  uint32_t n = 0;
  size_t i = 0;
#ifdef __AVX2__
  const __m256i tab = _mm256_set1_epi8('\t');
  for (; i + 32 <= text.size(); i += 32) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(text.data() + i));
    auto mask = static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, tab)));
    while (mask != 0) {
      if (n == kColumns) return n;
      tabs[n++] = static_cast<uint32_t>(i) + static_cast<uint32_t>(std::countr_zero(mask));
      mask &= mask - 1;
    }
  }
#endif
  for (; i < text.size(); ++i) {
    if (text[i] != '\t') continue;
    if (n == kColumns) return n;
    tabs[n++] = static_cast<uint32_t>(i);
  }
  return n;
}

class CriteoDecoder final : public RowDecoder {
 public:
  explicit CriteoDecoder(std::shared_ptr<const DataSchema> schema) : schema_(std::move(schema)) {}

  bool Decode(const Row& row, Batch* batch, std::string* what) override {
    const std::string_view text = row.text();
    const uint32_t found = FindTabs(text, tabs_);
    if (found != kColumns - 1) {
      *what = found < kColumns ? absl::StrCat(found + 1, " columns, not ", kColumns)
                               : absl::StrCat("more than ", kColumns, " columns");
      return false;
    }
    if (std::memchr(text.data(), 0, text.size()) != nullptr) {
      *what = "a NUL byte";
      return false;
    }
    tabs_[kColumns - 1] = row.size;
    if (!Labels(text, batch, what) || !Numbers(text, batch, what) || !Ids(text, batch, what)) {
      decoder::Rollback(batch);
      return false;
    }
    decoder::Finish(row, batch);
    return true;
  }

 private:
  std::string_view Field(std::string_view text, uint32_t column) const {
    const uint32_t begin = column == 0 ? 0 : tabs_[column - 1] + 1;
    return {text.data() + begin, tabs_[column] - begin};
  }
  static bool Bad(const std::string& name, std::string_view field, std::string* what) {
    *what = name + ": " + Quoted(field) + " is no number";
    return false;
  }

  bool Labels(std::string_view text, Batch* batch, std::string* what) const {
    for (size_t i = 0; i < schema_->labels.size(); ++i) {
      const DataSchema::Label& l = schema_->labels[i];
      const std::string_view field = Field(text, l.column);
      double x = 0;
      if (field.empty() && l.column != DataSchema::kLabelColumn) {
        batch->labels[i].push_back(std::numeric_limits<float>::quiet_NaN());
        continue;
      }
      if (!ParseNumber(field, &x)) return Bad(l.name, field, what);
      if (!decoder::AddLabel(l, x, &batch->labels[i])) {
        *what = l.name + ": " + Quoted(field) + " is outside [0, 1]";
        return false;
      }
    }
    return true;
  }

  bool Numbers(std::string_view text, Batch* batch, std::string* what) const {
    for (size_t i = 0; i < schema_->numeric.size(); ++i) {
      const DataSchema::Numeric& n = schema_->numeric[i];
      const std::string_view field = Field(text, n.column);
      double x = 0;
      if (field.empty()) {
        batch->numeric[i].push_back(n.missing_value);
        continue;
      }
      if (!ParseNumber(field, &x)) return Bad(n.name, field, what);
      batch->numeric[i].push_back(decoder::Transform(n.transform, x));
    }
    return true;
  }

  bool Ids(std::string_view text, Batch* batch, std::string* what) const {
    for (size_t i = 0; i < schema_->features.size(); ++i) {
      const DataSchema::Feature& f = schema_->features[i];
      const std::string_view field = Field(text, f.column);
      FeatureColumn* column = &batch->features[i];
      double x = 0;
      if (field.empty()) {
        decoder::AddMissing(f, column);
      } else if (!f.log2_bucket) {
        decoder::AddId(f, field, column);
      } else if (ParseNumber(field, &x)) {
        decoder::AddBucket(f, x, column);
      } else {
        return Bad(f.name, field, what);
      }
    }
    return true;
  }

  const std::shared_ptr<const DataSchema> schema_;
  uint32_t tabs_[kColumns + 1];  // where each column ends
};

}  // namespace

std::unique_ptr<RowDecoder> NewCriteoDecoder(std::shared_ptr<const DataSchema> schema) {
  return std::make_unique<CriteoDecoder>(std::move(schema));
}

}  // namespace tidegate
