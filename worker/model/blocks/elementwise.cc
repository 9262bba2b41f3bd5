// Blocks from one vector to one: activation, batch_norm, dropout, slice.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/stable_hash.h"
#include "worker/model/blocks/layer.h"

namespace tidegate {
namespace {

// The shape that stays: an only input's, else all of them flattened.
absl::StatusOr<Shape> KeptShape(std::span<const Shape> inputs) {
  auto width = FlatSize(inputs);
  if (!width.ok()) return width.status();
  return inputs.size() == 1 ? inputs[0] : Shape{1, *width};
}

class Activate final : public Block {
 public:
  Activate(Shape shape, Activation kind) : kind_(kind) { output_ = shape; }

  void Forward(const BlockStep& step, float* out) override {
    const auto width = static_cast<uint32_t>(output_.size());
    std::copy_n(flat_.Gather(step, width), step.rows * width, out);
    BiasActivate(kind_, nullptr, step.rows, width, out);
  }
  void Backward(const BlockStep& step, const float* out, const float* out_gradient) override {
    const auto width = static_cast<uint32_t>(output_.size());
    const size_t count = step.rows * width;
    float* d = d_.Resize(count);
    std::copy_n(out_gradient, count, d);
    ActivateBackward(kind_, out, 1.0f, count, d);
    FlatInput::AddGradient(step, width, d);
  }

 private:
  const Activation kind_;
  FlatInput flat_;
  FloatBuffer d_;
};

class BatchNorm final : public Block {
 public:
  explicit BatchNorm(Shape shape) : norm_(static_cast<uint32_t>(shape.size()), 0) {
    output_ = shape;
    BatchNormState::Declare(static_cast<uint32_t>(shape.size()), "", &parameters_);
  }

  void Forward(const BlockStep& step, float* out) override {
    z_ = flat_.Gather(step, static_cast<uint32_t>(output_.size()));
    norm_.Moments(step, z_);
    BatchNormForward(norm_.View(step, z_), out);
  }
  void Backward(const BlockStep& step, const float* out, const float* out_gradient) override {
    const auto width = static_cast<uint32_t>(output_.size());
    float* d = d_.Resize(step.rows * width);
    std::copy_n(out_gradient, step.rows * width, d);
    BatchNormBackward(norm_.View(step, z_), IDENTITY, out, 1.0f, d, step.parameter_gradients[0],
                      step.parameter_gradients[1]);
    norm_.PushMoments(step);
    FlatInput::AddGradient(step, width, d);
  }

 private:
  BatchNormState norm_;
  FlatInput flat_;
  const float* z_ = nullptr;  // of the last Forward
  FloatBuffer d_;
};

class DropoutOnly final : public Block {
 public:
  DropoutOnly(Shape shape, float rate, uint64_t salt) : dropout_(rate, salt) { output_ = shape; }

  void Forward(const BlockStep& step, float* out) override {
    const auto width = static_cast<uint32_t>(output_.size());
    std::copy_n(flat_.Gather(step, width), step.rows * width, out);
    if (step.training && dropout_.active()) {
      dropout_.Apply(step.dropout_seed, step.sample_ids, width, out);
    }
  }
  void Backward(const BlockStep& step, const float*, const float* out_gradient) override {
    const auto width = static_cast<uint32_t>(output_.size());
    float* d = d_.Resize(step.rows * width);
    std::copy_n(out_gradient, step.rows * width, d);
    if (dropout_.active()) dropout_.Apply(step.dropout_seed, step.sample_ids, width, d);
    FlatInput::AddGradient(step, width, d);
  }

 private:
  const Dropout dropout_;
  FlatInput flat_;
  FloatBuffer d_;
};

class Slice final : public Block {
 public:
  Slice(uint32_t width, uint32_t begin, uint32_t end) : width_(width), begin_(begin) {
    output_ = {1, end - begin};
  }

  void Forward(const BlockStep& step, float* out) override {
    const float* x = flat_.Gather(step, width_);
    for (size_t r = 0; r < step.rows; ++r) {
      std::copy_n(x + r * width_ + begin_, output_.dim, out + r * output_.dim);
    }
  }
  void Backward(const BlockStep& step, const float*, const float* out_gradient) override {
    size_t offset = 0;  // of the input among all
    for (const BlockInput& in : step.inputs) {
      const size_t size = in.shape.size();
      const size_t first = std::max<size_t>(offset, begin_);
      const size_t last = std::min<size_t>(offset + size, begin_ + output_.dim);
      for (size_t r = 0; in.gradient != nullptr && first < last && r < step.rows; ++r) {
        AddTo(out_gradient + r * output_.dim + (first - begin_), last - first,
              in.gradient + r * size + (first - offset));
      }
      offset += size;
    }
  }

 private:
  const uint32_t width_, begin_;
  FlatInput flat_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Block>> MakeActivation(const BlockConfig& config,
                                                      std::span<const Shape> inputs, Backend*) {
  auto shape = KeptShape(inputs);
  if (!shape.ok()) return shape.status();
  return std::make_unique<Activate>(*shape, config.activation().kind());
}

absl::StatusOr<std::unique_ptr<Block>> MakeBatchNorm(const BlockConfig&,
                                                     std::span<const Shape> inputs, Backend*) {
  auto shape = KeptShape(inputs);
  if (!shape.ok()) return shape.status();
  return std::make_unique<BatchNorm>(*shape);
}

absl::StatusOr<std::unique_ptr<Block>> MakeDropout(const BlockConfig& config,
                                                   std::span<const Shape> inputs, Backend*) {
  auto shape = KeptShape(inputs);
  if (!shape.ok()) return shape.status();
  return std::make_unique<DropoutOnly>(*shape, config.dropout().rate(),
                                       StableHash(absl::StrCat(config.name(), "/0")));
}

absl::StatusOr<std::unique_ptr<Block>> MakeSlice(const BlockConfig& config,
                                                 std::span<const Shape> inputs, Backend*) {
  auto width = FlatSize(inputs);
  if (!width.ok()) return width.status();
  const uint32_t end = config.slice().has_end() ? config.slice().end() : *width;
  if (config.slice().begin() >= end || end > *width) {
    return absl::InvalidArgumentError(absl::StrCat("slice from ", config.slice().begin(), " to ", end,
                                                   " of inputs with ", *width, " elements"));
  }
  return std::make_unique<Slice>(*width, config.slice().begin(), end);
}

}  // namespace tidegate
