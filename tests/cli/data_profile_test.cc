#include "cli/data_profile.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

namespace tidegate::cli {
namespace {

constexpr Key kMissing = 99;

DataSchema Schema() {
  DataSchema schema;
  DataSchema::Feature feature;
  feature.name = "f";
  feature.missing_key = kMissing;
  schema.features = {feature};
  DataSchema::Numeric numeric;
  numeric.name = "n";
  numeric.missing_value = -1;
  schema.numeric = {numeric};
  schema.labels.resize(1);
  schema.labels[0].name = "label";
  return schema;
}

// A row per list of keys.
Batch Rows(const std::vector<std::vector<Key>>& rows) {
  Batch batch;
  Schema().Prepare(&batch);
  for (const std::vector<Key>& keys : rows) {
    FeatureColumn& column = batch.features[0];
    column.keys.insert(column.keys.end(), keys.begin(), keys.end());
    column.offsets.push_back(static_cast<uint32_t>(column.keys.size()));
    batch.numeric[0].push_back(static_cast<float>(batch.rows) - 1);
    batch.labels[0].push_back(batch.rows == 0 ? std::numeric_limits<float>::quiet_NaN() : 1.0f);
    ++batch.rows;
  }
  return batch;
}

TEST_CASE("distinct keys are estimated within three percent, few of them almost exactly") {
  for (const uint64_t keys : {10u, 1000u, 50000u, 1000000u}) {
    DistinctCounter counter;
    for (uint64_t k = 0; k < keys; ++k) {
      counter.Add(k);
      counter.Add(k / 2);
    }
    CHECK(counter.Estimate() == Approx(static_cast<double>(keys)).epsilon(keys <= 1000 ? 0.01 : 0.03));
  }
}

TEST_CASE("coverage and values leave the missing key out") {
  DataProfile profile(Schema(), 100);
  profile.Add(Rows({{kMissing}, {1, 2, 1}, {}, {2}}));
  profile.Add(Rows({{1, kMissing}}));
  CHECK(profile.rows() == 5);
  const FeatureProfile f = profile.Features(1)[0];
  CHECK(f.rows == 3);
  CHECK(f.values == 5);
  CHECK(f.most_values == 3);
  CHECK((f.exact && f.distinct == 2));
  CHECK(f.top == std::vector<std::pair<Key, uint64_t>>{{1, 3}});
}

TEST_CASE("equal counts are ordered by key") {
  DataProfile profile(Schema(), 100);
  profile.Add(Rows({{7}, {5}, {6}, {6}}));
  CHECK(profile.Features(3)[0].top == std::vector<std::pair<Key, uint64_t>>{{6, 2}, {5, 1}, {7, 1}});
}

TEST_CASE("beyond the bound the count is an estimate and says so") {
  DataProfile profile(Schema(), 10);
  std::vector<std::vector<Key>> rows;
  for (Key k = 100; k < 1100; ++k) rows.push_back({k});
  profile.Add(Rows(rows));
  const FeatureProfile f = profile.Features(20)[0];
  CHECK_FALSE(f.exact);
  CHECK(f.distinct == Approx(1000).epsilon(0.02));
  CHECK(f.top.size() == 10);
}

TEST_CASE("numbers and labels: range, mean, and what is not known") {
  DataProfile profile(Schema(), 10);
  profile.Add(Rows({{1}, {1}, {1}, {1}}));  // -1, 0, 1, 2
  const NumericProfile n = profile.Numeric()[0];
  CHECK((n.min == -1 && n.max == 2 && n.mean == 0.5 && n.filled == 1));
  const LabelProfile l = profile.Labels()[0];
  CHECK((l.known == 3 && l.mean == 1));
  CHECK(std::isnan(DataProfile(Schema(), 10).Labels()[0].mean));
}

DataProfile OfNumbers(const std::vector<float>& numbers) {
  Batch batch = Rows(std::vector<std::vector<Key>>(numbers.size(), {1}));
  batch.numeric[0] = numbers;
  DataProfile profile(Schema(), 10);
  profile.Add(batch);
  return profile;
}

TEST_CASE("a deviation stands beside a mean that is far larger") {
  const NumericProfile n = OfNumbers({1.7e9f, 1.7e9f + 1024, 1.7e9f + 2048, 1.7e9f + 3072}).Numeric()[0];
  CHECK(n.mean == 1.7e9 + 1536);
  CHECK(n.deviation == Approx(1024 * std::sqrt(1.25)));
  CHECK(DataProfile(Schema(), 10).Numeric()[0].deviation == 0);
}

TEST_CASE("numbers far from order 1 are warned of, with what helps") {
  const auto warning = [](const std::vector<float>& numbers, bool log1p = false) {
    return LargeNumberWarning(OfNumbers(numbers).Numeric()[0], log1p);
  };
  CHECK(warning({0, 100, 200, 100}).empty());  // a mean of 100, the limit
  CHECK(warning({-3, 3, -1, 1}).empty());
  CHECK(warning({0, 101, 202, 101}).find("LOG1P") != std::string::npos);
  CHECK(warning({-1000, 1000}).find("deviation 1000") != std::string::npos);
  CHECK(warning({-1000, -900}).find("mean -950") != std::string::npos);
  for (const std::string& w : {warning({1.7e9f, 1.7e9f + 4096}), warning({0, 101, 202, 101}, true)}) {
    CHECK(w.find("LOG1P") == std::string::npos);
    CHECK(w.find("hour of a time") != std::string::npos);
  }
}

}  // namespace
}  // namespace tidegate::cli
