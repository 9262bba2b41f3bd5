#include "absl/strings/str_cat.h"
#include "worker/model/blocks/factories.h"
#include "worker/model/kernels.h"

namespace tidegate {
namespace {
constexpr uint64_t kMaxFlatSize = 1 << 20;
}

BlockFactory FindBlockFactory(BlockConfig::KindCase kind) {
  switch (kind) {
    case BlockConfig::kLinear: return MakeLinear;
    case BlockConfig::kMlp: return MakeMlp;
    case BlockConfig::kFm: return MakeFm;
    case BlockConfig::kConcat: return MakeConcat;
    case BlockConfig::kAdd: return MakeAdd;
    case BlockConfig::kSum: return MakeSum;
    case BlockConfig::kPool: return MakePool;
    default: return nullptr;
  }
  return nullptr;
}

const google::protobuf::RepeatedPtrField<std::string>& BlockInputs(const BlockConfig& config) {
  switch (config.kind_case()) {
    case BlockConfig::kLinear: return config.linear().in();
    case BlockConfig::kMlp: return config.mlp().in();
    case BlockConfig::kFm: return config.fm().in();
    case BlockConfig::kConcat: return config.concat().in();
    case BlockConfig::kAdd: return config.add().in();
    case BlockConfig::kSum: return config.sum().in();
    case BlockConfig::kPool: return config.pool().in();
    default: break;
  }
  static const google::protobuf::RepeatedPtrField<std::string> none;
  return none;
}

absl::StatusOr<uint32_t> FlatSize(std::span<const Shape> inputs) {
  uint64_t size = 0;
  for (const Shape& s : inputs) size += s.size();
  if (size > kMaxFlatSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("its inputs have ", size, " elements together; at most ", kMaxFlatSize));
  }
  return static_cast<uint32_t>(size);
}

absl::StatusOr<Shape> JoinFields(std::span<const Shape> inputs) {
  Shape joined{0, inputs[0].dim};
  for (const Shape& s : inputs) {
    if (s.dim != joined.dim) {
      return absl::InvalidArgumentError(
          absl::StrCat("its inputs must be of one dim, and are of ", joined.dim, " and ", s.dim));
    }
    joined.fields += s.fields;
  }
  auto flat = FlatSize(inputs);
  if (!flat.ok()) return flat.status();
  return joined;
}

const float* FlatInput::Gather(const BlockStep& step, uint32_t width) {
  if (step.inputs.size() == 1) return step.inputs[0].value;
  float* out = value_.Resize(step.rows * width);
  size_t offset = 0;
  for (const BlockInput& in : step.inputs) {
    CopyColumns(in.value, step.rows, in.shape.size(), out, width, offset);
    offset += in.shape.size();
  }
  return out;
}

FlatInput::Target FlatInput::GradientTarget(const BlockStep& step, uint32_t width) {
  if (step.inputs.size() == 1) return {step.inputs[0].gradient, 1.0f};
  for (const BlockInput& in : step.inputs) {
    if (in.gradient != nullptr) return {gradient_.Resize(step.rows * width), 0.0f};
  }
  return {nullptr, 0.0f};
}

void FlatInput::Scatter(const BlockStep& step, uint32_t width) {
  if (step.inputs.size() == 1) return;
  size_t offset = 0;
  for (const BlockInput& in : step.inputs) {
    if (in.gradient != nullptr) {
      AddColumns(gradient_.data(), step.rows, width, offset, in.gradient, in.shape.size());
    }
    offset += in.shape.size();
  }
}

}  // namespace tidegate
