#include "worker/model/blocks/layer.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/stable_hash.h"

namespace tidegate {
namespace {

constexpr uint64_t kMaxTensorElements = 1ull << 28;
constexpr size_t kTileRows = 8;

}  // namespace

DenseParameter VectorParameter(std::string name, uint32_t size, float value,
                               DenseParameter::Update update) {
  DenseParameter p;
  p.name = std::move(name);
  p.shape = {size};
  p.init.set_constant(value);
  p.update = update;
  return p;
}

DenseParameter WeightParameter(std::string name, uint32_t in, uint32_t out, Activation activation) {
  DenseParameter p;
  p.name = std::move(name);
  p.shape = {in, out};
  const double fan = activation == RELU ? in : in + out;
  p.init.set_uniform(static_cast<float>(std::sqrt(6.0 / fan)));
  p.regularised = true;
  return p;
}

absl::Status CheckLayers(const std::vector<LayerPlan>& plans) {
  for (const LayerPlan& p : plans) {
    if (p.out == 0) return absl::InvalidArgumentError("units must be 1 or more");
    if (static_cast<uint64_t>(p.in) * p.out > kMaxTensorElements) {
      return absl::InvalidArgumentError(absl::StrCat("a layer of ", p.in, " x ", p.out,
                                                     " weights; at most ", kMaxTensorElements));
    }
  }
  return absl::OkStatus();
}

void BatchNormState::Declare(uint32_t columns, const std::string& suffix,
                             std::vector<DenseParameter>* out) {
  constexpr auto kMoving = DenseParameter::Update::kMovingAverage;
  out->push_back(VectorParameter("gamma" + suffix, columns, 1));
  out->push_back(VectorParameter("beta" + suffix, columns, 0));
  out->push_back(VectorParameter("mean" + suffix, columns, 0, kMoving));
  out->push_back(VectorParameter("variance" + suffix, columns, 1, kMoving));
}

void BatchNormState::Moments(const BlockStep& step, const float* z) {
  float* mean = mean_.Resize(columns_);
  float* variance = variance_.Resize(columns_);
  float* scale = scale_.Resize(columns_);
  if (step.training) {
    BatchMoments(z, step.rows, columns_, mean, variance);
  } else {
    std::copy_n(step.parameters[parameter_ + 2], columns_, mean);
    std::copy_n(step.parameters[parameter_ + 3], columns_, variance);
  }
  for (size_t c = 0; c < columns_; ++c) {
    scale[c] = 1.0f / std::sqrt(std::max(variance[c], 0.0f) + kBatchNormEpsilon);
  }
}

BatchNormView BatchNormState::View(const BlockStep& step, const float* z) const {
  return {step.rows, columns_, z, mean_.data(), scale_.data(), step.parameters[parameter_],
          step.parameters[parameter_ + 1]};
}

void BatchNormState::PushMoments(const BlockStep& step) const {
  for (size_t c = 0; c < columns_; ++c) {
    step.parameter_gradients[parameter_ + 2][c] =
        static_cast<float>(mean_.data()[c] * step.weight_sum);
    step.parameter_gradients[parameter_ + 3][c] =
        static_cast<float>(variance_.data()[c] * step.weight_sum);
  }
}

// Batch norm leaves out the bias: gamma comes right after the weights.
Layer::Layer(const LayerPlan& plan, uint64_t salt, size_t first_parameter, Backend* backend)
    : plan_(plan),
      dropout_(plan.dropout, salt),
      parameter_(first_parameter),
      backend_(backend),
      norm_(plan.out, first_parameter + 1) {}

void Layer::Declare(const LayerPlan& plan, const std::string& suffix,
                    std::vector<DenseParameter>* out) {
  out->push_back(WeightParameter("w" + suffix, plan.in, plan.out, plan.activation));
  if (plan.bias) out->push_back(VectorParameter("b" + suffix, plan.out, 0));
  if (plan.batch_norm) BatchNormState::Declare(plan.out, suffix, out);
}

void Layer::Forward(const BlockStep& step, const float* x, float* out) {
  const size_t count = step.rows * plan_.out;
  float* z = plan_.batch_norm ? z_.Resize(count) : out;
  backend_->Gemm(Op::kPlain, Op::kPlain, static_cast<int64_t>(step.rows), plan_.out, plan_.in, x,
                 step.parameters[parameter_], 0.0f, z);
  if (plan_.batch_norm) norm_.Moments(step, z);
  const bool drop = step.training && dropout_.active();
  if (drop && plan_.activation != RELU) activated_.Resize(count);
  const float* bias = plan_.bias ? step.parameters[parameter_ + 1] : nullptr;
  const BatchNormView whole = plan_.batch_norm ? norm_.View(step, z) : BatchNormView{};
  for (size_t begin = 0; begin < step.rows; begin += kTileRows) {  // a tile stays in the L1 cache
    const size_t rows = std::min(kTileRows, step.rows - begin);
    float* tile = out + begin * plan_.out;
    if (plan_.batch_norm) {
      BatchNormView view = whole;
      view.rows = rows;
      view.z += begin * plan_.out;
      BatchNormForward(view, tile);
    }
    BiasActivate(plan_.activation, bias, rows, plan_.out, tile);
    if (!drop) continue;
    if (plan_.activation != RELU) {
      std::copy_n(tile, rows * plan_.out, activated_.data() + begin * plan_.out);
    }
    dropout_.Apply(step.dropout_seed, step.sample_ids.subspan(begin, rows), plan_.out, tile);
  }
}

void Layer::Backward(const BlockStep& step, const float* x, const float* out, float* d,
                     FlatInput::Target x_target) {
  const size_t count = step.rows * plan_.out;
  const float* activated = out;
  float scale = 1;
  if (dropout_.active()) {
    if (plan_.activation == RELU) {
      scale = dropout_.scale();  // where dropped, out is 0
    } else {
      activated = activated_.data();
      dropout_.Apply(step.dropout_seed, step.sample_ids, plan_.out, d);
    }
  }
  const std::span<float* const> gradients = step.parameter_gradients.subspan(parameter_);
  if (!plan_.batch_norm) ActivateBackward(plan_.activation, activated, scale, count, d);
  if (plan_.bias) ColumnSums(d, step.rows, plan_.out, gradients[1]);
  if (plan_.batch_norm) {
    BatchNormBackward(norm_.View(step, z_.data()), plan_.activation, activated, scale, d,
                      step.parameter_gradients[norm_.gamma()],
                      step.parameter_gradients[norm_.gamma() + 1]);
    norm_.PushMoments(step);
  }
  const auto rows = static_cast<int64_t>(step.rows);
  backend_->Gemm(Op::kTransposed, Op::kPlain, plan_.in, plan_.out, rows, x, d, 0.0f, gradients[0]);
  if (x_target.gradient == nullptr) return;
  backend_->Gemm(Op::kPlain, Op::kTransposed, rows, plan_.in, plan_.out, d,
                 step.parameters[parameter_], x_target.beta, x_target.gradient);
}

LayerStack::LayerStack(const std::string& name, const std::vector<LayerPlan>& plans, bool numbered,
                       std::vector<DenseParameter>* parameters, Backend* backend)
    : outputs_(plans.size()) {
  for (size_t i = 0; i < plans.size(); ++i) {
    const uint64_t salt = StableHash(absl::StrCat(name, "/", i));
    layers_.emplace_back(plans[i], salt, parameters->size(), backend);
    Layer::Declare(plans[i], numbered ? absl::StrCat(i) : "", parameters);
  }
}

void LayerStack::Forward(const BlockStep& step, const float* x, float* out) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const bool last = i + 1 == layers_.size();
    float* y = last ? out : outputs_[i].Resize(step.rows * layers_[i].plan().out);
    layers_[i].Forward(step, x, y);
    x = y;
  }
}

void LayerStack::Backward(const BlockStep& step, const float* x, const float* out,
                          const float* out_gradient, FlatInput::Target x_target) {
  float* d = gradients_[0].Resize(step.rows * this->out());
  std::copy_n(out_gradient, step.rows * this->out(), d);
  size_t next = 1;
  for (size_t i = layers_.size(); i-- > 0;) {
    const float* from = i == 0 ? x : outputs_[i - 1].data();
    const float* y = i + 1 == layers_.size() ? out : outputs_[i].data();
    FlatInput::Target target = x_target;
    if (i > 0) target = {gradients_[next].Resize(step.rows * layers_[i].plan().in), 0.0f};
    layers_[i].Backward(step, from, y, d, target);
    d = target.gradient;
    next = 1 - next;
  }
}

}  // namespace tidegate
