#pragma once
// A block of the graph: shape inference when made, forward and backward for each batch. Blocks keep
// what backward needs from the last forward. Not thread-safe.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/job.pb.h"
#include "worker/model/backend.h"
#include "worker/model/tensor.h"

namespace tidegate {

// A dense tensor that a block owns; becomes the DENSE table "<block>/<name>".
struct DenseParameter {
  enum class Update {
    kGradient,       // by the optimizer of JobConfig.dense
    kMovingAverage,  // its "gradient" is a batch statistic times the sum of sample weights
  };
  std::string name;
  std::vector<uint64_t> shape;
  Initializer init;
  Update update = Update::kGradient;
  bool regularised = false;  // takes JobConfig.dense.l2
};

struct BlockInput {
  const float* value;  // [rows, shape]
  float* gradient;     // [rows, shape], to be added to; null: nobody asks
  Shape shape;
  // A sequence: sample r has the elements offsets[r] to offsets[r + 1] - 1 of [elements, shape]. Null:
  // one element a sample.
  const uint32_t* offsets = nullptr;
};

struct BlockStep {
  size_t rows;
  bool training;
  uint64_t dropout_seed;
  std::span<const uint64_t> sample_ids;  // [rows]
  double weight_sum;                     // of the sample weights
  std::span<const BlockInput> inputs;
  std::span<const float* const> parameters;    // like parameters()
  std::span<float* const> parameter_gradients; // to be overwritten; backward only
};

class Block {
 public:
  virtual ~Block() = default;
  const Shape& output() const { return output_; }
  const std::vector<DenseParameter>& parameters() const { return parameters_; }

  // out: [rows, output()], unspecified before.
  virtual void Forward(const BlockStep& step, float* out) = 0;
  // After Forward of the same batch in training mode. Adds to the inputs' gradients.
  virtual void Backward(const BlockStep& step, const float* out, const float* out_gradient) = 0;

 protected:
  Shape output_;
  std::vector<DenseParameter> parameters_;
};

// Errors say what is wrong with the inputs; the caller puts the block's name in front.
using BlockFactory = absl::StatusOr<std::unique_ptr<Block>> (*)(const BlockConfig& config,
                                                               std::span<const Shape> inputs,
                                                               Backend* backend);
// The factory of the config's kind or custom type; null: none. A new kind is a oneof case in job.proto,
// a file in blocks/ and a line in blocks/registry.cc.
BlockFactory FindBlockFactory(const BlockConfig& config);
// The names a block reads: its `in`, or an attention_pool's query and sequence.
std::vector<std::string> BlockInputs(const BlockConfig& config);
// Whether that input is read element by element (a multi-valued feature's rows), not pooled.
bool ReadsSequence(const BlockConfig& config, size_t input);

// Makes `custom { type: ... }` known to this program, before main: TIDEGATE_REGISTER_BLOCK at namespace
// scope, in a library with alwayslink = 1. A type that is there already stops the program.
bool RegisterBlock(const std::string& type, BlockFactory factory);
std::vector<std::string> RegisteredBlocks();
#define TIDEGATE_REGISTER_BLOCK(type, factory)                                  \
  [[maybe_unused]] static const bool tidegate_registered_block_##factory =      \
      ::tidegate::RegisterBlock(type, factory)

}  // namespace tidegate
