#pragma once
// What is in a data set, feature by feature, from decoded batches. Not thread-safe.

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/types.h"
#include "worker/data/batch.h"
#include "worker/data/schema.h"

namespace tidegate::cli {

// Distinct keys by HyperLogLog (Flajolet et al. 2007) with 2^14 registers: standard error 0.8 %; small
// counts by linear counting.
class DistinctCounter {
 public:
  DistinctCounter() : registers_(kRegisters, 0) {}
  void Add(Key key);
  double Estimate() const;

 private:
  static constexpr int kLog2Registers = 14;
  static constexpr size_t kRegisters = size_t{1} << kLog2Registers;
  std::vector<uint8_t> registers_;
};

struct FeatureProfile {
  std::string name;
  uint64_t rows = 0;     // with a value that is not missing
  uint64_t values = 0;   // of those rows
  uint32_t most_values = 0;  // in one row
  double distinct = 0;
  bool exact = true;     // else `distinct` is an estimate
  std::vector<std::pair<Key, uint64_t>> top;  // by falling count, then key; without the missing key
};
struct NumericProfile {
  std::string name;
  uint64_t filled = 0;  // rows that hold exactly the value that stands for missing
  double min = 0, max = 0, mean = 0, deviation = 0;
};
// What to say of a number whose mean or deviation is above kLargeNumber: gradients grow with it, and training may diverge.
// Empty: nothing.
inline constexpr double kLargeNumber = 100;
std::string LargeNumberWarning(const NumericProfile& number, bool log1p);

struct LabelProfile {
  std::string name;
  uint64_t known = 0;
  double mean = 0;
};

class DataProfile {
 public:
  // Keys are counted one by one up to `exact_max` distinct ones a feature; beyond, the count is estimated
  // and the top keys are those among the first `exact_max`.
  DataProfile(const DataSchema& schema, size_t exact_max);

  void Add(const Batch& batch);
  uint64_t rows() const { return rows_; }
  std::vector<FeatureProfile> Features(size_t top) const;
  std::vector<NumericProfile> Numeric() const;
  std::vector<LabelProfile> Labels() const;

 private:
  struct FeatureCounts {
    FeatureProfile profile;
    Key missing_key = 0;
    std::unordered_map<Key, uint64_t> counts;
    DistinctCounter distinct;
  };
  struct Sums {
    double sum = 0;
    double mean = 0, squares = 0;  // Welford 1962: of the differences from the mean
    uint64_t count = 0, filled = 0;
    double min = 0, max = 0;
    float missing = 0;
  };
  void AddKey(Key key, FeatureCounts* feature);

  const size_t exact_max_;
  uint64_t rows_ = 0;
  std::vector<FeatureCounts> features_;
  std::vector<Sums> numeric_, labels_;
  std::vector<std::string> numeric_names_, label_names_;
};

}  // namespace tidegate::cli
