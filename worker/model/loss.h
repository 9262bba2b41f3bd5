#pragma once
// Binary cross entropy on logits, with masks.

#include <span>

namespace tidegate {

// Per sample r: p = sigmoid(z), loss = -(y log p + (1 - y) log(1 - p)), for y in [0, 1]; a NaN label
// has loss and gradient 0. `weights` may be empty: all 1.
// Returns the sum of task_weight * weight * loss; d_logits (may be empty) is its gradient, added to.
double BinaryCrossEntropy(std::span<const float> logits, std::span<const float> labels,
                          std::span<const float> weights, float task_weight,
                          std::span<float> probabilities, std::span<float> d_logits);

}  // namespace tidegate
