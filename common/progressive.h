#pragma once
// Progressive (prequential) metrics: each training sample is predicted before the update that it takes part
// in, so the stream validates itself. A worker counts, per task, log loss and a histogram of its predictions
// by label; AUC is computed from the histogram: two predictions in one of its kPredictionBuckets buckets, which
// are 1/32 wide in the logit from -8 to 8, count as tied. Thread-safe (functions only).

#include <cstddef>
#include <span>
#include <vector>

#include "proto/cluster.pb.h"
#include "proto/job.pb.h"

namespace tidegate {

inline constexpr size_t kPredictionBuckets = 512;

// Of a probability; all below a logit of -8 share the first, all above 8 the last.
size_t PredictionBucket(float probability);

// BCE: log loss and histogram; MSE: squared error. Of other losses nothing is counted.
bool HasProgressiveMetrics(const TaskConfig& task);
// Rows whose label is NaN are left out. `weights` may be empty: all 1. REQUIRES: HasProgressiveMetrics, equal
// sizes.
void CountPredictions(const TaskConfig& task, std::span<const float> predictions,
                      std::span<const float> labels, std::span<const float> weights, TaskProgress* counts);

// counts += now - earlier. False, and nothing is added, when the counts cannot be those of one task at two
// times (another number of buckets, fewer than before, not finite).
bool AddDifference(const TaskProgress& now, const TaskProgress& earlier, TaskProgress* counts);

// Exact for what the histogram holds, ties half; NaN when the weight of one class is 0.
double HistogramAuc(std::span<const double> positives, std::span<const double> negatives);

// "train/<task>/auc" and "/logloss", or "/rmse"; nothing without weight.
std::vector<MetricValue> ProgressiveMetrics(const TaskConfig& task, const TaskProgress& counts);

}  // namespace tidegate
