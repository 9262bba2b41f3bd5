#pragma once
// What the decoders share: numbers out of text, and appending to a batch's columns. Inside of
// worker/data.

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/stable_hash.h"
#include "worker/data/batch.h"
#include "worker/data/row_decoder.h"
#include "worker/data/schema.h"

namespace tidegate {

// A whole decimal number: [+-]digits[.digits][e[+-]digits]. False for anything else, "nan" and
// "inf" and what is beyond a double included. Correctly rounded.
bool ParseNumber(std::string_view text, double* out);

// `text` (at most ~100 bytes, from outside) quoted, with bytes that are no printable ASCII escaped.
std::string Quoted(std::string_view text);

namespace decoder {

inline void AddId(const DataSchema::Feature& f, std::string_view text, FeatureColumn* column) {
  const Key key = FeatureKey(f.salt, text);
  column->keys.push_back(f.hash_buckets == 0 ? key : key % f.hash_buckets);
}
inline void AddMissing(const DataSchema::Feature& f, FeatureColumn* column) {
  if (f.skip_missing) return;
  column->keys.push_back(f.missing_key);
  if (f.use_values) column->weights.push_back(1.0f);
}
inline void EndRow(FeatureColumn* column) {
  column->offsets.push_back(static_cast<uint32_t>(column->keys.size()));
}

// LOG2_BUCKET (3 Idiots' recipe): the text is the decimal of floor(log(x)^2) for x > 2, else "SP"
// and the decimal of floor(x).
void AddBucket(const DataSchema::Feature& f, double x, FeatureColumn* column);

// AddBucket of plain integers of up to four digits, which most counts are, by table. Immutable.
class SmallBuckets {
 public:
  explicit SmallBuckets(const DataSchema::Feature& f);
  // False: `text` is no such number.
  bool Add(std::string_view text, FeatureColumn* column) const {
    if (text.size() > 4 || text.empty()) return false;
    uint32_t n = 0;
    for (const char c : text) {
      const auto digit = static_cast<uint32_t>(static_cast<unsigned char>(c)) - '0';
      if (digit > 9) return false;
      n = 10 * n + digit;
    }
    column->keys.push_back(keys_[index_[n]]);
    return true;
  }

 private:
  const uint8_t* index_;  // [n]: of keys_
  std::vector<Key> keys_;
};

float Transform(NumericFeature::Transform transform, double x);

// False, with "name: x..." in *what.
bool OutOfRange(std::string_view name, double x, const char* text, std::string* what);
bool ShortenTo(const DataSchema::Feature& f, size_t have, FeatureColumn* column,
               std::string* what);

// The functions below are false for what makes a bad line, and *what says why.

// A finite float.
inline bool IsFloat(double x) { return std::fabs(x) <= std::numeric_limits<float>::max(); }
// Where the schema wants [0, 1], -1 is 0.
inline bool AddLabel(const DataSchema::Label& l, double x, std::vector<float>* column,
                     std::string* what) {
  if (l.unit_interval && x == -1) x = 0;
  if (l.unit_interval ? x >= 0 && x <= 1 : IsFloat(x)) {
    column->push_back(static_cast<float>(x));
    return true;
  }
  return OutOfRange(l.name, x, l.unit_interval ? " is outside [0, 1]" : " is no float", what);
}
inline bool AddNumber(const DataSchema::Numeric& n, double x, std::vector<float>* column,
                      std::string* what) {
  if (!IsFloat(x)) return OutOfRange(n.name, x, " is no float", what);
  column->push_back(Transform(n.transform, x));
  return true;
}
inline bool AddWeight(double x, Batch* batch, std::string* what) {
  if (!(x >= 0 && IsFloat(x))) {
    return OutOfRange("weight", x, x < 0 ? " is negative" : " is no float", what);
  }
  batch->sample_weight.push_back(static_cast<float>(x));
  return true;
}
inline bool AddTimestamp(double x, Batch* batch, std::string* what) {
  if (!(std::fabs(x) < 0x1p53 && x == std::floor(x))) {
    return OutOfRange("timestamp", x, " is no integer of seconds", what);
  }
  batch->timestamp.push_back(static_cast<int64_t>(x));
  return true;
}
inline void AddGroup(std::string_view text, Batch* batch) {
  batch->group_id.push_back(StableHash(text));
}
// Holds max_values for the row in hand, whose values begin at offsets.back().
inline bool Shorten(const DataSchema::Feature& f, FeatureColumn* column, std::string* what) {
  const size_t have = column->keys.size() - column->offsets.back();
  if (f.max_values == 0 || have <= f.max_values) return true;
  return ShortenTo(f, have, column, what);
}

inline void Finish(uint64_t sample_id, Batch* batch) {
  for (FeatureColumn& c : batch->features) EndRow(&c);
  batch->sample_id.push_back(sample_id);
  ++batch->rows;
}
// Takes back whatever was appended since the last Finish().
void Rollback(Batch* batch);
// Takes back finished rows, so that `rows` are left.
void ForgetRows(size_t rows, Batch* batch);

}  // namespace decoder

std::unique_ptr<RowDecoder> NewLibsvmDecoder(std::shared_ptr<const DataSchema> schema);
std::unique_ptr<RowDecoder> NewLibffmDecoder(std::shared_ptr<const DataSchema> schema);
std::unique_ptr<RowDecoder> NewCsvDecoder(std::shared_ptr<const DataSchema> schema,
                                          std::shared_ptr<const NegativeSampler> negatives);
std::unique_ptr<RowDecoder> NewRankingDecoder(std::shared_ptr<const DataSchema> schema,
                                              std::shared_ptr<const Candidates> candidates);
std::unique_ptr<RowDecoder> NewNcfDecoder(std::shared_ptr<const DataSchema> schema);
std::unique_ptr<RowDecoder> NewCriteoDecoder(std::shared_ptr<const DataSchema> schema);
std::unique_ptr<RowDecoder> NewGeneratedDecoder(std::shared_ptr<const DataSchema> schema,
                                                std::shared_ptr<const Generator> generator);

}  // namespace tidegate
