#include "worker/model/graph.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/job_config/job_config.h"
#include "worker/model/block.h"
#include "worker/model/preset.h"

namespace tidegate {
namespace {

class Planner {
 public:
  Planner(const JobConfig& config, ModelConfig model) : config_(config), model_(std::move(model)) {}

  absl::StatusOr<GraphPlan> Run() {
    IndexNames();
    VisitTasks();
    const bool tasks_found = problems_.empty();
    for (size_t b = 0; b < state_.size(); ++b) {
      if (state_[b] != State::kUnseen) continue;
      if (tasks_found) {
        problems_.push_back(
            absl::StrCat("block \"", model_.block(static_cast<int>(b)).name(), "\" feeds no task"));
      }
      Visit(b);  // for what is wrong with its inputs
    }
    if (!problems_.empty()) return absl::InvalidArgumentError(absl::StrJoin(problems_, "\n"));
    return std::move(plan_);
  }

 private:
  enum class State { kUnseen, kOpen, kDone };

  void IndexNames() {
    size_t looked_up = 0, numeric = 0;
    for (int i = 0; i < config_.feature_size(); ++i) {
      const FeatureConfig& f = config_.feature(i);
      if (f.has_table()) {
        batch_index_[f.name()] = looked_up++;
      } else {
        numeric_[f.name()] = numeric++;
      }
    }
    for (int i = 0; i < model_.block_size(); ++i) {
      const BlockConfig& b = model_.block(i);
      if (b.name().empty() || b.name().find_first_of("./") != std::string::npos) {
        problems_.push_back(absl::StrCat("block \"", b.name(),
                                         "\": a block needs a name without \".\" or \"/\""));
      } else if (!blocks_.emplace(b.name(), i).second) {
        problems_.push_back(absl::StrCat("block \"", b.name(), "\" is there twice"));
      } else if (numeric_.count(b.name()) > 0) {
        problems_.push_back(
            absl::StrCat("block \"", b.name(), "\" has the name of a numeric feature"));
      }
      CheckKind(b);
    }
    state_.assign(static_cast<size_t>(model_.block_size()), State::kUnseen);
    block_node_.resize(state_.size());
  }

  void CheckKind(const BlockConfig& b) {
    const std::string at = absl::StrCat("block \"", b.name(), "\": ");
    if (FindBlockFactory(b) == nullptr) {
      if (!b.has_custom()) {
        problems_.push_back(absl::StrCat(at, "no kind: linear, mlp, cross, ... (docs/config.md)"));
        return;
      }
      const std::vector<std::string> types = RegisteredBlocks();
      problems_.push_back(absl::StrCat(
          at, "no custom block of type \"", b.custom().type(), "\" is linked into this program; there ",
          types.size() == 1 ? "is " : "are ", types.empty() ? "none" : absl::StrJoin(types, ", "),
          DidYouMean(b.custom().type(), types)));
      return;
    }
    if (b.has_attention_pool()) {
      if (b.attention_pool().query().empty()) problems_.push_back(at + "query: name its input");
      if (b.attention_pool().sequence().empty()) {
        problems_.push_back(at + "sequence: name a \"feature.part\"");
      }
    } else if (BlockInputs(b).empty()) {
      problems_.push_back(at + "in: name its inputs");
    }
  }

  void VisitTasks() {
    std::vector<std::string> labels;
    for (const TaskConfig& task : model_.task()) {
      auto it = std::find(labels.begin(), labels.end(), task.label());
      const auto label = static_cast<size_t>(it - labels.begin());
      if (it == labels.end()) labels.push_back(task.label());
      TaskPlan plan;
      plan.label = label;
      plan.weight = task.weight();
      plan.loss = task.loss();
      plan.probability = task.has_probability();
      const bool found = plan.probability ? Root(task, "probability", task.probability(), &plan.node)
                                          : Root(task, "logit", task.logit(), &plan.node);
      if (found && Softmax(task, &plan)) plan_.tasks.push_back(plan);
    }
  }

  // Plans the block that a task names in `field`.
  bool Root(const TaskConfig& task, const char* field, const std::string& name, size_t* node) {
    const auto block = blocks_.find(name);
    if (block == blocks_.end()) {
      problems_.push_back(absl::StrCat("task \"", task.name(), "\": ", field, " \"", name,
                                       "\" is no block", DidYouMean(name, BlockNames())));
      return false;
    }
    if (!Visit(block->second)) return false;
    *node = block_node_[block->second];
    return true;
  }

  bool Softmax(const TaskConfig& task, TaskPlan* plan) {
    if (task.loss() != TaskConfig::SOFTMAX) return true;
    plan->temperature = task.temperature();
    plan->cosine = task.cosine();
    if (!Root(task, "query", task.query(), &plan->query) ||
        !Root(task, "item", task.item(), &plan->item)) {
      return false;
    }
    const auto feature = batch_index_.find(task.item_feature());
    if (feature == batch_index_.end()) {
      std::vector<std::string> names;
      for (const auto& [name, index] : batch_index_) names.push_back(name);
      problems_.push_back(absl::StrCat("task \"", task.name(), "\": item_feature \"",
                                       task.item_feature(), "\" is no feature with a table",
                                       DidYouMean(task.item_feature(), names)));
      return false;
    }
    plan->item_feature = feature->second;
    return true;
  }

  // Depth first, with an explicit stack: a config may be a long chain.
  bool Visit(size_t root) {
    struct Frame {
      size_t block;
      std::vector<std::string> inputs;
      size_t next_input = 0;
      std::vector<size_t> nodes = {};
    };
    std::vector<Frame> stack;
    if (state_[root] == State::kDone) return true;
    stack.push_back({root, BlockInputs(model_.block(static_cast<int>(root)))});
    state_[root] = State::kOpen;
    bool good = true;
    while (!stack.empty()) {
      Frame& top = stack.back();
      const BlockConfig& config = model_.block(static_cast<int>(top.block));
      if (top.next_input == top.inputs.size()) {
        block_node_[top.block] = plan_.nodes.size();
        plan_.nodes.push_back(
            {NodePlan::Kind::kBlock, config.name(), plan_.blocks.size(), std::move(top.nodes)});
        plan_.blocks.push_back(config);
        state_[top.block] = State::kDone;
        stack.pop_back();
        continue;
      }
      const std::string input = top.inputs[top.next_input];
      const bool sequence = ReadsSequence(config, top.next_input);
      const auto block = blocks_.find(input);
      if (block != blocks_.end() && !sequence) {
        if (state_[block->second] == State::kOpen) {
          std::vector<std::string> names;
          for (const Frame& f : stack) names.push_back(model_.block(static_cast<int>(f.block)).name());
          names.erase(names.begin(), std::find(names.begin(), names.end(), input));
          problems_.push_back(absl::StrCat("block \"", input, "\" needs its own output: ",
                                           absl::StrJoin(names, " <- "), " <- ", input));
          for (const Frame& f : stack) state_[f.block] = State::kDone;  // there will be no plan
          return false;
        }
        if (state_[block->second] == State::kUnseen) {
          state_[block->second] = State::kOpen;
          stack.push_back(
              {block->second, BlockInputs(model_.block(static_cast<int>(block->second)))});
          continue;
        }
        top.nodes.push_back(block_node_[block->second]);
      } else {
        size_t node = 0;
        if (Leaf(config.name(), input, sequence, &node)) {
          top.nodes.push_back(node);
        } else {
          good = false;
        }
      }
      ++top.next_input;
    }
    return good;
  }

  // A numeric feature or a lookup; pooled and as a sequence it is two nodes.
  bool Leaf(const std::string& block, const std::string& input, bool sequence, size_t* node) {
    const auto key = std::make_pair(input, sequence);
    const auto known = leaves_.find(key);
    if (known != leaves_.end()) {
      *node = known->second;
      return true;
    }
    const auto numeric = numeric_.find(input);
    if (numeric != numeric_.end() && !sequence) {
      plan_.nodes.push_back({NodePlan::Kind::kNumeric, input, numeric->second});
    } else {
      LookupPlan lookup;
      if (!Lookup(block, input, &lookup)) return false;
      lookup.sequence = sequence;
      if (sequence && lookup.features.size() != 1) {
        problems_.push_back(absl::StrCat("block \"", block, "\": sequence \"", input,
                                         "\" is of ", lookup.features.size(),
                                         " features; name one feature: \"feature.part\""));
        return false;
      }
      plan_.nodes.push_back({NodePlan::Kind::kLookup, input, plan_.lookups.size()});
      plan_.lookups.push_back(std::move(lookup));
    }
    *node = plan_.nodes.size() - 1;
    leaves_[key] = *node;
    return true;
  }

  bool Lookup(const std::string& block, const std::string& input, LookupPlan* lookup) {
    const std::string at = absl::StrCat("block \"", block, "\": input \"", input, "\" ");
    const size_t dot = input.find('.');
    if (dot == std::string::npos && HasFeature(input)) {
      problems_.push_back(absl::StrCat(at, "is an id feature: name a part of its row, \"", input,
                                       ".PART\", or make it a number: numeric { } and no table"));
      return false;
    }
    if (dot == std::string::npos) {
      problems_.push_back(absl::StrCat(at, "is no block, numeric feature or \"table.part\"",
                                       DidYouMean(input, LeafNames())));
      return false;
    }
    const std::string owner = input.substr(0, dot);
    std::string table_name = owner;
    const auto feature = batch_index_.find(owner);
    const bool is_table = TableIndex(owner) >= 0;
    if (!is_table && feature != batch_index_.end()) table_name = FeatureNamed(owner).table();
    const int table = TableIndex(table_name);
    if (table < 0) {
      problems_.push_back(absl::StrCat(at, "names no table or feature \"", owner, "\"",
                                       DidYouMean(input, LeafNames())));
      return false;
    }
    lookup->table = static_cast<TableId>(table);
    for (const FeatureConfig& f : config_.feature()) {
      const bool mine = is_table ? f.table() == owner : f.name() == owner;
      if (f.has_table() && mine) lookup->features.push_back(batch_index_[f.name()]);
    }
    if (lookup->features.empty()) {
      problems_.push_back(absl::StrCat(at, "has no feature: none uses table \"", owner, "\""));
      return false;
    }
    const std::string part = input.substr(dot + 1);
    lookup->offset = 0;
    std::vector<std::string> parts;
    for (const PartConfig& p : config_.table(table).part()) {
      if (p.name() == part) {
        lookup->dim = p.dim();
        lookup->trainable = !p.frozen();
        return true;
      }
      lookup->offset += p.dim();
      parts.push_back(p.name());
    }
    problems_.push_back(absl::StrCat(at, "names no part of table \"", table_name, "\"",
                                     DidYouMean(part, parts)));
    return false;
  }

  int TableIndex(const std::string& name) const {
    for (int i = 0; i < config_.table_size(); ++i) {
      if (config_.table(i).name() == name) return i;
    }
    return -1;
  }
  bool HasFeature(const std::string& name) const {
    return std::any_of(config_.feature().begin(), config_.feature().end(),
                       [&](const FeatureConfig& f) { return f.name() == name && !(f.has_numeric() && !f.has_table()); });
  }
  const FeatureConfig& FeatureNamed(const std::string& name) const {
    return *std::find_if(config_.feature().begin(), config_.feature().end(),
                         [&](const FeatureConfig& f) { return f.name() == name; });
  }
  std::vector<std::string> BlockNames() const {
    std::vector<std::string> names;
    for (const auto& [name, index] : blocks_) names.push_back(name);
    return names;
  }
  std::vector<std::string> LeafNames() const {
    std::vector<std::string> names = BlockNames();
    for (const auto& [name, index] : numeric_) names.push_back(name);
    for (const TableConfig& t : config_.table()) {
      for (const PartConfig& p : t.part()) names.push_back(absl::StrCat(t.name(), ".", p.name()));
    }
    return names;
  }

  const JobConfig& config_;
  const ModelConfig model_;
  GraphPlan plan_;
  std::vector<std::string> problems_;
  std::map<std::string, size_t> batch_index_;  // features with a table
  std::map<std::string, size_t> numeric_;      // features without one
  std::map<std::string, size_t> blocks_;
  std::map<std::pair<std::string, bool>, size_t> leaves_;
  std::vector<State> state_;
  std::vector<size_t> block_node_;
};

}  // namespace

std::vector<std::string> UnreadFeatures(const JobConfig& config, const GraphPlan& plan) {
  std::vector<bool> ids(static_cast<size_t>(config.feature_size())), numbers = ids;
  for (const LookupPlan& lookup : plan.lookups) {
    for (const size_t f : lookup.features) ids[f] = true;
  }
  for (const NodePlan& node : plan.nodes) {
    if (node.kind == NodePlan::Kind::kNumeric) numbers[node.index] = true;
  }
  for (const TaskPlan& task : plan.tasks) {
    if (task.loss == TaskConfig::SOFTMAX) ids[task.item_feature] = true;
  }
  std::vector<std::string> unread;
  size_t id = 0, number = 0;
  for (const FeatureConfig& f : config.feature()) {
    if (!(f.has_table() ? ids[id++] : numbers[number++])) unread.push_back(f.name());
  }
  return unread;
}

absl::StatusOr<GraphPlan> PlanGraph(const JobConfig& config) {
  auto model = ExpandPreset(config.model());
  if (!model.ok()) return model.status();
  return Planner(config, *std::move(model)).Run();
}

}  // namespace tidegate
