// A block of one's own: `custom { type: "gate" in: "x" in: "y" option { key: "scale" value: "2" } }` gives
// scale * sigmoid(g) * y[r] + x[r], elementwise, with one learnt weight g per element. Everything that a
// block has to do is said in worker/model/block.h.

#include <cmath>
#include <cstdlib>

#include "worker/model/block.h"

namespace {

using tidegate::Backend;
using tidegate::Block;
using tidegate::BlockConfig;
using tidegate::BlockStep;
using tidegate::DenseParameter;
using tidegate::Shape;

class Gate final : public Block {
 public:
  Gate(Shape shape, float scale) : scale_(scale) {
    output_ = shape;
    DenseParameter gate;  // becomes the dense table "NAME/gate" on the servers
    gate.name = "gate";
    gate.shape = {shape.size()};
    gate.init.set_constant(0);
    parameters_.push_back(gate);
  }

  void Forward(const BlockStep& step, float* out) override {
    const size_t n = output_.size();
    for (size_t i = 0; i < step.rows * n; ++i) {
      out[i] = step.inputs[0].value[i] + Open(step.parameters[0][i % n]) * step.inputs[1].value[i];
    }
  }

  void Backward(const BlockStep& step, const float*, const float* out_gradient) override {
    const size_t n = output_.size();
    float* d_gate = step.parameter_gradients[0];
    for (size_t i = 0; i < n; ++i) d_gate[i] = 0;
    for (size_t i = 0; i < step.rows * n; ++i) {
      const float open = Open(step.parameters[0][i % n]);
      d_gate[i % n] += out_gradient[i] * step.inputs[1].value[i] * open * (1 - open / scale_);
      if (step.inputs[0].gradient != nullptr) step.inputs[0].gradient[i] += out_gradient[i];
      if (step.inputs[1].gradient != nullptr) step.inputs[1].gradient[i] += out_gradient[i] * open;
    }
  }

 private:
  float Open(float gate) const { return scale_ / (1 + std::exp(-gate)); }

  const float scale_;
};

absl::StatusOr<std::unique_ptr<Block>> MakeGate(const BlockConfig& config,
                                                std::span<const Shape> inputs, Backend*) {
  if (inputs.size() != 2 || !(inputs[0] == inputs[1])) {
    return absl::InvalidArgumentError("a gate needs two inputs of one shape");
  }
  float scale = 1;
  const auto option = config.custom().option().find("scale");
  if (option != config.custom().option().end()) {
    scale = std::strtof(option->second.c_str(), nullptr);
    if (!(std::isfinite(scale) && scale > 0)) {
      return absl::InvalidArgumentError("option \"scale\" must be a number above 0");
    }
  }
  return std::make_unique<Gate>(inputs[0], scale);
}

TIDEGATE_REGISTER_BLOCK("gate", MakeGate);

}  // namespace
