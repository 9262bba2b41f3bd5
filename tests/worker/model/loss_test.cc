#include "worker/model/loss.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "common/random.h"
#include "worker/model/softmax_loss.h"

namespace tidegate {
namespace {

constexpr float kMasked = std::numeric_limits<float>::quiet_NaN();

using Loss = std::function<double(const LossInput&, std::span<float>)>;

double Bce(const LossInput& in, std::span<float> d) {
  std::vector<float> probabilities(in.outputs.size());
  return BinaryCrossEntropy(in, probabilities, d);
}

// The gradient that a loss gives against differences of its value.
void CheckGradient(const Loss& loss, std::vector<float> outputs, const std::vector<float>& labels,
                   const std::vector<float>& weights) {
  std::vector<float> gradient(outputs.size(), 1.0f);  // to be added to
  loss({outputs, labels, weights, 0.7f}, gradient);
  const float h = 1e-3f;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const float before = outputs[i];
    outputs[i] = before + h;
    const double up = loss({outputs, labels, weights, 0.7f}, {});
    outputs[i] = before - h;
    const double down = loss({outputs, labels, weights, 0.7f}, {});
    outputs[i] = before;
    INFO("output " << i);
    CHECK(gradient[i] - 1 == Approx((up - down) / (2.0 * h)).margin(1e-3).epsilon(2e-3));
  }
}

struct Towers {
  size_t rows;
  uint32_t dim = 3;
  std::vector<float> query, item, labels, weights;
  FeatureColumn items;

  explicit Towers(size_t n) : rows(n), items() {
    Random random(5);
    for (size_t i = 0; i < n * dim; ++i) {
      query.push_back(static_cast<float>(2 * random.Unit() - 1));
      item.push_back(static_cast<float>(2 * random.Unit() - 1));
    }
    items.offsets.push_back(0);
    for (size_t r = 0; r < n; ++r) {
      labels.push_back(r % 7 == 3 ? kMasked : r % 4 == 2 ? 0.0f : 1.0f);
      weights.push_back(static_cast<float>(0.5 + random.Unit()));
      if (r % 11 != 10) items.keys.push_back(random.Below(6));
      items.offsets.push_back(static_cast<uint32_t>(items.keys.size()));
    }
  }
  double Run(InBatchSoftmax::Options options, float* d_query = nullptr, float* d_item = nullptr) const {
    auto backend = MakeCpuBackend();
    InBatchSoftmax softmax(options, backend.get());
    return softmax.Run({rows, dim, query.data(), item.data(), labels, weights, &items, d_query, d_item});
  }
  bool Candidate(size_t r) const {
    return items.offsets[r + 1] > items.offsets[r] && !std::isnan(labels[r]);
  }
  Key ItemOf(size_t r) const { return items.keys[items.offsets[r]]; }

  // The formula of the header, written down.
  double Plain(const InBatchSoftmax::Options& options) const {
    double candidates = 0, total = 0;
    for (size_t j = 0; j < rows; ++j) candidates += Candidate(j);
    const auto norm = [&](const std::vector<float>& x, size_t r) {
      double squares = 0;
      for (uint32_t d = 0; d < dim; ++d) squares += static_cast<double>(x[r * dim + d]) * x[r * dim + d];
      return options.cosine ? std::sqrt(squares) : 1.0;
    };
    const auto logit = [&](size_t i, size_t j) {
      double dot = 0, count = 0;
      for (uint32_t d = 0; d < dim; ++d) dot += static_cast<double>(query[i * dim + d]) * item[j * dim + d];
      for (size_t k = 0; k < rows; ++k) count += Candidate(k) && ItemOf(k) == ItemOf(j);
      return dot / (norm(query, i) * norm(item, j)) / options.temperature - std::log(count / candidates);
    };
    for (size_t i = 0; i < rows; ++i) {
      if (!Candidate(i) || !(labels[i] > 0)) continue;
      double sum = 0;
      for (size_t j = 0; j < rows; ++j) {
        if (Candidate(j) && (j == i || ItemOf(j) != ItemOf(i))) sum += std::exp(logit(i, j));
      }
      total += options.task_weight * weights[i] * (std::log(sum) - logit(i, i));
    }
    return total;
  }
};

}  // namespace

TEST_CASE("each loss has the gradient of its value, with masks and weights") {
  const std::vector<float> labels = {1, 0, 1, kMasked, 0, 0, 1, 0.5f};
  const std::vector<float> weights = {1, 2, 0.5f, 1, 3, 1, 0, 1};
  const std::vector<float> logits = {0.3f, -1, 2, 4, 0.1f, 1.5f, -0.7f, 0.2f};
  const std::vector<float> probabilities = {0.3f, 0.1f, 0.9f, 0.5f, 0.4f, 0.8f, 0.2f, 0.6f};
  SECTION("binary cross entropy") { CheckGradient(Bce, logits, labels, weights); }
  SECTION("on probabilities") {
    CheckGradient(BinaryCrossEntropyOfProbabilities, probabilities, labels, weights);
  }
  SECTION("squared error") { CheckGradient(SquaredError, logits, labels, weights); }
  SECTION("pairwise ranking") { CheckGradient(PairwiseRanking, logits, labels, weights); }
  SECTION("without weights") { CheckGradient(PairwiseRanking, logits, labels, {}); }
}

TEST_CASE("cross entropy is the same on logits and on their probabilities, and finite at 0 and 1") {
  const std::vector<float> logits = {0.3f, -2, 1.5f}, labels = {1, 0, 0};
  std::vector<float> probabilities(3);
  const double on_logits = BinaryCrossEntropy({logits, labels, {}}, probabilities, {});
  CHECK(BinaryCrossEntropyOfProbabilities({probabilities, labels, {}}, {}) == Approx(on_logits).epsilon(1e-5));
  const std::vector<float> extreme = {0, 1, 1};
  std::vector<float> gradient(3);
  const double loss = BinaryCrossEntropyOfProbabilities({extreme, labels, {}}, gradient);
  CHECK(std::isfinite(loss));
  CHECK(loss > 20);
  CHECK(gradient[0] < -1e5f);  // still shows the way out
  CHECK(std::isfinite(gradient[0]));
}

TEST_CASE("a pair is a negative and the positive in front of it") {
  const std::vector<float> outputs = {9, 1, 0.5f, 0.25f, 2, 3};
  const std::vector<float> labels = {0, 1, 0, 0, 1, 0};
  std::vector<float> gradient(6);
  const double loss = PairwiseRanking({outputs, labels, {}}, gradient);
  const auto pair = [](double margin) { return std::log1p(std::exp(-margin)); };
  CHECK(loss == Approx(pair(0.5) + pair(0.75) + pair(-1)));
  CHECK(gradient[0] == 0);  // no positive in front
  CHECK(gradient[1] == Approx(-gradient[2] - gradient[3]));
  CHECK(gradient[4] == Approx(-gradient[5]));
}

TEST_CASE("in-batch softmax is its formula: candidates, repeated items, corrections, masks") {
  for (const size_t rows : {1, 5, 40, 300}) {  // more rows than a tile of queries, too
    const Towers towers(rows);
    for (const bool cosine : {false, true}) {
      const InBatchSoftmax::Options options = {0.6f, cosine, 1.5f};
      INFO(rows << " rows, cosine " << cosine);
      CHECK(towers.Run(options) == Approx(towers.Plain(options)).epsilon(1e-5).margin(1e-6));
    }
  }
}

TEST_CASE("in-batch softmax has the gradient of its value") {
  Towers towers(23);
  for (const bool cosine : {false, true}) {
    const InBatchSoftmax::Options options = {0.6f, cosine, 1.5f};
    std::vector<float> d_query(towers.query.size()), d_item(towers.item.size());
    towers.Run(options, d_query.data(), d_item.data());
    for (auto side : {std::pair(&towers.query, &d_query), std::pair(&towers.item, &d_item)}) {
      for (size_t i = 0; i < side.first->size(); ++i) {
        float& x = (*side.first)[i];
        const float before = x;
        const float h = 2e-3f;
        x = before + h;
        const double up = towers.Plain(options);
        x = before - h;
        const double down = towers.Plain(options);
        x = before;
        CHECK((*side.second)[i] == Approx((up - down) / (2.0 * h)).margin(2e-3).epsilon(2e-3));
      }
    }
  }
}

TEST_CASE("frequencies are the first batch's counts, and follow the stream") {
  KeyFrequencies frequencies(10);
  frequencies.Count(std::vector<Key>{7, 7, 7, 9});
  CHECK(frequencies.ShareOf(7) == Approx(0.75));
  CHECK(frequencies.ShareOf(9) == Approx(0.25));
  Random random(3);
  const auto stream = [&](int batches, uint64_t one_in) {
    for (int b = 0; b < batches; ++b) {
      std::vector<Key> keys;
      for (int i = 0; i < 50; ++i) keys.push_back(random.Below(one_in) == 0 ? 9 : 7);
      frequencies.Count(keys);
    }
  };
  stream(1500, 10);
  CHECK(frequencies.ShareOf(9) == Approx(0.1).epsilon(0.25));
  CHECK(frequencies.ShareOf(7) == Approx(0.9).epsilon(0.05));
  stream(1500, 2);
  CHECK(frequencies.ShareOf(9) == Approx(0.5).epsilon(0.1));
}

}  // namespace tidegate
