#include "common/progressive.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/eval_metrics.h"
#include "common/logging.h"

namespace tidegate {
namespace {

constexpr double kLogitMax = 8;
constexpr double kBucketsPerUnit = kPredictionBuckets / (2 * kLogitMax);

size_t BucketOfLogit(double logit) {
  const double at = (logit + kLogitMax) * kBucketsPerUnit;
  return static_cast<size_t>(std::clamp(at, 0.0, static_cast<double>(kPredictionBuckets - 1)));
}

using Histogram = google::protobuf::RepeatedField<double>;

void Grow(Histogram* histogram) {
  if (histogram->size() < static_cast<int>(kPredictionBuckets)) histogram->Resize(kPredictionBuckets, 0);
}

bool IsValid(const TaskProgress& counts) {
  const auto histogram = [](const Histogram& h) {
    return (h.empty() || h.size() == static_cast<int>(kPredictionBuckets)) &&
           std::all_of(h.begin(), h.end(), [](double x) { return x >= 0 && std::isfinite(x); });
  };
  return counts.weight_sum() >= 0 && std::isfinite(counts.weight_sum()) && std::isfinite(counts.loss_sum()) &&
         histogram(counts.positives()) && histogram(counts.negatives());
}

bool NotBelow(const Histogram& now, const Histogram& earlier) {
  if (now.size() < earlier.size()) return false;
  for (int i = 0; i < earlier.size(); ++i) {
    if (now[i] < earlier[i]) return false;
  }
  return true;
}

void AddTo(const Histogram& now, const Histogram& earlier, Histogram* sum) {
  if (now.empty()) return;
  Grow(sum);
  for (int i = 0; i < now.size(); ++i) {
    sum->Set(i, sum->Get(i) + now[i] - (earlier.empty() ? 0 : earlier[i]));
  }
}

}  // namespace

size_t PredictionBucket(float probability) {
  const double p = std::clamp<double>(probability, kLogLossClip, 1 - kLogLossClip);
  return BucketOfLogit(std::log(p / (1 - p)));
}

bool HasProgressiveMetrics(const TaskConfig& task) {
  return task.loss() == TaskConfig::BCE || task.loss() == TaskConfig::MSE;
}

void CountPredictions(const TaskConfig& task, std::span<const float> predictions,
                      std::span<const float> labels, std::span<const float> weights, TaskProgress* counts) {
  TG_CHECK(predictions.size() == labels.size() && (weights.empty() || weights.size() == labels.size()))
      << predictions.size() << " predictions, " << labels.size() << " labels";
  const bool probabilities = task.loss() == TaskConfig::BCE;
  counts->set_task(task.name());
  if (probabilities) {
    Grow(counts->mutable_positives());
    Grow(counts->mutable_negatives());
  }
  double weight_sum = 0, loss_sum = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    const double y = labels[i];
    if (std::isnan(y)) continue;
    const double weight = weights.empty() ? 1.0 : weights[i];
    weight_sum += weight;
    if (!probabilities) {
      loss_sum += weight * (predictions[i] - y) * (predictions[i] - y);
      continue;
    }
    const double p = std::clamp<double>(predictions[i], kLogLossClip, 1 - kLogLossClip);
    const double log_p = std::log(p), log_q = std::log(1 - p);
    loss_sum -= weight * (y * log_p + (1 - y) * log_q);
    Histogram* histogram = y > 0.5 ? counts->mutable_positives() : counts->mutable_negatives();
    double* bucket = histogram->Mutable(static_cast<int>(BucketOfLogit(log_p - log_q)));
    *bucket += weight;
  }
  counts->set_weight_sum(counts->weight_sum() + weight_sum);
  counts->set_loss_sum(counts->loss_sum() + loss_sum);
}

bool AddDifference(const TaskProgress& now, const TaskProgress& earlier, TaskProgress* counts) {
  if (!IsValid(now) || now.weight_sum() < earlier.weight_sum() ||
      !NotBelow(now.positives(), earlier.positives()) || !NotBelow(now.negatives(), earlier.negatives())) {
    return false;
  }
  counts->set_task(now.task());
  counts->set_weight_sum(counts->weight_sum() + now.weight_sum() - earlier.weight_sum());
  counts->set_loss_sum(counts->loss_sum() + now.loss_sum() - earlier.loss_sum());
  AddTo(now.positives(), earlier.positives(), counts->mutable_positives());
  AddTo(now.negatives(), earlier.negatives(), counts->mutable_negatives());
  return true;
}

double HistogramAuc(std::span<const double> positives, std::span<const double> negatives) {
  double below = 0, positive_sum = 0, pairs = 0;
  for (size_t i = 0; i < std::min(positives.size(), negatives.size()); ++i) {
    pairs += positives[i] * (below + 0.5 * negatives[i]);
    below += negatives[i];
    positive_sum += positives[i];
  }
  return positive_sum > 0 && below > 0 ? pairs / (positive_sum * below)
                                       : std::numeric_limits<double>::quiet_NaN();
}

std::vector<MetricValue> ProgressiveMetrics(const TaskConfig& task, const TaskProgress& counts) {
  std::vector<MetricValue> metrics;
  if (!(counts.weight_sum() > 0)) return metrics;
  const auto add = [&](const char* name, double value) {
    MetricValue& metric = metrics.emplace_back();
    metric.set_name(absl::StrCat("train/", task.name(), "/", name));
    metric.set_value(value);
  };
  const double mean = counts.loss_sum() / counts.weight_sum();
  if (task.loss() == TaskConfig::BCE) {
    add("auc", HistogramAuc({counts.positives().data(), static_cast<size_t>(counts.positives_size())},
                            {counts.negatives().data(), static_cast<size_t>(counts.negatives_size())}));
    add("logloss", mean);
  } else if (task.loss() == TaskConfig::MSE) {
    add("rmse", std::sqrt(std::max(0.0, mean)));
  }
  return metrics;
}

}  // namespace tidegate
