#pragma once
// Losses of one output a sample, with masks and weights. A NaN label has loss and gradient 0.

#include <span>

namespace tidegate {

struct LossInput {
  std::span<const float> outputs;  // logits, probabilities or predictions
  std::span<const float> labels;
  std::span<const float> weights;  // of samples; empty: all 1
  float task_weight = 1;

  double WeightOf(size_t r) const {
    return static_cast<double>(task_weight) * (weights.empty() ? 1.0f : weights[r]);
  }
};

// All of them return the sum of task_weight * weight * loss and add its gradient by the outputs to
// d_outputs, which may be empty.

// On logits z: p = sigmoid(z), loss = -(y log p + (1 - y) log(1 - p)), y in [0, 1]. Fills `probabilities`.
double BinaryCrossEntropy(const LossInput& in, std::span<float> probabilities,
                          std::span<float> d_outputs);

// The same on probabilities, which count as at least kLeastProbability and at most 1 less that: products
// of probabilities (Ma et al. 2018, Entire Space Multi-task Model) have no logit.
inline constexpr float kLeastProbability = 1e-6f;
double BinaryCrossEntropyOfProbabilities(const LossInput& in, std::span<float> d_outputs);

// (z - y)^2
double SquaredError(const LossInput& in, std::span<float> d_outputs);

// Bayesian personalised ranking (Rendle et al. 2009): -log sigmoid(z of the positive - z of the negative) for
// each negative (label at most .5) and the positive that it comes after in the batch, weighted as the
// negative; negatives in front of the first positive have none.
double PairwiseRanking(const LossInput& in, std::span<float> d_outputs);

}  // namespace tidegate
