// Blocks that put inputs together: concat, add, sum, pool.
#include <algorithm>

#include "worker/model/blocks/factories.h"
#include "worker/model/kernels.h"

namespace tidegate {
namespace {

class Concat final : public Block {
 public:
  explicit Concat(uint32_t width) { output_ = {1, width}; }

  void Forward(const BlockStep& step, float* out) override {
    size_t offset = 0;
    for (const BlockInput& in : step.inputs) {
      CopyColumns(in.value, step.rows, in.shape.size(), out, output_.dim, offset);
      offset += in.shape.size();
    }
  }
  void Backward(const BlockStep& step, const float*, const float* out_gradient) override {
    size_t offset = 0;
    for (const BlockInput& in : step.inputs) {
      if (in.gradient != nullptr) {
        AddColumns(out_gradient, step.rows, output_.dim, offset, in.gradient, in.shape.size());
      }
      offset += in.shape.size();
    }
  }
};

class Add final : public Block {
 public:
  explicit Add(Shape shape) { output_ = shape; }

  void Forward(const BlockStep& step, float* out) override {
    const size_t count = step.rows * output_.size();
    std::copy_n(step.inputs[0].value, count, out);
    for (const BlockInput& in : step.inputs.subspan(1)) AddTo(in.value, count, out);
  }
  void Backward(const BlockStep& step, const float*, const float* out_gradient) override {
    for (const BlockInput& in : step.inputs) {
      if (in.gradient != nullptr) AddTo(out_gradient, step.rows * output_.size(), in.gradient);
    }
  }
};

class SumAll final : public Block {
 public:
  explicit SumAll(bool bias) : bias_(bias) {
    output_ = {1, 1};
    if (!bias) return;
    DenseParameter b;
    b.name.assign(1, 'b');
    b.shape = {1};
    parameters_.push_back(b);
  }

  void Forward(const BlockStep& step, float* out) override {
    std::fill_n(out, step.rows, bias_ ? step.parameters[0][0] : 0.0f);
    for (const BlockInput& in : step.inputs) {
      const size_t n = in.shape.size();
      for (size_t r = 0; r < step.rows; ++r) {
        float total = 0;
        for (size_t i = 0; i < n; ++i) total += in.value[r * n + i];
        out[r] += total;
      }
    }
  }
  void Backward(const BlockStep& step, const float*, const float* out_gradient) override {
    if (bias_) ColumnSums(out_gradient, step.rows, 1, step.parameter_gradients[0]);
    for (const BlockInput& in : step.inputs) {
      if (in.gradient == nullptr) continue;
      const size_t n = in.shape.size();
      for (size_t r = 0; r < step.rows; ++r) {
        for (size_t i = 0; i < n; ++i) in.gradient[r * n + i] += out_gradient[r];
      }
    }
  }

 private:
  const bool bias_;
};

class Pool final : public Block {
 public:
  Pool(PoolBlock::Kind kind, Shape joined) : kind_(kind), fields_(joined.fields) {
    output_ = {1, joined.dim};
  }

  void Forward(const BlockStep& step, float* out) override {
    const uint32_t dim = output_.dim;
    const float scale = Scale();
    for (size_t r = 0; r < step.rows; ++r) {
      float* y = out + r * dim;
      bool first = true;
      for (const BlockInput& in : step.inputs) {
        const float* v = in.value + r * in.shape.size();
        for (uint32_t f = 0; f < in.shape.fields; ++f, v += dim, first = false) {
          if (first) {
            std::copy_n(v, dim, y);
          } else if (kind_ == PoolBlock::MAX) {
            for (uint32_t d = 0; d < dim; ++d) y[d] = v[d] > y[d] ? v[d] : y[d];
          } else {
            for (uint32_t d = 0; d < dim; ++d) y[d] += v[d];
          }
        }
      }
      if (kind_ == PoolBlock::MEAN) {
        for (uint32_t d = 0; d < dim; ++d) y[d] *= scale;
      }
    }
  }

  void Backward(const BlockStep& step, const float* out, const float* out_gradient) override {
    const uint32_t dim = output_.dim;
    if (kind_ == PoolBlock::MAX) return BackwardMax(step, out, out_gradient);
    const float scale = Scale();
    for (const BlockInput& in : step.inputs) {
      if (in.gradient == nullptr) continue;
      for (size_t r = 0; r < step.rows; ++r) {
        const float* dy = out_gradient + r * dim;
        float* dv = in.gradient + r * in.shape.size();
        for (uint32_t f = 0; f < in.shape.fields; ++f, dv += dim) {
          for (uint32_t d = 0; d < dim; ++d) dv[d] += scale * dy[d];
        }
      }
    }
  }

 private:
  float Scale() const { return kind_ == PoolBlock::MEAN ? 1.0f / static_cast<float>(fields_) : 1.0f; }

  // The first of equal maxima takes the gradient.
  void BackwardMax(const BlockStep& step, const float* out, const float* out_gradient) {
    const uint32_t dim = output_.dim;
    for (size_t r = 0; r < step.rows; ++r) {
      for (uint32_t d = 0; d < dim; ++d) {
        const float best = out[r * dim + d];
        bool found = false;
        for (const BlockInput& in : step.inputs) {
          for (uint32_t f = 0; f < in.shape.fields && !found; ++f) {
            const size_t at = r * in.shape.size() + f * dim + d;
            if (in.value[at] != best) continue;
            found = true;
            if (in.gradient != nullptr) in.gradient[at] += out_gradient[r * dim + d];
          }
        }
      }
    }
  }

  const PoolBlock::Kind kind_;
  const uint32_t fields_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Block>> MakeConcat(const BlockConfig&, std::span<const Shape> inputs,
                                                  Backend*) {
  auto width = FlatSize(inputs);
  if (!width.ok()) return width.status();
  return std::make_unique<Concat>(*width);
}

absl::StatusOr<std::unique_ptr<Block>> MakeAdd(const BlockConfig&, std::span<const Shape> inputs,
                                               Backend*) {
  absl::Status status = CheckEqualShapes(inputs);
  if (!status.ok()) return status;
  return std::make_unique<Add>(inputs[0]);
}

absl::StatusOr<std::unique_ptr<Block>> MakeSum(const BlockConfig& config, std::span<const Shape>,
                                               Backend*) {
  return std::make_unique<SumAll>(config.sum().bias());
}

absl::StatusOr<std::unique_ptr<Block>> MakePool(const BlockConfig& config,
                                                std::span<const Shape> inputs, Backend*) {
  auto joined = JoinFields(inputs);
  if (!joined.ok()) return joined.status();
  return std::make_unique<Pool>(config.pool().kind(), *joined);
}

}  // namespace tidegate
