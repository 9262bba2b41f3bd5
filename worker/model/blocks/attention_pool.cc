// Target attention over a sequence (Zhou et al. 2018, Deep Interest Network, section 4.3):
//   out = sum over the sequence's elements k of a(q, k) k,   a = mlp(q, k, q - k, q * k)
// without a softmax by default, as in the paper. An empty sequence gives zeros.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "worker/model/blocks/layer.h"

namespace tidegate {
namespace {

class AttentionPool final : public Block {
 public:
  AttentionPool(const std::string& name, uint32_t dim, const std::vector<LayerPlan>& plans,
                bool softmax, Backend* backend)
      : dim_(dim), softmax_(softmax), layers_(name, plans, /*numbered=*/true, &parameters_, backend) {
    output_ = {1, dim};
  }

  void Forward(const BlockStep& step, float* out) override {
    const uint32_t* offsets = step.inputs[1].offsets;
    const size_t elements = offsets[step.rows];
    Combine(step, pairs_.Resize(elements * 4 * dim_));
    layers_.Forward(OfElements(step), pairs_.data(), scores_.Resize(elements));
    weights_.Resize(elements);
    std::copy_n(scores_.data(), elements, weights_.data());
    for (size_t r = 0; r < step.rows; ++r) {
      const uint32_t begin = offsets[r], end = offsets[r + 1];
      if (softmax_) Normalise(weights_.data() + begin, end - begin);
      float* __restrict y = out + r * dim_;
      for (uint32_t d = 0; d < dim_; ++d) y[d] = 0;
      for (uint32_t i = begin; i < end; ++i) {
        const float* __restrict k = step.inputs[1].value + static_cast<size_t>(i) * dim_;
        const float a = weights_.data()[i];
        for (uint32_t d = 0; d < dim_; ++d) y[d] += a * k[d];
      }
    }
  }

  void Backward(const BlockStep& step, const float*, const float* out_gradient) override {
    const uint32_t* offsets = step.inputs[1].offsets;
    const size_t elements = offsets[step.rows];
    float* d_score = d_scores_.Resize(elements);
    float* d_sequence = step.inputs[1].gradient;
    for (size_t r = 0; r < step.rows; ++r) {
      const float* __restrict dy = out_gradient + r * dim_;
      double mean = 0;
      for (uint32_t i = offsets[r]; i < offsets[r + 1]; ++i) {
        const size_t at = static_cast<size_t>(i) * dim_;
        const float a = weights_.data()[i];
        d_score[i] = DotProduct(dy, step.inputs[1].value + at, dim_);
        mean += static_cast<double>(a) * d_score[i];
        if (d_sequence == nullptr) continue;
        float* __restrict dk = d_sequence + at;
        for (uint32_t d = 0; d < dim_; ++d) dk[d] += a * dy[d];
      }
      for (uint32_t i = offsets[r]; softmax_ && i < offsets[r + 1]; ++i) {
        d_score[i] = weights_.data()[i] * (d_score[i] - static_cast<float>(mean));
      }
    }
    float* d_pairs = d_pairs_.Resize(elements * 4 * dim_);
    layers_.Backward(OfElements(step), pairs_.data(), scores_.data(), d_score, {d_pairs, 0.0f});
    Separate(step, d_pairs);
  }

 private:
  // The mlp works on the elements of all sequences as its rows.
  static BlockStep OfElements(const BlockStep& step) {
    BlockStep inner = step;
    inner.rows = step.inputs[1].offsets[step.rows];
    return inner;
  }

  void Combine(const BlockStep& step, float* pairs) const {
    const uint32_t* offsets = step.inputs[1].offsets;
    for (size_t r = 0; r < step.rows; ++r) {
      const float* __restrict q = step.inputs[0].value + r * dim_;
      for (size_t i = offsets[r]; i < offsets[r + 1]; ++i) {
        const float* __restrict k = step.inputs[1].value + i * dim_;
        float* __restrict to = pairs + i * 4 * dim_;
        for (uint32_t d = 0; d < dim_; ++d) {
          to[d] = q[d];
          to[dim_ + d] = k[d];
          to[2 * dim_ + d] = q[d] - k[d];
          to[3 * dim_ + d] = q[d] * k[d];
        }
      }
    }
  }

  void Separate(const BlockStep& step, const float* d_pairs) const {
    const uint32_t* offsets = step.inputs[1].offsets;
    for (size_t r = 0; r < step.rows; ++r) {
      const float* q = step.inputs[0].value + r * dim_;
      for (size_t i = offsets[r]; i < offsets[r + 1]; ++i) {
        const float* k = step.inputs[1].value + i * dim_;
        const float* from = d_pairs + i * 4 * dim_;
        if (float* dq = step.inputs[0].gradient; dq != nullptr) {
          dq += r * dim_;
          for (uint32_t d = 0; d < dim_; ++d) {
            dq[d] += from[d] + from[2 * dim_ + d] + from[3 * dim_ + d] * k[d];
          }
        }
        if (float* dk = step.inputs[1].gradient; dk != nullptr) {
          dk += i * dim_;
          for (uint32_t d = 0; d < dim_; ++d) {
            dk[d] += from[dim_ + d] - from[2 * dim_ + d] + from[3 * dim_ + d] * q[d];
          }
        }
      }
    }
  }

  static void Normalise(float* scores, size_t count) {
    if (count == 0) return;
    const float highest = *std::max_element(scores, scores + count);
    double total = 0;
    for (size_t i = 0; i < count; ++i) {
      scores[i] = std::exp(scores[i] - highest);
      total += scores[i];
    }
    const auto inverse = static_cast<float>(1.0 / total);
    for (size_t i = 0; i < count; ++i) scores[i] *= inverse;
  }

  const uint32_t dim_;
  const bool softmax_;
  LayerStack layers_;
  FloatBuffer pairs_, d_pairs_;    // [elements, 4 dim]
  FloatBuffer scores_, d_scores_;  // [elements], of the mlp
  FloatBuffer weights_;            // [elements]
};

}  // namespace

absl::StatusOr<std::unique_ptr<Block>> MakeAttentionPool(const BlockConfig& config,
                                                         std::span<const Shape> inputs,
                                                         Backend* backend) {
  const AttentionPoolBlock& attention = config.attention_pool();
  if (inputs[0].size() != inputs[1].dim) {
    return absl::InvalidArgumentError(absl::StrCat("its query has ", inputs[0].size(),
                                                   " elements, and the sequence's are of ",
                                                   inputs[1].dim));
  }
  std::vector<LayerPlan> plans;
  uint32_t in = 4 * inputs[1].dim;
  for (uint32_t units : attention.units()) {
    plans.push_back({in, units, true, false, attention.activation(), 0});
    in = units;
  }
  plans.push_back({in, 1, true, false, IDENTITY, 0});
  absl::Status status = CheckLayers(plans);
  if (!status.ok()) return status;
  return std::make_unique<AttentionPool>(config.name(), inputs[1].dim, plans, attention.softmax(),
                                         backend);
}

}  // namespace tidegate
