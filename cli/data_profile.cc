#include "cli/data_profile.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "absl/strings/str_format.h"
#include "common/stable_hash.h"

namespace tidegate::cli {

void DistinctCounter::Add(Key key) {
  const uint64_t hash = Mix64(key);
  uint8_t& r = registers_[hash >> (64 - kLog2Registers)];
  const auto rank = static_cast<uint8_t>(std::countl_zero((hash << kLog2Registers) | (uint64_t{1} << (kLog2Registers - 1))) + 1);
  r = std::max(r, rank);
}

double DistinctCounter::Estimate() const {
  constexpr double kCount = kRegisters;
  constexpr double kAlpha = 0.7213 / (1 + 1.079 / kCount);
  double inverse = 0;
  size_t zeros = 0;
  for (const uint8_t r : registers_) {
    inverse += std::ldexp(1.0, -r);
    zeros += r == 0;
  }
  const double estimate = kAlpha * kCount * kCount / inverse;
  return estimate <= 2.5 * kCount && zeros > 0 ? kCount * std::log(kCount / static_cast<double>(zeros)) : estimate;
}

std::string LargeNumberWarning(const NumericProfile& number, bool log1p) {
  const double mean = std::abs(number.mean);
  if (mean <= kLargeNumber && number.deviation <= kLargeNumber) return "";
  // Of a number that hardly varies, as a time of day in seconds since 1970, the logarithm varies less.
  const bool log_helps = !log1p && number.deviation > 0.1 * mean;
  return absl::StrFormat(
      "number \"%s\": mean %.5g, deviation %.5g: numbers should be of order 1 (at most %g); training on this one may diverge. %s, or leave it out",
      number.name, number.mean, number.deviation, kLargeNumber,
      log_helps ? "Write numeric { transform: LOG1P }, or make an id of it (a table, no numeric)"
                : "Make other columns of it in the file, as its difference from a mean or the hour of a time, or an id (a table, no numeric)");
}

DataProfile::DataProfile(const DataSchema& schema, size_t exact_max) : exact_max_(exact_max) {
  for (const DataSchema::Feature& f : schema.features) {
    FeatureCounts& counts = features_.emplace_back();
    counts.profile.name = f.name;
    counts.missing_key = f.missing_key;
  }
  for (const DataSchema::Numeric& n : schema.numeric) {
    numeric_.emplace_back().missing = n.missing_value;
    numeric_names_.push_back(n.name);
  }
  for (const DataSchema::Label& l : schema.labels) label_names_.push_back(l.name);
  labels_.resize(label_names_.size());
}

void DataProfile::AddKey(Key key, FeatureCounts* feature) {
  feature->distinct.Add(key);
  const auto it = feature->counts.find(key);
  if (it != feature->counts.end()) {
    ++it->second;
  } else if (feature->counts.size() < exact_max_) {
    feature->counts.emplace(key, 1);
  } else {
    feature->profile.exact = false;
  }
}

void DataProfile::Add(const Batch& batch) {
  rows_ += batch.rows;
  for (size_t f = 0; f < features_.size(); ++f) {
    const FeatureColumn& column = batch.features[f];
    FeatureCounts& feature = features_[f];
    for (size_t r = 0; r < batch.rows; ++r) {
      uint32_t values = 0;
      for (uint32_t i = column.offsets[r]; i < column.offsets[r + 1]; ++i) {
        if (column.keys[i] == feature.missing_key) continue;
        AddKey(column.keys[i], &feature);
        ++values;
      }
      feature.profile.rows += values > 0;
      feature.profile.values += values;
      feature.profile.most_values = std::max(feature.profile.most_values, values);
    }
  }
  const auto add = [](const std::vector<float>& column, Sums* sums) {
    for (const float x : column) {
      if (std::isnan(x)) continue;
      sums->min = sums->count == 0 ? x : std::min<double>(sums->min, x);
      sums->max = sums->count == 0 ? x : std::max<double>(sums->max, x);
      sums->filled += x == sums->missing;
      sums->sum += x;
      ++sums->count;
      const double before = x - sums->mean;
      sums->mean += before / static_cast<double>(sums->count);
      sums->squares += before * (x - sums->mean);
    }
  };
  for (size_t n = 0; n < numeric_.size(); ++n) add(batch.numeric[n], &numeric_[n]);
  for (size_t l = 0; l < labels_.size(); ++l) add(batch.labels[l], &labels_[l]);
}

std::vector<FeatureProfile> DataProfile::Features(size_t top) const {
  std::vector<FeatureProfile> out;
  for (const FeatureCounts& feature : features_) {
    FeatureProfile& profile = out.emplace_back(feature.profile);
    profile.distinct = profile.exact ? static_cast<double>(feature.counts.size()) : feature.distinct.Estimate();
    profile.top.assign(feature.counts.begin(), feature.counts.end());
    std::sort(profile.top.begin(), profile.top.end(), [](const auto& a, const auto& b) {
      return a.second != b.second ? a.second > b.second : a.first < b.first;
    });
    if (profile.top.size() > top) profile.top.resize(top);
  }
  return out;
}

std::vector<NumericProfile> DataProfile::Numeric() const {
  std::vector<NumericProfile> out;
  for (size_t n = 0; n < numeric_.size(); ++n) {
    const Sums& s = numeric_[n];
    const auto count = static_cast<double>(std::max<uint64_t>(s.count, 1));
    out.push_back({numeric_names_[n], s.filled, s.min, s.max, s.sum / count, std::sqrt(s.squares / count)});
  }
  return out;
}

std::vector<LabelProfile> DataProfile::Labels() const {
  std::vector<LabelProfile> out;
  for (size_t l = 0; l < labels_.size(); ++l) {
    const Sums& s = labels_[l];
    out.push_back({label_names_[l], s.count, s.count == 0 ? NAN : s.sum / static_cast<double>(s.count)});
  }
  return out;
}

}  // namespace tidegate::cli
