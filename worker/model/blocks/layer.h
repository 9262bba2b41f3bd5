#pragma once
// One fully connected layer: linear, batch norm, activation, dropout. Blocks are made of it. Not
// thread-safe; keeps what Backward needs from the last Forward.

#include <string>
#include <vector>

#include "worker/model/blocks/factories.h"
#include "worker/model/kernels.h"

namespace tidegate {

struct LayerPlan {
  uint32_t in, out;
  bool bias;        // not with batch norm, which has a shift of its own
  bool batch_norm;
  Activation activation;
  float dropout;
};

// A vector whose elements start at `value`.
DenseParameter VectorParameter(std::string name, uint32_t size, float value,
                               DenseParameter::Update update = DenseParameter::Update::kGradient);
// [in, out] by He et al. 2015 before a RELU, Glorot & Bengio 2010 otherwise; uniform; takes L2.
DenseParameter WeightParameter(std::string name, uint32_t in, uint32_t out, Activation activation);

// Widths of 1 or more, and weights that a tensor can hold.
absl::Status CheckLayers(const std::vector<LayerPlan>& plans);

// Batch normalisation of [rows, columns]: gamma, beta, mean and variance are four parameters from
// `first_parameter` on.
class BatchNormState {
 public:
  BatchNormState(uint32_t columns, size_t first_parameter)
      : columns_(columns), parameter_(first_parameter) {}

  static void Declare(uint32_t columns, const std::string& suffix, std::vector<DenseParameter>* out);
  // Of the batch in training, the moving ones in evaluation.
  void Moments(const BlockStep& step, const float* z);
  BatchNormView View(const BlockStep& step, const float* z) const;
  // What the servers average, into the parameters' gradients.
  void PushMoments(const BlockStep& step) const;
  size_t gamma() const { return parameter_; }

 private:
  const uint32_t columns_;
  const size_t parameter_;
  FloatBuffer mean_, variance_, scale_;
};

class Layer {
 public:
  Layer(const LayerPlan& plan, uint64_t salt, size_t first_parameter, Backend* backend);

  const LayerPlan& plan() const { return plan_; }
  static void Declare(const LayerPlan& plan, const std::string& suffix,
                      std::vector<DenseParameter>* out);

  // x: [rows, in]; out: [rows, out].
  void Forward(const BlockStep& step, const float* x, float* out);
  // `d`: gradient of `out`, overwritten. x_target: see FlatInput.
  void Backward(const BlockStep& step, const float* x, const float* out, float* d,
                FlatInput::Target x_target);

 private:
  const LayerPlan plan_;
  const Dropout dropout_;
  const size_t parameter_;
  Backend* const backend_;
  BatchNormState norm_;
  FloatBuffer z_;          // before batch norm
  FloatBuffer activated_;  // before dropout, unless RELU
};

// Layers one after the other, numbered from 0 in the parameters' names.
class LayerStack {
 public:
  // Salts of dropout are of (name, layer). Parameters are appended to `parameters`.
  LayerStack(const std::string& name, const std::vector<LayerPlan>& plans, bool numbered,
             std::vector<DenseParameter>* parameters, Backend* backend);

  uint32_t in() const { return layers_.front().plan().in; }
  uint32_t out() const { return layers_.back().plan().out; }
  void Forward(const BlockStep& step, const float* x, float* out);
  // Of the last Forward; out_gradient is left as it is.
  void Backward(const BlockStep& step, const float* x, const float* out, const float* out_gradient,
                FlatInput::Target x_target);

 private:
  std::vector<Layer> layers_;
  std::vector<FloatBuffer> outputs_;  // of all layers but the last
  FloatBuffer gradients_[2];
};

}  // namespace tidegate
