#pragma once
// From a row's text fields, by column number, to a batch: what CRITEO_TSV, CSV and NCF_NEGATIVES
// share. Inside of worker/data. Not thread-safe.

#include <string>
#include <string_view>

#include "worker/data/decoder_columns.h"

namespace tidegate {

class FieldColumns {
 public:
  // `schema` outlives this object. With `own_separator` multi-valued fields are cut there, whatever
  // the features say.
  explicit FieldColumns(const DataSchema& schema, char own_separator = 0)
      : schema_(schema), own_separator_(own_separator), buckets_(schema.features.begin(), schema.features.end()) {}

  // Appends one row, or leaves *batch as it was. `field(column)` is the text of a column. `label`
  // (may be null) is every task's label, whatever the columns say.
  template <typename FieldOf>
  bool Append(const FieldOf& field, uint64_t sample_id, const float* label, Batch* batch,
              std::string* what) const {
    if (!Labels(field, label, batch, what) || !Extras(field, batch, what) ||
        !Numbers(field, batch, what) || !Ids(field, batch, what)) {
      decoder::Rollback(batch);
      return false;
    }
    decoder::Finish(sample_id, batch);
    return true;
  }

 private:
  static bool Parse(std::string_view name, std::string_view field, double* x, std::string* what) {
    if (ParseNumber(field, x)) return true;
    *what = std::string(name) + ": " + Quoted(field) + " is no number";
    return false;
  }

  // A label that is not known is masked where another may be; the first must be there.
  template <typename FieldOf>
  bool Labels(const FieldOf& field, const float* label, Batch* batch, std::string* what) const {
    for (size_t i = 0; i < schema_.labels.size(); ++i) {
      const DataSchema::Label& l = schema_.labels[i];
      if (label != nullptr) {
        batch->labels[i].push_back(*label);
        continue;
      }
      if (l.column == DataSchema::kNoColumn) {
        batch->labels[i].push_back(std::numeric_limits<float>::quiet_NaN());
        continue;
      }
      const std::string_view text = field(l.column);
      if (text.empty() && i > 0) {
        batch->labels[i].push_back(std::numeric_limits<float>::quiet_NaN());
        continue;
      }
      double x = 0;
      if (!Parse(l.name, text, &x, what)) return false;
      if (!decoder::AddLabel(l, x, &batch->labels[i], what)) return false;
    }
    return true;
  }

  template <typename FieldOf>
  bool Extras(const FieldOf& field, Batch* batch, std::string* what) const {
    double x = 0;
    if (schema_.weight != DataSchema::kNoColumn) {
      if (!Parse("weight", field(schema_.weight), &x, what)) return false;
      if (!decoder::AddWeight(x, batch, what)) return false;
    }
    if (schema_.timestamp != DataSchema::kNoColumn) {
      if (!Parse("timestamp", field(schema_.timestamp), &x, what)) return false;
      if (!decoder::AddTimestamp(x, batch, what)) return false;
    }
    if (schema_.group != DataSchema::kNoColumn) {
      const std::string_view text = field(schema_.group);
      if (text.empty()) {
        *what = "group: is empty";
        return false;
      }
      decoder::AddGroup(text, batch);
    }
    return true;
  }

  template <typename FieldOf>
  bool Numbers(const FieldOf& field, Batch* batch, std::string* what) const {
    for (size_t i = 0; i < schema_.numeric.size(); ++i) {
      const DataSchema::Numeric& n = schema_.numeric[i];
      const std::string_view text = field(n.column);
      double x = 0;
      if (text.empty()) {
        batch->numeric[i].push_back(n.missing_value);
        continue;
      }
      if (!Parse(n.name, text, &x, what)) return false;
      if (!decoder::AddNumber(n, x, &batch->numeric[i], what)) return false;
    }
    return true;
  }

  template <typename FieldOf>
  bool Ids(const FieldOf& field, Batch* batch, std::string* what) const {
    for (size_t i = 0; i < schema_.features.size(); ++i) {
      const DataSchema::Feature& f = schema_.features[i];
      const std::string_view text = field(f.column);
      FeatureColumn* column = &batch->features[i];
      double x = 0;
      if (text.empty()) {
        decoder::AddMissing(f, column);
      } else if (f.multi_valued) {
        if (!Values(f, text, column, what)) return false;
      } else if (!f.log2_bucket) {
        if (own_separator_ != 0 && text.find(own_separator_) != text.npos) {
          *what = f.name + ": several values: say id { multi_valued: true }";
          return false;
        }
        decoder::AddId(f, text, column);
      } else if (buckets_[i].Add(text, column)) {
      } else if (Parse(f.name, text, &x, what)) {
        decoder::AddBucket(f, x, column);
      } else {
        return false;
      }
    }
    return true;
  }

  // An empty text between separators is no value.
  bool Values(const DataSchema::Feature& f, std::string_view text, FeatureColumn* column,
              std::string* what) const {
    const size_t before = column->keys.size();
    const char separator = own_separator_ != 0 ? own_separator_ : f.separator;
    for (;;) {
      const size_t end = std::min(text.find(separator), text.size());
      if (end > 0) decoder::AddId(f, text.substr(0, end), column);
      if (end == text.size()) break;
      text.remove_prefix(end + 1);
    }
    if (column->keys.size() == before) decoder::AddMissing(f, column);
    return decoder::Shorten(f, column, what);
  }

  const DataSchema& schema_;
  const char own_separator_;
  const std::vector<decoder::SmallBuckets> buckets_;  // by feature
};

}  // namespace tidegate
