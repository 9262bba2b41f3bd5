// Products of inputs: mul, dot, cosine.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "worker/model/blocks/factories.h"
#include "worker/model/kernels.h"
#include "worker/model/with_dim.h"

namespace tidegate {
namespace {

void MultiplyBy(const float* __restrict x, size_t count, float* __restrict y) {
  for (size_t i = 0; i < count; ++i) y[i] *= x[i];
}

class Mul final : public Block {
 public:
  explicit Mul(Shape shape) { output_ = shape; }

  void Forward(const BlockStep& step, float* out) override {
    const size_t count = step.rows * output_.size();
    std::copy_n(step.inputs[0].value, count, out);
    for (const BlockInput& in : step.inputs.subspan(1)) MultiplyBy(in.value, count, out);
  }

  // By the product of the others, not by out / x: an input may be 0.
  void Backward(const BlockStep& step, const float*, const float* out_gradient) override {
    const size_t count = step.rows * output_.size();
    float* product = product_.Resize(count);
    for (size_t i = 0; i < step.inputs.size(); ++i) {
      if (step.inputs[i].gradient == nullptr) continue;
      std::copy_n(out_gradient, count, product);
      for (size_t j = 0; j < step.inputs.size(); ++j) {
        if (j != i) MultiplyBy(step.inputs[j].value, count, product);
      }
      AddTo(product, count, step.inputs[i].gradient);
    }
  }

 private:
  FloatBuffer product_;
};

// Pairs (i, j), j < i, in the order (1,0) (2,0) (2,1) (3,0) ...; with `self` (i, i) after (i, i - 1).
class Dot final : public Block {
 public:
  Dot(Shape joined, bool self) : fields_(joined.fields), dim_(joined.dim), self_(self) {
    output_ = {1, self ? fields_ * (fields_ + 1) / 2 : fields_ * (fields_ - 1) / 2};
  }

  void Forward(const BlockStep& step, float* out) override {
    columns_.Resize(static_cast<size_t>(fields_) * dim_);
    WithDim(dim_, [&](auto dim) { ForwardRows(step, dim, out); });
  }

  void Backward(const BlockStep& step, const float*, const float* out_gradient) override {
    WithDim(dim_, [&](auto dim) { BackwardRows(step, dim, out_gradient); });
  }

 private:
  struct Field {
    const float* value;
    float* gradient;
    size_t stride;
  };

  void ListFields(const BlockStep& step) {
    list_.clear();
    for (const BlockInput& in : step.inputs) {
      for (uint32_t f = 0; f < in.shape.fields; ++f) {
        const size_t at = static_cast<size_t>(f) * dim_;
        list_.push_back({in.value + at, in.gradient == nullptr ? nullptr : in.gradient + at,
                         in.shape.size()});
      }
    }
  }

  // A sample's fields as columns, so that the inner loop runs over fields and vectorises.
  template <typename Dim>
  void ForwardRows(const BlockStep& step, Dim dim, float* out) {
    ListFields(step);
    float* __restrict columns = columns_.data();
    const size_t fields = fields_;
    for (size_t r = 0; r < step.rows; ++r) {
      for (size_t f = 0; f < fields; ++f) {
        const float* v = list_[f].value + r * list_[f].stride;
        for (uint32_t d = 0; d < dim; ++d) columns[d * fields + f] = v[d];
      }
      float* __restrict y = out + r * output_.dim;
      for (size_t i = 0; i < fields; ++i) {
        const size_t pairs = self_ ? i + 1 : i;
        for (size_t j = 0; j < pairs; ++j) y[j] = 0;
        for (uint32_t d = 0; d < dim; ++d) {
          const float a = columns[d * fields + i];
          for (size_t j = 0; j < pairs; ++j) y[j] += a * columns[d * fields + j];
        }
        y += pairs;
      }
    }
  }

  template <typename Dim>
  void BackwardRows(const BlockStep& step, Dim dim, const float* out_gradient) {
    ListFields(step);
    for (size_t r = 0; r < step.rows; ++r) {
      const float* dy = out_gradient + r * output_.dim;
      for (size_t i = 0; i < fields_; ++i) {
        const size_t pairs = self_ ? i + 1 : i;
        const float* vi = list_[i].value + r * list_[i].stride;
        float* di = list_[i].gradient == nullptr ? nullptr : list_[i].gradient + r * list_[i].stride;
        for (size_t j = 0; j < pairs; ++j) {
          const float g = dy[j];
          const float* vj = list_[j].value + r * list_[j].stride;
          if (di != nullptr) {
            for (uint32_t d = 0; d < dim; ++d) di[d] += g * vj[d];
          }
          if (list_[j].gradient == nullptr) continue;
          float* dj = list_[j].gradient + r * list_[j].stride;
          for (uint32_t d = 0; d < dim; ++d) dj[d] += g * vi[d];
        }
        dy += pairs;
      }
    }
  }

  const uint32_t fields_, dim_;
  const bool self_;
  std::vector<Field> list_;
  FloatBuffer columns_;  // [dim, fields]
};

// scale * a . b / (|a| |b|); norms are of x plus a little, so that zeros have a gradient of 0.
class Cosine final : public Block {
 public:
  Cosine(size_t width, float scale) : width_(width), scale_(scale) { output_ = {1, 1}; }

  void Forward(const BlockStep& step, float* out) override {
    float* inverse = inverse_.Resize(2 * step.rows);
    for (size_t r = 0; r < step.rows; ++r) {
      const float* a = step.inputs[0].value + r * width_;
      const float* b = step.inputs[1].value + r * width_;
      inverse[2 * r] = 1.0f / std::sqrt(DotProduct(a, a, width_) + kEpsilon);
      inverse[2 * r + 1] = 1.0f / std::sqrt(DotProduct(b, b, width_) + kEpsilon);
      out[r] = scale_ * (DotProduct(a, b, width_) * inverse[2 * r] * inverse[2 * r + 1]);
    }
  }

  void Backward(const BlockStep& step, const float* out, const float* out_gradient) override {
    for (size_t side = 0; side < 2; ++side) {
      float* gradient = step.inputs[side].gradient;
      if (gradient == nullptr) continue;
      for (size_t r = 0; r < step.rows; ++r) {
        const float* x = step.inputs[side].value + r * width_;
        const float* other = step.inputs[1 - side].value + r * width_;
        const float own = inverse_.data()[2 * r + side];
        const float along = out_gradient[r] * scale_ * own * inverse_.data()[2 * r + 1 - side];
        const float back = out_gradient[r] * out[r] * own * own;
        float* __restrict d = gradient + r * width_;
        for (size_t i = 0; i < width_; ++i) d[i] += along * other[i] - back * x[i];
      }
    }
  }

 private:
  static constexpr float kEpsilon = 1e-12f;
  const size_t width_;
  const float scale_;
  FloatBuffer inverse_;  // [rows, 2]: 1 / norms
};

}  // namespace

absl::StatusOr<std::unique_ptr<Block>> MakeMul(const BlockConfig&, std::span<const Shape> inputs,
                                               Backend*) {
  absl::Status status = CheckEqualShapes(inputs);
  if (!status.ok()) return status;
  return std::make_unique<Mul>(inputs[0]);
}

absl::StatusOr<std::unique_ptr<Block>> MakeDot(const BlockConfig& config,
                                               std::span<const Shape> inputs, Backend*) {
  constexpr uint32_t kMaxFields = 1024;
  auto joined = JoinFields(inputs);
  if (!joined.ok()) return joined.status();
  if (joined->fields > kMaxFields || (joined->fields < 2 && !config.dot().self())) {
    return absl::InvalidArgumentError(absl::StrCat("its inputs have ", joined->fields,
                                                   " fields together; from 2 to ", kMaxFields));
  }
  return std::make_unique<Dot>(*joined, config.dot().self());
}

absl::StatusOr<std::unique_ptr<Block>> MakeCosine(const BlockConfig& config,
                                                  std::span<const Shape> inputs, Backend*) {
  if (inputs.size() != 2 || inputs[0].size() != inputs[1].size()) {
    std::string sizes;
    for (const Shape& s : inputs) absl::StrAppend(&sizes, sizes.empty() ? "" : ", ", s.size());
    return absl::InvalidArgumentError(
        absl::StrCat("it needs two inputs of one size, and has [", sizes, "]"));
  }
  return std::make_unique<Cosine>(inputs[0].size(), config.cosine().scale());
}

}  // namespace tidegate
