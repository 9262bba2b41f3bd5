#include <map>

#include <google/protobuf/reflection.h>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "worker/model/blocks/factories.h"
#include "worker/model/kernels.h"

namespace tidegate {
namespace {
constexpr uint64_t kMaxFlatSize = 1 << 20;

std::map<std::string, BlockFactory>& CustomBlocks() {
  static auto* blocks = new std::map<std::string, BlockFactory>();
  return *blocks;
}

}  // namespace

BlockFactory FindBlockFactory(const BlockConfig& config) {
  switch (config.kind_case()) {
    case BlockConfig::kLinear: return MakeLinear;
    case BlockConfig::kMlp: return MakeMlp;
    case BlockConfig::kFm: return MakeFm;
    case BlockConfig::kConcat: return MakeConcat;
    case BlockConfig::kAdd: return MakeAdd;
    case BlockConfig::kSum: return MakeSum;
    case BlockConfig::kPool: return MakePool;
    case BlockConfig::kCross: return MakeCross;
    case BlockConfig::kDot: return MakeDot;
    case BlockConfig::kMul: return MakeMul;
    case BlockConfig::kAttentionPool: return MakeAttentionPool;
    case BlockConfig::kSlice: return MakeSlice;
    case BlockConfig::kCosine: return MakeCosine;
    case BlockConfig::kBatchNorm: return MakeBatchNorm;
    case BlockConfig::kDropout: return MakeDropout;
    case BlockConfig::kActivation: return MakeActivation;
    case BlockConfig::kCustom: {
      const auto found = CustomBlocks().find(config.custom().type());
      return found == CustomBlocks().end() ? nullptr : found->second;
    }
    case BlockConfig::KIND_NOT_SET: break;
  }
  return nullptr;
}

std::vector<std::string> BlockInputs(const BlockConfig& config) {
  if (config.has_attention_pool()) {
    return {config.attention_pool().query(), config.attention_pool().sequence()};
  }
  const auto* kind = config.GetReflection()->GetOneofFieldDescriptor(
      config, config.GetDescriptor()->FindOneofByName("kind"));
  if (kind == nullptr) return {};
  const google::protobuf::Message& message = config.GetReflection()->GetMessage(config, kind);
  const auto* in = message.GetDescriptor()->FindFieldByName("in");
  if (in == nullptr) return {};
  const auto& names = message.GetReflection()->GetRepeatedFieldRef<std::string>(message, in);
  return {names.begin(), names.end()};
}

bool ReadsSequence(const BlockConfig& config, size_t input) {
  return config.has_attention_pool() && input == 1;
}

bool RegisterBlock(const std::string& type, BlockFactory factory) {
  TG_CHECK(CustomBlocks().emplace(type, factory).second)
      << "two custom blocks of type \"" << type << "\"";
  return true;
}

std::vector<std::string> RegisteredBlocks() {
  std::vector<std::string> types;
  for (const auto& [type, factory] : CustomBlocks()) types.push_back(type);
  return types;
}

absl::Status CheckEqualShapes(std::span<const Shape> inputs) {
  for (const Shape& s : inputs) {
    if (!(s == inputs[0])) {
      return absl::InvalidArgumentError(
          absl::StrCat("its inputs must be of one shape, and are [", inputs[0].fields, ", ",
                       inputs[0].dim, "] and [", s.fields, ", ", s.dim, "]"));
    }
  }
  return absl::OkStatus();
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

void FlatInput::AddGradient(const BlockStep& step, uint32_t width, const float* d) {
  size_t offset = 0;
  for (const BlockInput& in : step.inputs) {
    if (in.gradient != nullptr) AddColumns(d, step.rows, width, offset, in.gradient, in.shape.size());
    offset += in.shape.size();
  }
}

}  // namespace tidegate
