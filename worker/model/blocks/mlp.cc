// Fully connected layers (blocks/layer.h); the last one linear and activation. LinearBlock is one such
// layer.
#include "worker/model/blocks/layer.h"

namespace tidegate {
namespace {

class Mlp final : public Block {
 public:
  Mlp(const std::string& name, const std::vector<LayerPlan>& plans, bool numbered, Backend* backend)
      : layers_(name, plans, numbered, &parameters_, backend) {
    output_ = {1, layers_.out()};
  }

  void Forward(const BlockStep& step, float* out) override {
    x_ = flat_.Gather(step, layers_.in());
    layers_.Forward(step, x_, out);
  }

  void Backward(const BlockStep& step, const float* out, const float* out_gradient) override {
    const FlatInput::Target target = flat_.GradientTarget(step, layers_.in());
    layers_.Backward(step, x_, out, out_gradient, target);
    if (target.gradient != nullptr) flat_.Scatter(step, layers_.in());
  }

 private:
  LayerStack layers_;
  FlatInput flat_;
  const float* x_ = nullptr;  // of the last Forward
};

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
  absl::Status status = CheckLayers(plans);
  if (!status.ok()) return status;
  return std::make_unique<Mlp>(config.name(), plans, /*numbered=*/true, backend);
}

absl::StatusOr<std::unique_ptr<Block>> MakeLinear(const BlockConfig& config,
                                                  std::span<const Shape> inputs, Backend* backend) {
  auto width = FlatSize(inputs);
  if (!width.ok()) return width.status();
  const std::vector<LayerPlan> plans = {
      {*width, config.linear().units(), config.linear().bias(), false, IDENTITY, 0}};
  absl::Status status = CheckLayers(plans);
  if (!status.ok()) return status;
  return std::make_unique<Mlp>(config.name(), plans, /*numbered=*/false, backend);
}

}  // namespace tidegate
