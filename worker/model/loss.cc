#include "worker/model/loss.h"

#include <cmath>
#include <cstddef>

namespace tidegate {

double BinaryCrossEntropy(std::span<const float> logits, std::span<const float> labels,
                          std::span<const float> weights, float task_weight,
                          std::span<float> probabilities, std::span<float> d_logits) {
  double total = 0;
  for (size_t r = 0; r < logits.size(); ++r) {
    const double z = logits[r];
    const double e = std::exp(-std::fabs(z));  // never overflows
    const double p = z >= 0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
    probabilities[r] = static_cast<float>(p);
    const double y = labels[r];
    if (std::isnan(y)) continue;
    const double weight = static_cast<double>(task_weight) * (weights.empty() ? 1.0f : weights[r]);
    total += weight * ((z > 0 ? z : 0.0) - z * y + std::log1p(e));
    if (!d_logits.empty()) d_logits[r] += static_cast<float>(weight * (p - y));
  }
  return total;
}

}  // namespace tidegate
