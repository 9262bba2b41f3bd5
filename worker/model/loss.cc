#include "worker/model/loss.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace tidegate {
namespace {

// log(1 + exp(z)), which never overflows.
double SoftPlus(double z) { return (z > 0 ? z : 0.0) + std::log1p(std::exp(-std::fabs(z))); }

}  // namespace

double BinaryCrossEntropy(const LossInput& in, std::span<float> probabilities,
                          std::span<float> d_outputs) {
  double total = 0;
  for (size_t r = 0; r < in.outputs.size(); ++r) {
    const double z = in.outputs[r];
    const double e = std::exp(-std::fabs(z));  // never overflows
    const double p = z >= 0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
    probabilities[r] = static_cast<float>(p);
    const double y = in.labels[r];
    if (std::isnan(y)) continue;
    const double weight = in.WeightOf(r);
    total += weight * ((z > 0 ? z : 0.0) - z * y + std::log1p(e));
    if (!d_outputs.empty()) d_outputs[r] += static_cast<float>(weight * (p - y));
  }
  return total;
}

double BinaryCrossEntropyOfProbabilities(const LossInput& in, std::span<float> d_outputs) {
  double total = 0;
  for (size_t r = 0; r < in.outputs.size(); ++r) {
    const double y = in.labels[r];
    if (std::isnan(y)) continue;
    const double p = std::clamp(in.outputs[r], kLeastProbability, 1 - kLeastProbability);
    const double weight = in.WeightOf(r);
    total -= weight * (y * std::log(p) + (1 - y) * std::log1p(-p));
    if (!d_outputs.empty()) d_outputs[r] += static_cast<float>(weight * (p - y) / (p * (1 - p)));
  }
  return total;
}

double SquaredError(const LossInput& in, std::span<float> d_outputs) {
  double total = 0;
  for (size_t r = 0; r < in.outputs.size(); ++r) {
    if (std::isnan(in.labels[r])) continue;
    const double error = static_cast<double>(in.outputs[r]) - in.labels[r];
    const double weight = in.WeightOf(r);
    total += weight * error * error;
    if (!d_outputs.empty()) d_outputs[r] += static_cast<float>(2 * weight * error);
  }
  return total;
}

double PairwiseRanking(const LossInput& in, std::span<float> d_outputs) {
  const size_t none = in.outputs.size();
  double total = 0;
  size_t positive = none;
  for (size_t r = 0; r < in.outputs.size(); ++r) {
    if (std::isnan(in.labels[r])) continue;
    if (in.labels[r] > 0.5f) {
      positive = r;
      continue;
    }
    if (positive == none) continue;
    const double margin = static_cast<double>(in.outputs[positive]) - in.outputs[r];
    const double weight = in.WeightOf(r);
    total += weight * SoftPlus(-margin);
    if (d_outputs.empty()) continue;
    const double g = weight / (1.0 + std::exp(std::min(margin, 700.0)));
    d_outputs[positive] -= static_cast<float>(g);
    d_outputs[r] += static_cast<float>(g);
  }
  return total;
}

}  // namespace tidegate
