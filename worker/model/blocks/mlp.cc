// Fully connected layers: linear, batch norm, activation, dropout; the last one linear and activation.
// LinearBlock is one such layer.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/stable_hash.h"
#include "worker/model/blocks/factories.h"
#include "worker/model/kernels.h"

namespace tidegate {
namespace {

constexpr uint64_t kMaxTensorElements = 1ull << 28;
constexpr size_t kTileRows = 8;

struct LayerPlan {
  uint32_t in, out;
  bool bias;        // not with batch norm, which has a shift of its own
  bool batch_norm;
  Activation activation;
  float dropout;
};

DenseParameter Vector(std::string name, uint32_t size, float value,
                      DenseParameter::Update update = DenseParameter::Update::kGradient) {
  DenseParameter p;
  p.name = std::move(name);
  p.shape = {size};
  p.init.set_constant(value);
  p.update = update;
  return p;
}

// He et al. 2015 before a RELU, Glorot & Bengio 2010 otherwise; uniform.
DenseParameter Weights(std::string name, const LayerPlan& plan) {
  DenseParameter p;
  p.name = std::move(name);
  p.shape = {plan.in, plan.out};
  const double fan = plan.activation == RELU ? plan.in : plan.in + plan.out;
  p.init.set_uniform(static_cast<float>(std::sqrt(6.0 / fan)));
  p.regularised = true;
  return p;
}

class Layer {
 public:
  Layer(const LayerPlan& plan, uint64_t salt, size_t first_parameter, Backend* backend)
      : plan_(plan), dropout_(plan.dropout, salt), parameter_(first_parameter), backend_(backend) {}

  const LayerPlan& plan() const { return plan_; }

  static void Declare(const LayerPlan& plan, const std::string& suffix,
                      std::vector<DenseParameter>* out) {
    constexpr auto kMoving = DenseParameter::Update::kMovingAverage;
    out->push_back(Weights("w" + suffix, plan));
    if (plan.bias) out->push_back(Vector("b" + suffix, plan.out, 0));
    if (!plan.batch_norm) return;
    out->push_back(Vector("gamma" + suffix, plan.out, 1));
    out->push_back(Vector("beta" + suffix, plan.out, 0));
    out->push_back(Vector("mean" + suffix, plan.out, 0, kMoving));
    out->push_back(Vector("variance" + suffix, plan.out, 1, kMoving));
  }

  void Forward(const BlockStep& step, const float* x, float* out) {
    const size_t count = step.rows * plan_.out;
    float* z = plan_.batch_norm ? z_.Resize(count) : out;
    backend_->Gemm(Op::kPlain, Op::kPlain, static_cast<int64_t>(step.rows), plan_.out, plan_.in, x,
                   step.parameters[parameter_], 0.0f, z);
    if (plan_.batch_norm) Moments(step, z);
    const bool drop = step.training && dropout_.active();
    if (drop && plan_.activation != RELU) activated_.Resize(count);
    const float* bias = plan_.bias ? step.parameters[parameter_ + 1] : nullptr;
    const BatchNormView whole = plan_.batch_norm ? View(step) : BatchNormView{};
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

  // `d`: gradient of `out`, overwritten. x_target: see FlatInput.
  void Backward(const BlockStep& step, const float* x, const float* out, float* d,
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
      const size_t g = Gamma() - parameter_;
      BatchNormBackward(View(step), plan_.activation, activated, scale, d, gradients[g],
                        gradients[g + 1]);
      for (size_t c = 0; c < plan_.out; ++c) {
        gradients[g + 2][c] = static_cast<float>(mean_.data()[c] * step.weight_sum);
        gradients[g + 3][c] = static_cast<float>(variance_.data()[c] * step.weight_sum);
      }
    }
    const auto rows = static_cast<int64_t>(step.rows);
    backend_->Gemm(Op::kTransposed, Op::kPlain, plan_.in, plan_.out, rows, x, d, 0.0f, gradients[0]);
    if (x_target.gradient == nullptr) return;
    backend_->Gemm(Op::kPlain, Op::kTransposed, rows, plan_.in, plan_.out, d,
                   step.parameters[parameter_], x_target.beta, x_target.gradient);
  }

 private:
  // Index of gamma among the parameters: after the weights, for batch norm leaves out the bias.
  size_t Gamma() const { return parameter_ + 1; }

  BatchNormView View(const BlockStep& step) const {
    return {step.rows, plan_.out, z_.data(), mean_.data(), scale_.data(), step.parameters[Gamma()],
            step.parameters[Gamma() + 1]};
  }

  void Moments(const BlockStep& step, const float* z) {
    float* mean = mean_.Resize(plan_.out);
    float* variance = variance_.Resize(plan_.out);
    float* scale = scale_.Resize(plan_.out);
    if (step.training) {
      BatchMoments(z, step.rows, plan_.out, mean, variance);
    } else {
      std::copy_n(step.parameters[Gamma() + 2], plan_.out, mean);
      std::copy_n(step.parameters[Gamma() + 3], plan_.out, variance);
    }
    for (size_t c = 0; c < plan_.out; ++c) {
      scale[c] = 1.0f / std::sqrt(std::max(variance[c], 0.0f) + kBatchNormEpsilon);
    }
  }

  const LayerPlan plan_;
  const Dropout dropout_;
  const size_t parameter_;
  Backend* const backend_;
  FloatBuffer z_, mean_, variance_, scale_;  // batch norm
  FloatBuffer activated_;                    // before dropout, unless RELU
};

class Mlp final : public Block {
 public:
  Mlp(const std::string& name, const std::vector<LayerPlan>& plans, bool numbered, Backend* backend) {
    for (size_t i = 0; i < plans.size(); ++i) {
      const uint64_t salt = StableHash(absl::StrCat(name, "/", i));
      layers_.emplace_back(plans[i], salt, parameters_.size(), backend);
      Layer::Declare(plans[i], numbered ? absl::StrCat(i) : "", &parameters_);
    }
    outputs_.resize(plans.size());
    output_ = {1, plans.back().out};
  }

  void Forward(const BlockStep& step, float* out) override {
    x_ = flat_.Gather(step, layers_[0].plan().in);
    const float* x = x_;
    for (size_t i = 0; i < layers_.size(); ++i) {
      const bool last = i + 1 == layers_.size();
      float* y = last ? out : outputs_[i].Resize(step.rows * layers_[i].plan().out);
      layers_[i].Forward(step, x, y);
      x = y;
    }
  }

  void Backward(const BlockStep& step, const float* out, const float* out_gradient) override {
    const uint32_t width = layers_[0].plan().in;
    float* d = gradients_[0].Resize(step.rows * layers_.back().plan().out);
    std::copy_n(out_gradient, step.rows * layers_.back().plan().out, d);
    size_t next = 1;
    for (size_t i = layers_.size(); i-- > 0;) {
      const float* x = i == 0 ? x_ : outputs_[i - 1].data();
      const float* y = i + 1 == layers_.size() ? out : outputs_[i].data();
      FlatInput::Target target;
      if (i == 0) {
        target = flat_.GradientTarget(step, width);
      } else {
        target = {gradients_[next].Resize(step.rows * layers_[i].plan().in), 0.0f};
      }
      layers_[i].Backward(step, x, y, d, target);
      d = target.gradient;
      next = 1 - next;
      if (i == 0 && target.gradient != nullptr) flat_.Scatter(step, width);
    }
  }

 private:
  std::vector<Layer> layers_;
  FlatInput flat_;
  const float* x_ = nullptr;           // of the last Forward
  std::vector<FloatBuffer> outputs_;   // of all layers but the last
  FloatBuffer gradients_[2];
};

absl::Status CheckUnits(const std::vector<LayerPlan>& plans) {
  for (const LayerPlan& p : plans) {
    if (p.out == 0) return absl::InvalidArgumentError("units must be 1 or more");
    if (static_cast<uint64_t>(p.in) * p.out > kMaxTensorElements) {
      return absl::InvalidArgumentError(absl::StrCat("a layer of ", p.in, " x ", p.out,
                                                     " weights; at most ", kMaxTensorElements));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Block>> MakeMlp(const BlockConfig& config,
                                               std::span<const Shape> inputs, Backend* backend) {
  const MlpBlock& mlp = config.mlp();
  auto width = FlatSize(inputs);
  if (!width.ok()) return width.status();
  if (mlp.units().empty()) return absl::InvalidArgumentError("units: name the width of each layer");
  std::vector<LayerPlan> plans;
  uint32_t in = *width;
  for (int i = 0; i < mlp.units_size(); ++i) {
    const bool last = i + 1 == mlp.units_size();
    const bool norm = mlp.norm() == MlpBlock::BATCH && !last;
    plans.push_back({in, mlp.units(i), !norm, norm, last ? mlp.last() : mlp.activation(),
                     last ? 0 : mlp.dropout()});
    in = mlp.units(i);
  }
  absl::Status status = CheckUnits(plans);
  if (!status.ok()) return status;
  return std::make_unique<Mlp>(config.name(), plans, /*numbered=*/true, backend);
}

absl::StatusOr<std::unique_ptr<Block>> MakeLinear(const BlockConfig& config,
                                                  std::span<const Shape> inputs, Backend* backend) {
  auto width = FlatSize(inputs);
  if (!width.ok()) return width.status();
  const std::vector<LayerPlan> plans = {
      {*width, config.linear().units(), config.linear().bias(), false, IDENTITY, 0}};
  absl::Status status = CheckUnits(plans);
  if (!status.ok()) return status;
  return std::make_unique<Mlp>(config.name(), plans, /*numbered=*/false, backend);
}

}  // namespace tidegate
