#pragma once
// Shorthand for tests of tables.

#include <catch2/catch.hpp>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "google/protobuf/text_format.h"
#include "server/table/table_group.h"

namespace tidegate {

inline TableSpec ParseTable(const std::string& text) {
  TableSpec spec;
  REQUIRE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  return spec;
}
inline RowLayout LayoutOf(const std::string& text) {
  auto layout = RowLayout::Create(ParseTable(text));
  INFO((layout.ok() ? std::string() : std::string(layout.status().message())));
  REQUIRE(layout.ok());
  return *std::move(layout);
}
inline PackedSpan<Key> Packed(const std::vector<Key>& keys) { return {keys.data(), keys.size()}; }

inline GradientBatch BatchOf(const std::vector<Key>& keys, const std::vector<float>& values) {
  GradientBatch batch;
  batch.keys = Packed(keys);
  batch.values = std::as_bytes(std::span(values));
  return batch;
}
inline std::vector<float> GatherRows(const TableGroup& group, const std::vector<Key>& keys) {
  std::vector<float> rows(keys.size() * group.layout().width());
  group.Gather(Packed(keys), {}, FLOAT32, {}, reinterpret_cast<std::byte*>(rows.data()));
  return rows;
}
inline std::vector<ShardId> ShardRange(ShardId begin, ShardId end) {
  std::vector<ShardId> shards;
  for (ShardId s = begin; s < end; ++s) shards.push_back(s);
  return shards;
}

}  // namespace tidegate
