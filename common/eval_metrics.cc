#include "common/eval_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/packed_span.h"

namespace tidegate {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

PackedSpan<float> Floats(std::string_view bytes) {
  return PackedSpan<float>(std::as_bytes(std::span(bytes.data(), bytes.size())));
}

// `order` holds the rows that count. Sorted by prediction, groups of ties at a time.
double Auc(std::span<const float> p, std::span<const float> y, std::span<const float> w,
           std::vector<uint32_t> order) {
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return p[a] != p[b] ? p[a] < p[b] : a < b;
  });
  double negatives = 0, positives = 0, pairs = 0;
  for (size_t i = 0; i < order.size();) {
    double tied_positives = 0, tied_negatives = 0;
    const float value = p[order[i]];
    for (; i < order.size() && p[order[i]] == value; ++i) {
      const double weight = w.empty() ? 1.0 : w[order[i]];
      (y[order[i]] > 0.5f ? tied_positives : tied_negatives) += weight;
    }
    pairs += tied_positives * (negatives + 0.5 * tied_negatives);
    negatives += tied_negatives;
    positives += tied_positives;
  }
  return positives > 0 && negatives > 0 ? pairs / (positives * negatives) : kNan;
}

}  // namespace

EvalMetrics ComputeEvalMetrics(std::span<const float> probabilities, std::span<const float> labels,
                               std::span<const float> weights) {
  TG_CHECK(probabilities.size() == labels.size() &&
           (weights.empty() || weights.size() == labels.size()))
      << probabilities.size() << " predictions, " << labels.size() << " labels";
  EvalMetrics metrics;
  std::vector<uint32_t> order;
  order.reserve(labels.size());
  double loss = 0, predicted = 0, observed = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (std::isnan(labels[i])) continue;
    order.push_back(static_cast<uint32_t>(i));
    const double weight = weights.empty() ? 1.0 : weights[i];
    const double p = std::clamp<double>(probabilities[i], kLogLossClip, 1 - kLogLossClip);
    const double y = labels[i];
    loss -= weight * (y * std::log(p) + (1 - y) * std::log(1 - p));
    predicted += weight * probabilities[i];
    observed += weight * y;
    metrics.weight_sum += weight;
  }
  metrics.rows = order.size();
  metrics.logloss = metrics.weight_sum > 0 ? loss / metrics.weight_sum : kNan;
  metrics.calibration = observed > 0 ? predicted / observed : kNan;
  metrics.auc = Auc(probabilities, labels, weights, std::move(order));
  return metrics;
}

absl::Status ScoreSet::Add(std::string_view probabilities, std::string_view labels,
                           std::string_view weights) {
  if (probabilities.size() % 4 != 0 || probabilities.size() != labels.size() ||
      (!weights.empty() && weights.size() != labels.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("scores of mismatched lengths: ", probabilities.size(), " bytes of predictions, ",
                     labels.size(), " of labels, ", weights.size(), " of weights"));
  }
  const auto p = Floats(probabilities), y = Floats(labels), w = Floats(weights);
  for (size_t i = 0; i < p.size(); ++i) {
    if (!(p[i] >= 0 && p[i] <= 1)) {
      return absl::InvalidArgumentError(absl::StrCat("prediction ", p[i], " is not in [0, 1]"));
    }
    if (i < w.size() && !(w[i] >= 0 && std::isfinite(w[i]))) {
      return absl::InvalidArgumentError(absl::StrCat("weight ", w[i], " of a sample is not valid"));
    }
  }
  for (size_t i = 0; i < p.size(); ++i) {
    probabilities_.push_back(p[i]);
    labels_.push_back(y[i]);
    weights_.push_back(w.empty() ? 1.0f : w[i]);
  }
  return absl::OkStatus();
}

EvalMetrics ScoreSet::Compute() const {
  return ComputeEvalMetrics(probabilities_, labels_, weights_);
}

}  // namespace tidegate
