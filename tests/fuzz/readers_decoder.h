#pragma once
// What holds for a decoder on any line: it adds whole rows, or nothing and says why (of a full ranking, nothing also
// for a line that is no positive).

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>

#include "common/logging.h"
#include "worker/data/row_decoder.h"
#include "worker/data/schema.h"

namespace tidegate {

class DecoderFuzzer {
 public:
  explicit DecoderFuzzer(const JobConfig& config, DecoderParts parts = {}) {
    absl::StatusOr<DataSchema> schema = DataSchema::Compile(config);
    TG_CHECK(schema.ok()) << schema.status();
    schema_ = std::make_shared<const DataSchema>(*std::move(schema));
    decoder_ = MakeRowDecoder(schema_, std::move(parts));
    schema_->Prepare(&batch_);
  }

  void Run(const uint8_t* data, size_t size) {
    if (batch_.rows > 100) schema_->Prepare(&batch_);
    const std::string line(reinterpret_cast<const char*>(data), size);
    Row row;
    row.data = line.data();
    row.size = static_cast<uint32_t>(size);
    const size_t before = batch_.rows;
    what_.clear();
    const bool good = decoder_->Decode(row, &batch_, &what_);
    TG_CHECK(good || !what_.empty());
    const bool ranking = schema_->ranking.item != DataSchema::kNoColumn;
    TG_CHECK(good ? batch_.rows > before || ranking : batch_.rows == before);
    const absl::Status more = decoder_->Continue(batch_.rows + 10, &batch_);
    TG_CHECK(more.ok() || ranking) << more;
    Consistent();
  }

 private:
  void Consistent() const {
    for (size_t i = 0; i < batch_.features.size(); ++i) {
      const FeatureColumn& c = batch_.features[i];
      TG_CHECK(c.offsets.size() == batch_.rows + 1);
      TG_CHECK(c.offsets.back() == c.keys.size());
      TG_CHECK(c.weights.size() == (schema_->features[i].use_values ? c.keys.size() : 0));
    }
    for (const auto& n : batch_.numeric) TG_CHECK(n.size() == batch_.rows);
    for (const auto& l : batch_.labels) {
      TG_CHECK(l.size() == batch_.rows);
      for (const float x : l) TG_CHECK(!(x < 0 || x > 1)) << x;
    }
    TG_CHECK(batch_.sample_id.size() == batch_.rows);
    TG_CHECK(batch_.sample_weight.size() == Rows(schema_->weight));
    TG_CHECK(batch_.group_id.size() == Rows(schema_->group));
    TG_CHECK(batch_.timestamp.size() == Rows(schema_->timestamp));
    for (const float w : batch_.sample_weight) TG_CHECK(w >= 0 && std::isfinite(w)) << w;
  }

  size_t Rows(uint32_t column) const { return column == DataSchema::kNoColumn ? 0 : batch_.rows; }

  std::shared_ptr<const DataSchema> schema_;
  std::unique_ptr<RowDecoder> decoder_;
  Batch batch_;
  std::string what_;
};

inline FeatureConfig* AddFeature(const char* name, const char* column, const char* table,
                                 JobConfig* config) {
  FeatureConfig* f = config->add_feature();
  f->set_name(name);
  f->set_column(column);
  if (table != nullptr) f->set_table(table);
  return f;
}

}  // namespace tidegate
