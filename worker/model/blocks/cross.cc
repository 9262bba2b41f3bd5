// Cross network of DCN-v2 (Wang et al. 2021, equations 1 and 2):
//   x[l + 1] = x[0] * (x[l] W[l] + b[l]) + x[l],   W = U V at a rank below the width
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "worker/model/blocks/layer.h"

namespace tidegate {
namespace {

class Cross final : public Block {
 public:
  Cross(uint32_t width, uint32_t layers, uint32_t rank, Backend* backend)
      : width_(width), rank_(rank), backend_(backend), layers_(layers) {
    output_ = {1, width};
    for (uint32_t l = 0; l < layers; ++l) {
      layers_[l].parameter = parameters_.size();
      if (rank > 0) {
        parameters_.push_back(WeightParameter(absl::StrCat("u", l), width, rank, IDENTITY));
        parameters_.push_back(WeightParameter(absl::StrCat("v", l), rank, width, IDENTITY));
      } else {
        parameters_.push_back(WeightParameter(absl::StrCat("w", l), width, width, IDENTITY));
      }
      parameters_.push_back(VectorParameter(absl::StrCat("b", l), width, 0));
    }
  }

  void Forward(const BlockStep& step, float* out) override {
    const size_t count = step.rows * width_;
    x0_ = flat_.Gather(step, width_);
    const float* x = x0_;
    for (size_t l = 0; l < layers_.size(); ++l) {
      Layer& layer = layers_[l];
      layer.x = x;
      float* u = layer.u.Resize(count);
      Project(step, &layer, u);
      const float* bias = step.parameters[layer.parameter + (rank_ > 0 ? 2 : 1)];
      const bool last = l + 1 == layers_.size();
      float* y = last ? out : layer.y.Resize(count);
      for (size_t r = 0; r < step.rows; ++r) {
        const float* __restrict x0r = x0_ + r * width_;
        const float* __restrict xr = x + r * width_;
        float* __restrict ur = u + r * width_;
        float* __restrict yr = y + r * width_;
        for (uint32_t c = 0; c < width_; ++c) {
          ur[c] += bias[c];
          yr[c] = x0r[c] * ur[c] + xr[c];
        }
      }
      x = y;
    }
  }

  void Backward(const BlockStep& step, const float*, const float* out_gradient) override {
    const size_t count = step.rows * width_;
    float* d = d_.Resize(count);  // of x[l + 1], then of x[l]
    float* d0 = d0_.Resize(count);
    float* du = du_.Resize(count);
    std::copy_n(out_gradient, count, d);
    std::fill_n(d0, count, 0.0f);
    for (size_t l = layers_.size(); l-- > 0;) {
      Layer& layer = layers_[l];
      MultiplyTwice(d, x0_, layer.u.data(), count, du, d0);
      ColumnSums(du, step.rows, width_,
                 step.parameter_gradients[layer.parameter + (rank_ > 0 ? 2 : 1)]);
      ProjectBackward(step, layer, du, d);
    }
    AddTo(d0, count, d);
    FlatInput::AddGradient(step, width_, d);
  }

 private:
  struct Layer {
    size_t parameter = 0;
    const float* x = nullptr;  // its input in the last Forward
    FloatBuffer u;             // x W + b
    FloatBuffer t;             // x U
    FloatBuffer y;             // its output, unless it is the last
  };

  // du = d * x0;  d0 += d * u
  static void MultiplyTwice(const float* __restrict d, const float* __restrict x0,
                            const float* __restrict u, size_t count, float* __restrict du,
                            float* __restrict d0) {
    for (size_t i = 0; i < count; ++i) {
      du[i] = d[i] * x0[i];
      d0[i] += d[i] * u[i];
    }
  }

  void Project(const BlockStep& step, Layer* layer, float* u) {
    const auto rows = static_cast<int64_t>(step.rows);
    const float* const* p = step.parameters.data() + layer->parameter;
    if (rank_ == 0) {
      return backend_->Gemm(Op::kPlain, Op::kPlain, rows, width_, width_, layer->x, p[0], 0.0f, u);
    }
    float* t = layer->t.Resize(step.rows * rank_);
    backend_->Gemm(Op::kPlain, Op::kPlain, rows, rank_, width_, layer->x, p[0], 0.0f, t);
    backend_->Gemm(Op::kPlain, Op::kPlain, rows, width_, rank_, t, p[1], 0.0f, u);
  }

  // d += du W', and the gradients of W.
  void ProjectBackward(const BlockStep& step, const Layer& layer, const float* du, float* d) {
    const auto rows = static_cast<int64_t>(step.rows);
    const float* const* p = step.parameters.data() + layer.parameter;
    float* const* g = step.parameter_gradients.data() + layer.parameter;
    if (rank_ == 0) {
      backend_->Gemm(Op::kTransposed, Op::kPlain, width_, width_, rows, layer.x, du, 0.0f, g[0]);
      backend_->Gemm(Op::kPlain, Op::kTransposed, rows, width_, width_, du, p[0], 1.0f, d);
      return;
    }
    float* dt = dt_.Resize(step.rows * rank_);
    backend_->Gemm(Op::kPlain, Op::kTransposed, rows, rank_, width_, du, p[1], 0.0f, dt);
    backend_->Gemm(Op::kTransposed, Op::kPlain, rank_, width_, rows, layer.t.data(), du, 0.0f, g[1]);
    backend_->Gemm(Op::kTransposed, Op::kPlain, width_, rank_, rows, layer.x, dt, 0.0f, g[0]);
    backend_->Gemm(Op::kPlain, Op::kTransposed, rows, width_, rank_, dt, p[0], 1.0f, d);
  }

  const uint32_t width_, rank_;
  Backend* const backend_;
  std::vector<Layer> layers_;
  FlatInput flat_;
  const float* x0_ = nullptr;
  FloatBuffer d_, d0_, du_, dt_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Block>> MakeCross(const BlockConfig& config,
                                                 std::span<const Shape> inputs, Backend* backend) {
  constexpr uint32_t kMaxLayers = 64;
  auto width = FlatSize(inputs);
  if (!width.ok()) return width.status();
  const CrossBlock& cross = config.cross();
  if (cross.layers() < 1 || cross.layers() > kMaxLayers) {
    return absl::InvalidArgumentError(
        absl::StrCat("layers is ", cross.layers(), "; from 1 to ", kMaxLayers));
  }
  if (cross.rank() >= *width) {
    return absl::InvalidArgumentError(absl::StrCat("rank is ", cross.rank(), "; below the width of ",
                                                   *width, ", or 0 for full matrices"));
  }
  const uint32_t inner = cross.rank() > 0 ? cross.rank() : *width;
  absl::Status status = CheckLayers({{*width, inner, false, false, IDENTITY, 0}});
  if (!status.ok()) return status;
  return std::make_unique<Cross>(*width, cross.layers(), cross.rank(), backend);
}

}  // namespace tidegate
