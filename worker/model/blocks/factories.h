#pragma once
// One factory per kind of block (docs/config.md says what each computes).

#include "worker/model/block.h"

namespace tidegate {

absl::StatusOr<std::unique_ptr<Block>> MakeLinear(const BlockConfig&, std::span<const Shape>, Backend*);
absl::StatusOr<std::unique_ptr<Block>> MakeMlp(const BlockConfig&, std::span<const Shape>, Backend*);
absl::StatusOr<std::unique_ptr<Block>> MakeFm(const BlockConfig&, std::span<const Shape>, Backend*);
absl::StatusOr<std::unique_ptr<Block>> MakeConcat(const BlockConfig&, std::span<const Shape>, Backend*);
absl::StatusOr<std::unique_ptr<Block>> MakeAdd(const BlockConfig&, std::span<const Shape>, Backend*);
absl::StatusOr<std::unique_ptr<Block>> MakeSum(const BlockConfig&, std::span<const Shape>, Backend*);
absl::StatusOr<std::unique_ptr<Block>> MakePool(const BlockConfig&, std::span<const Shape>, Backend*);
absl::StatusOr<std::unique_ptr<Block>> MakeCross(const BlockConfig&, std::span<const Shape>, Backend*);
absl::StatusOr<std::unique_ptr<Block>> MakeDot(const BlockConfig&, std::span<const Shape>, Backend*);
absl::StatusOr<std::unique_ptr<Block>> MakeMul(const BlockConfig&, std::span<const Shape>, Backend*);
absl::StatusOr<std::unique_ptr<Block>> MakeAttentionPool(const BlockConfig&, std::span<const Shape>, Backend*);
absl::StatusOr<std::unique_ptr<Block>> MakeSlice(const BlockConfig&, std::span<const Shape>, Backend*);
absl::StatusOr<std::unique_ptr<Block>> MakeCosine(const BlockConfig&, std::span<const Shape>, Backend*);
absl::StatusOr<std::unique_ptr<Block>> MakeBatchNorm(const BlockConfig&, std::span<const Shape>, Backend*);
absl::StatusOr<std::unique_ptr<Block>> MakeDropout(const BlockConfig&, std::span<const Shape>, Backend*);
absl::StatusOr<std::unique_ptr<Block>> MakeActivation(const BlockConfig&, std::span<const Shape>, Backend*);

// Elements of one sample over all inputs; an error when that is more than a block takes.
absl::StatusOr<uint32_t> FlatSize(std::span<const Shape> inputs);
// The common dim of inputs that are joined along their fields, and the number of fields.
absl::StatusOr<Shape> JoinFields(std::span<const Shape> inputs);

// An error unless all inputs are of one shape.
absl::Status CheckEqualShapes(std::span<const Shape> inputs);

// Inputs side by side as [rows, FlatSize]. One input is used as it is, without a copy.
class FlatInput {
 public:
  const float* Gather(const BlockStep& step, uint32_t width);
  // Where the gradient of what Gather gave is to be written: `beta` 1 to add, 0 to overwrite.
  struct Target {
    float* gradient;  // null: no input wants one
    float beta;
  };
  Target GradientTarget(const BlockStep& step, uint32_t width);
  // After the target was written.
  void Scatter(const BlockStep& step, uint32_t width);
  // Instead of both: adds `d` [rows, width] to the inputs' gradients.
  static void AddGradient(const BlockStep& step, uint32_t width, const float* d);

 private:
  FloatBuffer value_;
  FloatBuffer gradient_;
};

}  // namespace tidegate
