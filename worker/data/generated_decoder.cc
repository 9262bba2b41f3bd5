#include <charconv>
#include <limits>

#include "absl/strings/str_cat.h"
#include "worker/data/decoder_columns.h"

namespace tidegate {
namespace {

// The same keys and values as from the CRITEO_TSV file that WriteRows makes of these rows.
class GeneratedDecoder final : public RowDecoder {
 public:
  GeneratedDecoder(std::shared_ptr<const DataSchema> schema,
                   std::shared_ptr<const Generator> generator)
      : schema_(std::move(schema)), generator_(std::move(generator)) {}

  bool Decode(const Row& row, Batch* batch, std::string* what) override {
    generator_->Make(row.position, &made_);
    if (!Labels(batch, what) || !Extras(batch, what)) {
      decoder::Rollback(batch);
      return false;
    }
    const uint32_t numeric = static_cast<uint32_t>(made_.numeric.size());
    for (size_t i = 0; i < schema_->numeric.size(); ++i) {
      const DataSchema::Numeric& n = schema_->numeric[i];
      const int64_t x = made_.numeric[n.column - 1];
      batch->numeric[i].push_back(x == GeneratedRow::kMissing
                                      ? n.missing_value
                                      : decoder::Transform(n.transform, static_cast<double>(x)));
    }
    for (size_t i = 0; i < schema_->features.size(); ++i) {
      const DataSchema::Feature& f = schema_->features[i];
      if (f.column <= numeric) {
        AddNumeric(f, made_.numeric[f.column - 1], &batch->features[i]);
      } else {
        AddCategory(f, made_.category[f.column - 1 - numeric], &batch->features[i]);
      }
    }
    decoder::Finish(SampleId(row.source, row.position), batch);
    return true;
  }

 private:
  bool Labels(Batch* batch, std::string* what) const {
    for (size_t i = 0; i < schema_->labels.size(); ++i) {
      const DataSchema::Label& l = schema_->labels[i];
      if (l.column == DataSchema::kNoColumn) {
        batch->labels[i].push_back(std::numeric_limits<float>::quiet_NaN());
        continue;
      }
      const int64_t x = l.column == DataSchema::kLabelColumn ? static_cast<int64_t>(made_.label)
                                                             : made_.numeric[l.column - 1];
      if (l.column != DataSchema::kLabelColumn && x == GeneratedRow::kMissing) {
        batch->labels[i].push_back(std::numeric_limits<float>::quiet_NaN());
      } else if (!decoder::AddLabel(l, static_cast<double>(x), &batch->labels[i], what)) {
        return false;
      }
    }
    return true;
  }
  // Of a label or numeric column.
  bool Number(const char* name, uint32_t column, double* x, std::string* what) const {
    const int64_t v = column == DataSchema::kLabelColumn ? static_cast<int64_t>(made_.label)
                                                         : made_.numeric[column - 1];
    *x = static_cast<double>(v);
    if (column == DataSchema::kLabelColumn || v != GeneratedRow::kMissing) return true;
    *what = absl::StrCat(name, ": is missing");
    return false;
  }
  bool Extras(Batch* batch, std::string* what) const {
    double x = 0;
    if (schema_->weight != DataSchema::kNoColumn &&
        !(Number("weight", schema_->weight, &x, what) && decoder::AddWeight(x, batch, what))) {
      return false;
    }
    if (schema_->timestamp != DataSchema::kNoColumn &&
        !(Number("timestamp", schema_->timestamp, &x, what) &&
          decoder::AddTimestamp(x, batch, what))) {
      return false;
    }
    if (schema_->group == DataSchema::kNoColumn) return true;
    const uint32_t numeric = static_cast<uint32_t>(made_.numeric.size());
    if (schema_->group > numeric) {
      decoder::AddGroup(absl::StrCat(made_.category[schema_->group - 1 - numeric]), batch);
      return true;
    }
    if (!Number("group", schema_->group, &x, what)) return false;
    decoder::AddGroup(absl::StrCat(static_cast<int64_t>(x)), batch);
    return true;
  }
  static void AddNumeric(const DataSchema::Feature& f, int64_t x, FeatureColumn* column) {
    if (x == GeneratedRow::kMissing) return decoder::AddMissing(f, column);
    if (f.log2_bucket) return decoder::AddBucket(f, static_cast<double>(x), column);
    AddText(f, static_cast<uint64_t>(x), column);
  }
  static void AddCategory(const DataSchema::Feature& f, uint64_t id, FeatureColumn* column) {
    if (id == 0) return decoder::AddMissing(f, column);
    AddText(f, id, column);
  }
  static void AddText(const DataSchema::Feature& f, uint64_t x, FeatureColumn* column) {
    char text[24];
    const auto [end, error] = std::to_chars(text, text + sizeof(text), x);
    decoder::AddId(f, {text, static_cast<size_t>(end - text)}, column);
  }

  const std::shared_ptr<const DataSchema> schema_;
  const std::shared_ptr<const Generator> generator_;
  GeneratedRow made_;
};

}  // namespace

std::unique_ptr<RowDecoder> NewGeneratedDecoder(std::shared_ptr<const DataSchema> schema,
                                                std::shared_ptr<const Generator> generator) {
  return std::make_unique<GeneratedDecoder>(std::move(schema), std::move(generator));
}

}  // namespace tidegate
