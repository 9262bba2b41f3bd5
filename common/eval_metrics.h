#pragma once
// Exact metrics of binary predictions. Sums run in a fixed order in double, so the same scores in the
// same order give the same bits.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace tidegate {

inline constexpr double kLogLossClip = 1e-7;  // probabilities are clipped to [clip, 1 - clip]

struct EvalMetrics {
  double auc = 0;          // NaN when the weight of one class is 0
  double logloss = 0;      // weighted mean; NaN without rows
  double calibration = 0;  // mean prediction / mean label; NaN when the mean label is 0
  uint64_t rows = 0;
  double weight_sum = 0;
};

// Labels are positive above 0.5; in the log loss and calibration they count as they are (soft labels
// work). Rows whose label is NaN are left out. `weights` may be empty: all 1. AUC counts ties half
// (midranks). REQUIRES: equal sizes.
EvalMetrics ComputeEvalMetrics(std::span<const float> probabilities, std::span<const float> labels,
                               std::span<const float> weights);

// Collects scores, piece by piece.
class ScoreSet {
 public:
  // Packed float32, as in proto TaskScores. INVALID_ARGUMENT (and nothing added) on lengths that do not
  // match, a probability that is NaN or outside of [0, 1], or a weight that is negative or not finite.
  absl::Status Add(std::string_view probabilities, std::string_view labels, std::string_view weights);
  EvalMetrics Compute() const;
  uint64_t rows() const { return labels_.size(); }

 private:
  std::vector<float> probabilities_, labels_, weights_;
};

}  // namespace tidegate
