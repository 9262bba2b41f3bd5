#include "worker/model/preset.h"

#include "absl/strings/str_cat.h"

namespace tidegate {
namespace {

void AddWide(const PresetConfig& preset, const std::string& name, ModelConfig* model) {
  BlockConfig* block = model->add_block();
  block->set_name(name);
  block->mutable_sum()->add_in(preset.wide());
}

void AddFm(const PresetConfig& preset, ModelConfig* model) {
  BlockConfig* block = model->add_block();
  block->set_name("fm");
  block->mutable_fm()->add_in(preset.deep());
}

void AddDeep(const PresetConfig& preset, ModelConfig* model) {
  BlockConfig* block = model->add_block();
  block->set_name("deep");
  MlpBlock* mlp = block->mutable_mlp();
  mlp->add_in(preset.deep());
  for (const std::string& n : preset.numeric()) mlp->add_in(n);
  *mlp->mutable_units() = preset.units();
  mlp->add_units(1);
  mlp->set_norm(preset.norm());
  mlp->set_dropout(preset.dropout());
}

void AddLogit(std::initializer_list<const char*> terms, ModelConfig* model) {
  BlockConfig* block = model->add_block();
  block->set_name("logit");
  for (const char* term : terms) block->mutable_add()->add_in(term);
}

}  // namespace

absl::StatusOr<ModelConfig> ExpandPreset(const ModelConfig& model) {
  ModelConfig out;
  const PresetConfig& preset = model.preset();
  const auto kind = preset.kind();
  const std::string at = absl::StrCat("model.preset ", PresetConfig::Kind_Name(kind), ": ");
  const bool deep = kind == PresetConfig::WIDE_DEEP || kind == PresetConfig::DEEPFM;
  if (kind != PresetConfig::NONE) {
    if (!preset.has_wide()) return absl::InvalidArgumentError(at + "wide: name a \"table.part\"");
    if (kind != PresetConfig::LR && !preset.has_deep()) {
      return absl::InvalidArgumentError(at + "deep: name a \"table.part\"");
    }
    if (deep && preset.units().empty()) {
      return absl::InvalidArgumentError(at + "units: name the widths of the mlp's hidden layers");
    }
    if (!deep && (!preset.units().empty() || !preset.numeric().empty())) {
      return absl::InvalidArgumentError(at + "units and numeric are for WIDE_DEEP and DEEPFM");
    }
  }
  switch (kind) {
    case PresetConfig::NONE: break;
    case PresetConfig::LR: AddWide(preset, "logit", &out); break;
    case PresetConfig::FM:
      AddWide(preset, "wide", &out);
      AddFm(preset, &out);
      AddLogit({"wide", "fm"}, &out);
      break;
    case PresetConfig::WIDE_DEEP:
      AddWide(preset, "wide", &out);
      AddDeep(preset, &out);
      AddLogit({"wide", "deep"}, &out);
      break;
    case PresetConfig::DEEPFM:
      AddWide(preset, "wide", &out);
      AddFm(preset, &out);
      AddDeep(preset, &out);
      AddLogit({"wide", "fm", "deep"}, &out);
      break;
  }
  for (const BlockConfig& b : model.block()) *out.add_block() = b;
  for (const TaskConfig& t : model.task()) *out.add_task() = t;
  return out;
}

}  // namespace tidegate
