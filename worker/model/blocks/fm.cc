// Second-order factorisation machine (Rendle 2010, lemma 3.1):
//   y = 1/2 sum_d ((sum_f v[f, d])^2 - sum_f v[f, d]^2)
#include "worker/model/blocks/factories.h"
#include "worker/model/with_dim.h"

namespace tidegate {
namespace {

class Fm final : public Block {
 public:
  explicit Fm(uint32_t dim) : dim_(dim) { output_ = {1, 1}; }

  void Forward(const BlockStep& step, float* out) override {
    sums_.Resize(step.rows * dim_);
    squares_.Resize(dim_);
    WithDim(dim_, [&](auto dim) { ForwardRows(step, dim, out); });
  }

  void Backward(const BlockStep& step, const float*, const float* out_gradient) override {
    WithDim(dim_, [&](auto dim) { BackwardRows(step, dim, out_gradient); });
  }

 private:
  template <typename Dim>
  void ForwardRows(const BlockStep& step, Dim dim, float* out) {
    float* __restrict squares = squares_.data();
    for (size_t r = 0; r < step.rows; ++r) {
      float* __restrict sum = sums_.data() + r * dim;
      for (uint32_t d = 0; d < dim; ++d) sum[d] = squares[d] = 0;
      for (const BlockInput& in : step.inputs) {
        const float* __restrict v = in.value + r * in.shape.size();
        for (uint32_t f = 0; f < in.shape.fields; ++f, v += dim) {
          for (uint32_t d = 0; d < dim; ++d) {
            sum[d] += v[d];
            squares[d] += v[d] * v[d];
          }
        }
      }
      float total = 0;
      for (uint32_t d = 0; d < dim; ++d) total += sum[d] * sum[d] - squares[d];
      out[r] = 0.5f * total;
    }
  }

  // dy / dv[f, d] = sum[d] - v[f, d]
  template <typename Dim>
  void BackwardRows(const BlockStep& step, Dim dim, const float* out_gradient) {
    for (const BlockInput& in : step.inputs) {
      if (in.gradient == nullptr) continue;
      for (size_t r = 0; r < step.rows; ++r) {
        const float* __restrict sum = sums_.data() + r * dim;
        const float* __restrict v = in.value + r * in.shape.size();
        float* __restrict dv = in.gradient + r * in.shape.size();
        const float g = out_gradient[r];
        for (uint32_t f = 0; f < in.shape.fields; ++f, v += dim, dv += dim) {
          for (uint32_t d = 0; d < dim; ++d) dv[d] += g * (sum[d] - v[d]);
        }
      }
    }
  }

  const uint32_t dim_;
  FloatBuffer sums_;     // [rows, dim]
  FloatBuffer squares_;  // [dim]
};

}  // namespace

absl::StatusOr<std::unique_ptr<Block>> MakeFm(const BlockConfig&, std::span<const Shape> inputs,
                                              Backend*) {
  auto joined = JoinFields(inputs);
  if (!joined.ok()) return joined.status();
  return std::make_unique<Fm>(joined->dim);
}

}  // namespace tidegate
