#include "worker/model/preset.h"

#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tidegate {
namespace {

struct PresetFields {
  std::vector<std::string> required, optional;
};

PresetFields FieldsOf(PresetConfig::Kind kind) {
  const std::vector<std::string> of_mlp = {"numeric", "norm", "dropout"};
  switch (kind) {
    case PresetConfig::NONE: break;
    case PresetConfig::LR: return {{"wide"}, {}};
    case PresetConfig::FM: return {{"wide", "deep"}, {}};
    case PresetConfig::WIDE_DEEP:
    case PresetConfig::DEEPFM: return {{"wide", "deep", "units"}, of_mlp};
    case PresetConfig::DCN_V2:
      return {{"deep"}, {"units", "numeric", "norm", "dropout", "cross_layers", "cross_rank"}};
    case PresetConfig::DLRM:
      return {{"deep", "units"}, {"numeric", "norm", "dropout", "bottom_units"}};
    case PresetConfig::NEUMF:
      return {{"query", "item", "query_mlp", "item_mlp", "units"}, {"norm", "dropout"}};
    case PresetConfig::TWO_TOWER: return {{"query", "item", "units"}, {"norm", "dropout", "cosine"}};
  }
  return {};
}

absl::Status CheckFields(const PresetConfig& preset) {
  const std::string at = absl::StrCat("model.preset ", PresetConfig::Kind_Name(preset.kind()), ": ");
  const PresetFields fields = FieldsOf(preset.kind());
  std::set<std::string> allowed = {"kind"};
  allowed.insert(fields.required.begin(), fields.required.end());
  allowed.insert(fields.optional.begin(), fields.optional.end());
  std::vector<const google::protobuf::FieldDescriptor*> set;
  preset.GetReflection()->ListFields(preset, &set);
  std::set<std::string> written;
  std::vector<std::string> problems;
  for (const auto* field : set) {
    written.insert(field->name());
    if (allowed.count(field->name()) == 0) {
      problems.push_back(absl::StrCat(at, field->name(), " is not of this preset"));
    }
  }
  for (const std::string& name : fields.required) {
    if (written.count(name) != 0) continue;
    problems.push_back(absl::StrCat(at, name, name == "units"
                                                  ? ": name the widths of the mlp's layers"
                                                  : ": name a \"table.part\" or \"feature.part\""));
  }
  if (preset.numeric().empty() != preset.bottom_units().empty() &&
      preset.kind() == PresetConfig::DLRM) {
    problems.push_back(absl::StrCat(at, "numeric and bottom_units go together"));
  }
  if (preset.kind() == PresetConfig::NEUMF && (preset.query_size() > 1 || preset.item_size() > 1)) {
    problems.push_back(absl::StrCat(at, "query and item: one input each, which are multiplied"));
  }
  if (problems.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
}

class Expander {
 public:
  explicit Expander(const PresetConfig& preset) : preset_(preset) {}

  ModelConfig Run() {
    switch (preset_.kind()) {
      case PresetConfig::NONE: break;
      case PresetConfig::LR: Wide("logit"); break;
      case PresetConfig::FM:
        Wide("wide");
        Add("fm")->mutable_fm()->add_in(preset_.deep());
        Logit({"wide", "fm"});
        break;
      case PresetConfig::WIDE_DEEP:
        Wide("wide");
        Mlp("deep", Inputs(), 1);
        Logit({"wide", "deep"});
        break;
      case PresetConfig::DEEPFM:
        Wide("wide");
        Add("fm")->mutable_fm()->add_in(preset_.deep());
        Mlp("deep", Inputs(), 1);
        Logit({"wide", "fm", "deep"});
        break;
      case PresetConfig::DCN_V2: DcnV2(); break;
      case PresetConfig::DLRM: Dlrm(); break;
      case PresetConfig::NEUMF: NeuMf(); break;
      case PresetConfig::TWO_TOWER: TwoTower(); break;
    }
    return std::move(model_);
  }

 private:
  using Names = std::vector<std::string>;

  BlockConfig* Add(const char* name) {
    BlockConfig* block = model_.add_block();
    block->set_name(name);
    return block;
  }
  Names Inputs() const {
    Names names = {preset_.deep()};
    names.insert(names.end(), preset_.numeric().begin(), preset_.numeric().end());
    return names;
  }
  void Wide(const char* name) { Add(name)->mutable_sum()->add_in(preset_.wide()); }
  // Layers of `units` and, unless it is 0, one of `last`.
  void Mlp(const char* name, const Names& inputs, uint32_t last) {
    MlpBlock* mlp = Add(name)->mutable_mlp();
    mlp->mutable_in()->Add(inputs.begin(), inputs.end());
    *mlp->mutable_units() = preset_.units();
    if (last > 0) mlp->add_units(last);
    mlp->set_norm(preset_.norm());
    mlp->set_dropout(preset_.dropout());
  }
  void Logit(std::initializer_list<const char*> terms) {
    AddBlock* add = Add("logit")->mutable_add();
    for (const char* term : terms) add->add_in(term);
  }

  // Wang et al. 2021, figure 1b: cross and deep side by side. One linear layer over both is the sum of
  // one over each.
  void DcnV2() {
    const Names inputs = Inputs();
    CrossBlock* cross = Add("cross")->mutable_cross();
    cross->mutable_in()->Add(inputs.begin(), inputs.end());
    cross->set_layers(preset_.cross_layers());
    if (preset_.cross_rank() > 0) cross->set_rank(preset_.cross_rank());
    const bool deep = !preset_.units().empty();
    LinearBlock* linear = Add(deep ? "cross_logit" : "logit")->mutable_linear();
    linear->add_in("cross");
    if (!deep) return;
    linear->set_bias(false);
    Mlp("deep", inputs, 1);
    Logit({"cross_logit", "deep"});
  }

  // Naumov et al. 2019.
  void Dlrm() {
    Names top = {"interactions"};
    if (!preset_.numeric().empty()) {
      MlpBlock* bottom = Add("bottom")->mutable_mlp();
      *bottom->mutable_in() = preset_.numeric();
      *bottom->mutable_units() = preset_.bottom_units();
      bottom->set_last(RELU);
      top.push_back("bottom");
    }
    DotBlock* dot = Add("interactions")->mutable_dot();
    dot->add_in(preset_.deep());
    if (!preset_.numeric().empty()) dot->add_in("bottom");
    Mlp("logit", top, 1);
  }

  // He et al. 2017: generalised matrix factorisation beside an mlp.
  void NeuMf() {
    MulBlock* mul = Add("gmf")->mutable_mul();
    *mul->mutable_in() = preset_.query();
    mul->mutable_in()->MergeFrom(preset_.item());
    LinearBlock* linear = Add("gmf_logit")->mutable_linear();
    linear->add_in("gmf");
    linear->set_bias(false);
    Names inputs(preset_.query_mlp().begin(), preset_.query_mlp().end());
    inputs.insert(inputs.end(), preset_.item_mlp().begin(), preset_.item_mlp().end());
    Mlp("deep", inputs, 1);
    Logit({"gmf_logit", "deep"});
  }

  // Yi et al. 2019.
  void TwoTower() {
    Mlp("query", Names(preset_.query().begin(), preset_.query().end()), 0);
    Mlp("item", Names(preset_.item().begin(), preset_.item().end()), 0);
    BlockConfig* logit = Add("logit");
    auto* in = preset_.cosine() ? logit->mutable_cosine()->mutable_in()
                                : logit->mutable_dot()->mutable_in();
    *in->Add() = "query";
    *in->Add() = "item";
  }

  const PresetConfig& preset_;
  ModelConfig model_;
};

}  // namespace

absl::StatusOr<ModelConfig> ExpandPreset(const ModelConfig& model) {
  ModelConfig out;
  if (model.preset().kind() != PresetConfig::NONE) {
    absl::Status status = CheckFields(model.preset());
    if (!status.ok()) return status;
    out = Expander(model.preset()).Run();
  }
  for (const BlockConfig& b : model.block()) *out.add_block() = b;
  for (const TaskConfig& t : model.task()) *out.add_task() = t;
  return out;
}

}  // namespace tidegate
