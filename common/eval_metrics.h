#pragma once
// Exact metrics of predictions. Sums run in a fixed order in double, so the same scores in the same order
// give the same bits. Thread-safe (functions), ScoreSet is not.

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
  double rmse = 0;         // root of the weighted mean of (prediction - label)^2; NaN without rows
  uint64_t rows = 0;
  double weight_sum = 0;
};

// Labels are positive above 0.5; in the log loss, calibration and RMSE they count as they are (soft labels
// work). Rows whose label is NaN are left out. `weights` may be empty: all 1. AUC counts ties half
// (midranks). REQUIRES: equal sizes.
EvalMetrics ComputeEvalMetrics(std::span<const float> predictions, std::span<const float> labels,
                               std::span<const float> weights);

// Rows of one group id are a group, wherever they stand.
struct GroupedMetrics {
  // AUC within each group that has both classes, weighted by the group's sample weights; NaN without one.
  double gauc = 0;
  uint64_t gauc_groups = 0;
  // Of the groups with a positive, each counting once; NaN without one. Rows rank by falling prediction; a
  // tie ranks the negatives first (a constant prediction is no hit). Sample weights are not used.
  double hit_rate = 0;  // a positive is among the first k
  double ndcg = 0;      // gain 1 / log2(rank + 1) of the positives among the first k, over the best possible
  double recall = 0;    // share of the group's positives that are among the first k
  uint64_t ranked_groups = 0;
};
// REQUIRES: equal sizes (weights may be empty), k > 0.
GroupedMetrics ComputeGroupedMetrics(std::span<const float> predictions, std::span<const float> labels,
                                     std::span<const float> weights, std::span<const uint64_t> groups,
                                     uint32_t k);

// The same of positives that were ranked among candidates elsewhere: above[i] negatives score as high as positive i or
// higher. No GAUC. REQUIRES: equal sizes, k > 0.
GroupedMetrics ComputeRankedMetrics(std::span<const uint32_t> above, std::span<const uint64_t> groups, uint32_t k);

// Counts, for each positive of a stream of rows, the negatives that follow it and score as high or higher. The stream
// REQUIRES: begins with a positive; rows of a positive may come in any number of pieces.
class RankCounter {
 public:
  // `groups` may be empty. A prediction that is no number counts as high.
  void Add(std::span<const float> predictions, std::span<const float> labels, std::span<const uint64_t> groups);

  // Of the positives so far, in their order.
  const std::vector<float>& predictions() const { return predictions_; }
  const std::vector<uint64_t>& groups() const { return groups_; }
  const std::vector<uint32_t>& above() const { return above_; }

 private:
  std::vector<float> predictions_;
  std::vector<uint64_t> groups_;
  std::vector<uint32_t> above_;
};

// Collects scores, piece by piece.
class ScoreSet {
 public:
  enum class Predictions { kProbabilities, kAnyFinite };
  explicit ScoreSet(Predictions predictions = Predictions::kProbabilities) : allowed_(predictions) {}

  // Packed as in proto TaskScores: float32, groups uint64 or empty. INVALID_ARGUMENT (and nothing added) on
  // lengths that do not match, a prediction that is not finite or, of probabilities, outside of [0, 1], a
  // weight that is negative or not finite, or group ids for some pieces only.
  absl::Status Add(std::string_view predictions, std::string_view labels, std::string_view weights,
                   std::string_view groups = {});
  // Of positives with ComputeRankedMetrics' counts, uint32. INVALID_ARGUMENT also for a set that has other rows.
  absl::Status AddRanked(std::string_view predictions, std::string_view groups, std::string_view above);
  EvalMetrics Compute() const;
  bool has_groups() const { return !groups_.empty() || labels_.empty(); }
  // REQUIRES: has_groups().
  GroupedMetrics ComputeGrouped(uint32_t k) const;
  uint64_t rows() const { return labels_.size(); }

 private:
  Predictions allowed_;
  std::vector<float> predictions_, labels_, weights_;
  std::vector<uint64_t> groups_;
  std::vector<uint32_t> above_;  // of AddRanked
};

}  // namespace tidegate
