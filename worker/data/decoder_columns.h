#pragma once
// What the decoders share: numbers out of text, and appending to a batch's columns. Inside of
// worker/data.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

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
  column->keys.push_back(FeatureKey(f.salt, text));
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

float Transform(NumericFeature::Transform transform, double x);

// -1 is 0. False when the schema wants [0, 1] and x is outside.
inline bool AddLabel(const DataSchema::Label& l, double x, std::vector<float>* column) {
  if (l.unit_interval && x == -1) x = 0;
  if (l.unit_interval && !(x >= 0 && x <= 1)) return false;
  column->push_back(static_cast<float>(x));
  return true;
}

inline void Finish(const Row& row, Batch* batch) {
  for (FeatureColumn& c : batch->features) EndRow(&c);
  batch->sample_id.push_back(SampleId(row.source, row.position));
  ++batch->rows;
}
// Takes back whatever was appended since the last Finish().
void Rollback(Batch* batch);

}  // namespace decoder

std::unique_ptr<RowDecoder> NewLibsvmDecoder(std::shared_ptr<const DataSchema> schema);
std::unique_ptr<RowDecoder> NewCriteoDecoder(std::shared_ptr<const DataSchema> schema);
std::unique_ptr<RowDecoder> NewGeneratedDecoder(std::shared_ptr<const DataSchema> schema,
                                                std::shared_ptr<const Generator> generator);

}  // namespace tidegate
