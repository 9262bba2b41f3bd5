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

template <typename T>
PackedSpan<T> Packed(std::string_view bytes) {
  return PackedSpan<T>(std::as_bytes(std::span(bytes.data(), bytes.size())));
}

// Of the rows in `order`, which rises by prediction.
double AucInOrder(std::span<const float> p, std::span<const float> y, std::span<const float> w,
                  std::span<const uint32_t> order) {
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

// `order` holds the rows that count.
double Auc(std::span<const float> p, std::span<const float> y, std::span<const float> w,
           std::vector<uint32_t> order) {
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return p[a] != p[b] ? p[a] < p[b] : a < b;
  });
  return AucInOrder(p, y, w, order);
}

struct Ranking {
  uint64_t positives = 0;
  uint64_t hits = 0;  // positives among the first k
  double gain = 0;
  double best_gain = 0;

  void Add(uint64_t rank, uint32_t k) {  // the next positive's, from 1
    if (++positives <= k) best_gain += 1 / std::log2(static_cast<double>(positives) + 1);
    if (rank > k) return;
    ++hits;
    gain += 1 / std::log2(static_cast<double>(rank) + 1);
  }
  void AddTo(uint64_t* groups, double* hit_sum, double* gain_sum, double* recall_sum) const {
    if (positives == 0) return;
    ++*groups;
    *hit_sum += hits > 0 ? 1 : 0;
    *gain_sum += gain / best_gain;
    *recall_sum += static_cast<double>(hits) / static_cast<double>(positives);
  }
};

// Of one group's rows, which rise by prediction.
Ranking Rank(std::span<const float> p, std::span<const float> y, std::span<const uint32_t> order, uint32_t k) {
  Ranking ranking;
  uint64_t above = 0;
  for (size_t end = order.size(); end > 0;) {
    const float value = p[order[end - 1]];
    uint64_t tied_positives = 0, tied_negatives = 0;
    for (; end > 0 && p[order[end - 1]] == value; --end) {
      ++(y[order[end - 1]] > 0.5f ? tied_positives : tied_negatives);
    }
    above += tied_negatives;
    for (; tied_positives > 0; --tied_positives) ranking.Add(++above, k);
  }
  return ranking;
}

}  // namespace

EvalMetrics ComputeEvalMetrics(std::span<const float> predictions, std::span<const float> labels,
                               std::span<const float> weights) {
  TG_CHECK(predictions.size() == labels.size() &&
           (weights.empty() || weights.size() == labels.size()))
      << predictions.size() << " predictions, " << labels.size() << " labels";
  EvalMetrics metrics;
  std::vector<uint32_t> order;
  order.reserve(labels.size());
  double loss = 0, predicted = 0, observed = 0, squares = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (std::isnan(labels[i])) continue;
    order.push_back(static_cast<uint32_t>(i));
    const double weight = weights.empty() ? 1.0 : weights[i];
    const double p = std::clamp<double>(predictions[i], kLogLossClip, 1 - kLogLossClip);
    const double y = labels[i];
    loss -= weight * (y * std::log(p) + (1 - y) * std::log(1 - p));
    predicted += weight * predictions[i];
    squares += weight * (predictions[i] - y) * (predictions[i] - y);
    observed += weight * y;
    metrics.weight_sum += weight;
  }
  metrics.rows = order.size();
  metrics.logloss = metrics.weight_sum > 0 ? loss / metrics.weight_sum : kNan;
  metrics.calibration = observed > 0 ? predicted / observed : kNan;
  metrics.rmse = metrics.weight_sum > 0 ? std::sqrt(squares / metrics.weight_sum) : kNan;
  metrics.auc = Auc(predictions, labels, weights, std::move(order));
  return metrics;
}

GroupedMetrics ComputeGroupedMetrics(std::span<const float> predictions, std::span<const float> labels,
                                     std::span<const float> weights, std::span<const uint64_t> groups,
                                     uint32_t k) {
  TG_CHECK(predictions.size() == labels.size() && groups.size() == labels.size() && k > 0 &&
           (weights.empty() || weights.size() == labels.size()))
      << predictions.size() << " predictions, " << labels.size() << " labels, " << groups.size() << " groups";
  std::vector<uint32_t> order;
  order.reserve(labels.size());
  for (size_t i = 0; i < labels.size(); ++i) {
    if (!std::isnan(labels[i])) order.push_back(static_cast<uint32_t>(i));
  }
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    if (groups[a] != groups[b]) return groups[a] < groups[b];
    return predictions[a] != predictions[b] ? predictions[a] < predictions[b] : a < b;
  });
  GroupedMetrics metrics;
  double auc_sum = 0, auc_weight = 0, hits = 0, gain = 0, recall = 0;
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin;
    double weight = 0;
    for (; end < order.size() && groups[order[end]] == groups[order[begin]]; ++end) {
      weight += weights.empty() ? 1.0 : weights[order[end]];
    }
    const std::span<const uint32_t> group(order.data() + begin, end - begin);
    begin = end;
    if (const double auc = AucInOrder(predictions, labels, weights, group); !std::isnan(auc)) {
      auc_sum += weight * auc;
      auc_weight += weight;
      ++metrics.gauc_groups;
    }
    Rank(predictions, labels, group, k).AddTo(&metrics.ranked_groups, &hits, &gain, &recall);
  }
  metrics.gauc = auc_weight > 0 ? auc_sum / auc_weight : kNan;
  const double ranked = static_cast<double>(metrics.ranked_groups);
  metrics.hit_rate = ranked > 0 ? hits / ranked : kNan;
  metrics.ndcg = ranked > 0 ? gain / ranked : kNan;
  metrics.recall = ranked > 0 ? recall / ranked : kNan;
  return metrics;
}

GroupedMetrics ComputeRankedMetrics(std::span<const uint32_t> above, std::span<const uint64_t> groups, uint32_t k) {
  TG_CHECK(above.size() == groups.size() && k > 0) << above.size() << " positives, " << groups.size() << " groups";
  std::vector<uint32_t> order(above.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    if (groups[a] != groups[b]) return groups[a] < groups[b];
    return above[a] != above[b] ? above[a] < above[b] : a < b;
  });
  GroupedMetrics metrics;
  double hits = 0, gain = 0, recall = 0;
  for (size_t begin = 0; begin < order.size();) {
    Ranking ranking;
    for (; begin < order.size(); ++begin) {
      const uint32_t i = order[begin];
      if (ranking.positives > 0 && groups[i] != groups[order[begin - 1]]) break;
      ranking.Add(uint64_t{above[i]} + ranking.positives + 1, k);
    }
    ranking.AddTo(&metrics.ranked_groups, &hits, &gain, &recall);
  }
  metrics.gauc = kNan;
  const double ranked = static_cast<double>(metrics.ranked_groups);
  metrics.hit_rate = ranked > 0 ? hits / ranked : kNan;
  metrics.ndcg = ranked > 0 ? gain / ranked : kNan;
  metrics.recall = ranked > 0 ? recall / ranked : kNan;
  return metrics;
}

void RankCounter::Add(std::span<const float> predictions, std::span<const float> labels,
                      std::span<const uint64_t> groups) {
  for (size_t i = 0; i < predictions.size(); ++i) {
    TG_CHECK(labels[i] > 0.5f || !predictions_.empty()) << "no positive in front of a candidate";
    if (labels[i] > 0.5f) {
      predictions_.push_back(predictions[i]);
      if (!groups.empty()) groups_.push_back(groups[i]);
      above_.push_back(0);
    } else if (!(predictions[i] < predictions_.back())) {
      ++above_.back();
    }
  }
}

absl::Status ScoreSet::Add(std::string_view predictions, std::string_view labels,
                           std::string_view weights, std::string_view groups) {
  if (predictions.size() % 4 != 0 || predictions.size() != labels.size() ||
      (!weights.empty() && weights.size() != labels.size()) ||
      (!groups.empty() && groups.size() != 2 * labels.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("scores of mismatched lengths: ", predictions.size(), " bytes of predictions, ",
                     labels.size(), " of labels, ", weights.size(), " of weights, ", groups.size(),
                     " of group ids"));
  }
  if (labels.empty()) return absl::OkStatus();
  if (!labels_.empty() && groups.empty() != groups_.empty()) {
    return absl::InvalidArgumentError("group ids for some of the scores only");
  }
  const auto p = Packed<float>(predictions), y = Packed<float>(labels), w = Packed<float>(weights);
  const auto g = Packed<uint64_t>(groups);
  for (size_t i = 0; i < p.size(); ++i) {
    if (allowed_ == Predictions::kProbabilities && !(p[i] >= 0 && p[i] <= 1)) {
      return absl::InvalidArgumentError(absl::StrCat("prediction ", p[i], " is not in [0, 1]"));
    }
    if (!std::isfinite(p[i])) {
      return absl::InvalidArgumentError(absl::StrCat("prediction ", p[i], " is not finite"));
    }
    if (i < w.size() && !(w[i] >= 0 && std::isfinite(w[i]))) {
      return absl::InvalidArgumentError(absl::StrCat("weight ", w[i], " of a sample is not valid"));
    }
  }
  for (size_t i = 0; i < p.size(); ++i) {
    predictions_.push_back(p[i]);
    labels_.push_back(y[i]);
    weights_.push_back(w.empty() ? 1.0f : w[i]);
    if (!g.empty()) groups_.push_back(g[i]);
  }
  return absl::OkStatus();
}

EvalMetrics ScoreSet::Compute() const { return ComputeEvalMetrics(predictions_, labels_, weights_); }

absl::Status ScoreSet::AddRanked(std::string_view predictions, std::string_view groups, std::string_view above) {
  if (above.size() != predictions.size() || groups.size() != 2 * above.size() || above_.size() != labels_.size()) {
    return absl::InvalidArgumentError(absl::StrCat("ranked positives of mismatched lengths: ", predictions.size(),
                                                   " bytes of predictions, ", groups.size(), " of group ids, ",
                                                   above.size(), " of counts"));
  }
  const std::vector<float> ones(predictions.size() / sizeof(float), 1.0f);
  const std::string_view labels(reinterpret_cast<const char*>(ones.data()), predictions.size());
  if (absl::Status s = Add(predictions, labels, {}, groups); !s.ok()) return s;
  const auto counts = Packed<uint32_t>(above);
  for (size_t i = 0; i < counts.size(); ++i) above_.push_back(counts[i]);
  return absl::OkStatus();
}

GroupedMetrics ScoreSet::ComputeGrouped(uint32_t k) const {
  if (!above_.empty()) return ComputeRankedMetrics(above_, groups_, k);
  return ComputeGroupedMetrics(predictions_, labels_, weights_, groups_, k);
}

}  // namespace tidegate
