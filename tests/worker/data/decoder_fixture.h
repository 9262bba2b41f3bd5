#pragma once
// A decoder of a config's schema, fed line by line.

#include <google/protobuf/text_format.h>

#include <catch2/catch.hpp>
#include <string>
#include <utility>

#include "common/stable_hash.h"
#include "worker/data/row_decoder.h"
#include "worker/data/schema.h"

namespace tidegate {

inline JobConfig ConfigOf(const std::string& text) {
  JobConfig config;
  REQUIRE(google::protobuf::TextFormat::ParseFromString(text, &config));
  return config;
}

struct DecoderFixture {
  explicit DecoderFixture(const std::string& config, const DataSchema::Side& side = {},
                          DecoderParts parts = {}) {
    absl::StatusOr<DataSchema> compiled = DataSchema::Compile(ConfigOf(config), side);
    INFO(compiled.status());
    REQUIRE(compiled.ok());
    schema = std::make_shared<const DataSchema>(*compiled);
    decoder = MakeRowDecoder(schema, std::move(parts));
    schema->Prepare(&batch);
  }
  bool Decode(const std::string& line) {
    Row row;
    row.data = line.data();
    row.size = static_cast<uint32_t>(line.size());
    row.position = batch.rows;
    return decoder->Decode(row, &batch, &what);
  }
  Key KeyOf(const std::string& salt, const std::string& text) {
    return FeatureKey(SaltOf(salt), text);
  }

  std::shared_ptr<const DataSchema> schema;
  std::unique_ptr<RowDecoder> decoder;
  Batch batch;
  std::string what;
};

// Every column has one element a row: what a bad line must leave.
inline void CheckConsistent(const DecoderFixture& f, size_t rows) {
  const Batch& b = f.batch;
  CHECK(b.rows == rows);
  CHECK(b.sample_id.size() == rows);
  for (const FeatureColumn& c : b.features) {
    CHECK(c.offsets.size() == rows + 1);
    CHECK(c.keys.size() == c.offsets.back());
  }
  for (const auto& n : b.numeric) CHECK(n.size() == rows);
  for (const auto& l : b.labels) CHECK(l.size() == rows);
  for (const size_t n : {b.sample_weight.size(), b.group_id.size(), b.timestamp.size()}) {
    CHECK((n == 0 || n == rows));
  }
}

}  // namespace tidegate
