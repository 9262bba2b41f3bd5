#include <cstring>

#include "absl/strings/str_cat.h"
#include "worker/data/field_columns.h"
#include "worker/data/fields.h"

namespace tidegate {
namespace {

constexpr uint32_t kColumns = 1 + kCriteoNumeric + kCriteoCategories;

class CriteoDecoder final : public RowDecoder {
 public:
  explicit CriteoDecoder(std::shared_ptr<const DataSchema> schema)
      : schema_(std::move(schema)), columns_(*schema_) {}

  bool Decode(const Row& row, Batch* batch, std::string* what) override {
    const std::string_view text = row.text();
    const uint32_t found = FindDelimiters(text, '\t', kColumns, tabs_);
    const uint32_t left_out = found == kColumns - 2 && !schema_->targets ? 1 : 0;  // the label
    if (found + left_out != kColumns - 1) {
      *what = found < kColumns ? absl::StrCat(found + 1, " columns, not ", kColumns)
                               : absl::StrCat("more than ", kColumns, " columns");
      return false;
    }
    if (std::memchr(text.data(), 0, text.size()) != nullptr) {
      *what = "a NUL byte";
      return false;
    }
    tabs_[found] = row.size;
    const auto field = [&](uint32_t named) {  // never the label where that is left out
      const uint32_t column = named - left_out;
      const uint32_t begin = column == 0 ? 0 : tabs_[column - 1] + 1;
      return std::string_view(text.data() + begin, tabs_[column] - begin);
    };
    return columns_.Append(field, SampleId(row.source, row.position), nullptr, batch, what);
  }

 private:
  const std::shared_ptr<const DataSchema> schema_;
  const FieldColumns columns_;
  uint32_t tabs_[kColumns + 1];  // where each column ends
};

}  // namespace

std::unique_ptr<RowDecoder> NewCriteoDecoder(std::shared_ptr<const DataSchema> schema) {
  return std::make_unique<CriteoDecoder>(std::move(schema));
}

}  // namespace tidegate
