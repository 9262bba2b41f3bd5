#include "worker/model/model.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "worker/model/block.h"
#include "worker/model/gather.h"
#include "worker/model/graph.h"
#include "worker/model/lookup.h"
#include "worker/model/loss.h"
#include "worker/model/softmax_loss.h"
#include "worker/model/table_specs.h"
#include "worker/model/unadmitted.h"

namespace tidegate {
namespace {

class GraphModel final : public Model {
 public:
  static absl::StatusOr<std::unique_ptr<Model>> Make(const JobConfig& config) {
    auto plan = PlanGraph(config);
    if (!plan.ok()) return plan.status();
    auto model = std::unique_ptr<GraphModel>(new GraphModel(*std::move(plan)));
    model->clip_norm_ = config.train().clip_worker_norm();
    model->AddFeatures(config);
    absl::Status status = model->AddBlocks(config);
    if (!status.ok()) return status;
    return std::unique_ptr<Model>(std::move(model));
  }

  const std::vector<TableSpec>& tables() const override { return tables_; }
  const std::vector<uint32_t>& row_widths() const override { return widths_; }
  TableId TableOfFeature(size_t feature) const override { return feature_table_[feature]; }
  std::optional<Key> OovKeyOfFeature(size_t feature) const override { return oov_keys_[feature]; }
  std::vector<std::string> task_names() const override { return task_names_; }
  std::vector<size_t> task_labels() const override {
    std::vector<size_t> labels;
    for (const TaskPlan& t : plan_.tasks) labels.push_back(t.label);
    return labels;
  }

  void Gather(Step* step) const override {
    step->tables.resize(tables_.size());
    step->features.resize(feature_table_.size());
    for (TableId t = 0; t < sparse_tables_; ++t) GatherKeys(t, table_features_[t], oov_keys_, step);
    for (size_t t = sparse_tables_; t < tables_.size(); ++t) {
      std::vector<Key>& keys = step->tables[t].keys;
      keys.resize(DenseBlocks(tables_[t]));
      for (size_t k = 0; k < keys.size(); ++k) keys[k] = k;
    }
  }

  absl::StatusOr<StepResult> Train(Step* step) override {
    absl::Status status = Prepare(*step, /*training=*/true);
    if (!status.ok()) return status;
    ReadOovRows(step);
    for (size_t t = 0; t < tables_.size(); ++t) {
      step->tables[t].gradients.assign(step->tables[t].rows.size(), 0.0f);
    }
    StepResult result;
    result.probabilities.resize(plan_.tasks.size());
    if (step->batch.rows == 0) return result;
    Forward(*step);
    for (size_t n = 0; n < plan_.nodes.size(); ++n) {
      if (!wants_gradient_[n]) continue;
      const size_t count = CountOf(n, *step);
      std::fill_n(gradients_[n].Resize(count), count, 0.0f);
    }
    Losses(*step, &result);
    Backward(step);
    if (clip_norm_ > 0) ClipDenseNorm(step);
    for (TableId t : marked_tables_) DropUnread(widths_[t], &step->tables[t]);
    return result;
  }

  absl::StatusOr<StepResult> Evaluate(Step* step) override {
    absl::Status status = Prepare(*step, /*training=*/false);
    if (!status.ok()) return status;
    StepResult result;
    result.probabilities.resize(plan_.tasks.size());
    if (step->batch.rows == 0) return result;
    ReadOovRows(step);
    Forward(*step);
    Losses(*step, &result);
    return result;
  }

 private:
  explicit GraphModel(GraphPlan plan) : plan_(std::move(plan)), backend_(MakeCpuBackend()) {}

  void AddFeatures(const JobConfig& config) {
    for (int t = 0; t < config.table_size(); ++t) {
      tables_.push_back(SparseTableSpec(config, config.table(t), static_cast<TableId>(t)));
      if (MarksUnadmitted(tables_.back())) marked_tables_.push_back(static_cast<TableId>(t));
    }
    sparse_tables_ = tables_.size();
    table_features_.resize(sparse_tables_);
    for (const FeatureConfig& f : config.feature()) {
      if (!f.has_table()) {
        ++numeric_count_;
        continue;
      }
      for (TableId t = 0; t < sparse_tables_; ++t) {
        if (tables_[t].name() != f.table()) continue;
        table_features_[t].push_back(feature_table_.size());
        feature_table_.push_back(t);
        oov_keys_.push_back(MarksUnadmitted(tables_[t]) ? std::optional(OovKeyOf(f)) : std::nullopt);
        break;
      }
    }
    for (const TaskConfig& t : config.model().task()) task_names_.push_back(t.name());
    for (const TaskPlan& t : plan_.tasks) label_count_ = std::max(label_count_, t.label + 1);
  }

  // What does not fit, a line for each block; blocks that read such a one are not looked at.
  absl::Status AddBlocks(const JobConfig& config) {
    std::vector<std::string> problems;
    std::vector<bool> known;  // [node]: its shape is
    for (const NodePlan& node : plan_.nodes) {
      known.push_back(std::all_of(node.inputs.begin(), node.inputs.end(), [&](size_t in) { return known[in]; }));
      bool wants_gradient = false;
      Shape shape{1, 1};
      if (node.kind == NodePlan::Kind::kLookup) {
        const LookupPlan& lookup = plan_.lookups[node.index];
        shape = {lookup.sequence ? 1 : static_cast<uint32_t>(lookup.features.size()), lookup.dim};
        wants_gradient = lookup.trainable;
      } else if (node.kind == NodePlan::Kind::kBlock) {
        const absl::Status status = known.back() ? AddBlock(config, node) : absl::OkStatus();
        if (!status.ok()) problems.emplace_back(status.message());
        known.back() = known.back() && status.ok();
        if (!known.back()) {
          shapes_.push_back(shape);
          wants_gradient_.push_back(false);
          continue;
        }
        shape = blocks_.back()->output();
        wants_gradient = !blocks_.back()->parameters().empty();
        for (size_t in : node.inputs) wants_gradient |= wants_gradient_[in] != 0;
      }
      shapes_.push_back(shape);
      wants_gradient_.push_back(wants_gradient);
    }
    if (!problems.empty()) return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
    for (size_t t = 0; t < plan_.tasks.size(); ++t) {
      absl::Status status = AddTask(task_names_[t], plan_.tasks[t]);
      if (!status.ok()) return status;
    }
    values_.resize(plan_.nodes.size());
    gradients_.resize(plan_.nodes.size());
    value_of_.resize(plan_.nodes.size());
    permuted_.resize(tables_.size());
    permuted_gradient_.resize(tables_.size());
    return absl::OkStatus();
  }

  absl::Status AddTask(const std::string& name, const TaskPlan& task) {
    const std::string at = absl::StrCat("task \"", name, "\": ");
    const size_t size = shapes_[task.node].size();
    if (size != 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(at, task.probability ? "probability" : "logit", " \"",
                       plan_.nodes[task.node].name, "\" has ", size,
                       " elements per sample; it must have one"));
    }
    softmax_.emplace_back();
    if (task.loss != TaskConfig::SOFTMAX) return absl::OkStatus();
    if (shapes_[task.query].size() != shapes_[task.item].size()) {
      return absl::InvalidArgumentError(
          absl::StrCat(at, "query and item have ", shapes_[task.query].size(), " and ",
                       shapes_[task.item].size(), " elements per sample; they must have as many"));
    }
    softmax_.back() = std::make_unique<InBatchSoftmax>(
        InBatchSoftmax::Options{task.temperature, task.cosine, task.weight}, backend_.get());
    return absl::OkStatus();
  }

  absl::Status AddBlock(const JobConfig& config, const NodePlan& node) {
    const BlockConfig& block_config = plan_.blocks[node.index];
    std::vector<Shape> inputs;
    for (size_t in : node.inputs) inputs.push_back(shapes_[in]);
    auto block = FindBlockFactory(block_config)(block_config, inputs, backend_.get());
    if (!block.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("block \"", node.name, "\": ", block.status().message()));
    }
    std::vector<size_t> parameter_tables;
    for (const DenseParameter& p : (*block)->parameters()) {
      parameter_tables.push_back(tables_.size());
      tables_.push_back(DenseTableSpec(config, p, absl::StrCat(node.name, "/", p.name),
                                       static_cast<TableId>(tables_.size())));
    }
    blocks_.push_back(*std::move(block));
    block_tables_.push_back(std::move(parameter_tables));
    widths_.clear();
    for (const TableSpec& t : tables_) widths_.push_back(RowWidth(t));
    return absl::OkStatus();
  }

  // Everything that Forward and Backward index by is checked here.
  absl::Status Prepare(const Step& step, bool training) {
    training_ = training;
    const Batch& batch = step.batch;
    if (batch.features.size() != feature_table_.size() || batch.numeric.size() != numeric_count_ ||
        batch.labels.size() < label_count_ || step.tables.size() != tables_.size() ||
        step.features.size() != feature_table_.size()) {
      return absl::InvalidArgumentError("the batch has other columns than the model");
    }
    for (const auto& column : batch.numeric) {
      if (column.size() != batch.rows) return absl::InvalidArgumentError("a numeric column is short");
    }
    for (size_t l = 0; l < label_count_; ++l) {
      if (batch.labels[l].size() != batch.rows) {
        return absl::InvalidArgumentError("a label column is short");
      }
    }
    if (batch.sample_id.size() != batch.rows ||
        (!batch.sample_weight.empty() && batch.sample_weight.size() != batch.rows)) {
      return absl::InvalidArgumentError("sample ids or weights are short");
    }
    for (size_t t = 0; t < tables_.size(); ++t) {
      if (step.tables[t].rows.size() != step.tables[t].keys.size() * widths_[t]) {
        return absl::InvalidArgumentError(absl::StrCat("table \"", tables_[t].name(), "\": rows of ",
                                                       step.tables[t].rows.size(),
                                                       " elements do not fit its keys"));
      }
    }
    for (size_t f = 0; f < feature_table_.size(); ++f) {
      const FeatureColumn& column = batch.features[f];
      if (column.offsets.size() != batch.rows + 1 || column.offsets.back() != column.keys.size() ||
          step.features[f].position.size() != column.keys.size() ||
          (!column.weights.empty() && column.weights.size() != column.keys.size())) {
        return absl::InvalidArgumentError(absl::StrCat("feature ", f, ": its columns disagree"));
      }
      const TableStep& table = step.tables[feature_table_[f]];
      if (oov_keys_[f] && !column.keys.empty() &&
          (step.features[f].oov_position >= table.keys.size() || table.counts.size() != table.keys.size())) {
        return absl::InvalidArgumentError(absl::StrCat("feature ", f, ": no place or count of its out-of-vocabulary key"));
      }
    }
    return PrepareParameters(step);
  }

  // A dense table's rows are its tensor where the keys are in order; else a copy puts them so.
  absl::Status PrepareParameters(const Step& step) {
    parameter_of_.assign(tables_.size(), nullptr);
    in_order_.assign(tables_.size(), 1);
    for (size_t t = sparse_tables_; t < tables_.size(); ++t) {
      const TableStep& table = step.tables[t];
      const size_t blocks = DenseBlocks(tables_[t]);
      if (table.keys.size() != blocks) {
        return absl::InvalidArgumentError(absl::StrCat("table \"", tables_[t].name(), "\": ",
                                                       table.keys.size(), " of ", blocks, " blocks"));
      }
      for (size_t k = 0; k < blocks; ++k) {
        if (table.keys[k] >= blocks) {
          return absl::InvalidArgumentError(
              absl::StrCat("table \"", tables_[t].name(), "\": no block ", table.keys[k]));
        }
        if (table.keys[k] != k) in_order_[t] = 0;
      }
      parameter_of_[t] = table.rows.data();
      if (in_order_[t] != 0) continue;
      float* ordered = permuted_[t].Resize(table.rows.size());
      for (size_t k = 0; k < blocks; ++k) {
        std::copy_n(table.rows.data() + k * widths_[t], widths_[t],
                    ordered + table.keys[k] * widths_[t]);
      }
      parameter_of_[t] = ordered;
    }
    return absl::OkStatus();
  }

  void ReadOovRows(Step* step) const {
    for (TableId t : marked_tables_) ReadOutOfVocabularyRows(t, table_features_[t], widths_[t], step);
  }

  float* GradientOf(size_t node) {
    return training_ && wants_gradient_[node] != 0 ? gradients_[node].data() : nullptr;
  }
  // Of a sequence's elements; null: one element a sample.
  const uint32_t* OffsetsOf(size_t n, const Step& step) const {
    const NodePlan& node = plan_.nodes[n];
    if (node.kind != NodePlan::Kind::kLookup || !plan_.lookups[node.index].sequence) return nullptr;
    return step.batch.features[plan_.lookups[node.index].features[0]].offsets.data();
  }
  size_t CountOf(size_t n, const Step& step) const {
    const uint32_t* offsets = OffsetsOf(n, step);
    return (offsets == nullptr ? step.batch.rows : offsets[step.batch.rows]) * shapes_[n].size();
  }

  BlockStep StepOf(const NodePlan& node, const Step& step) {
    inputs_.clear();
    for (size_t in : node.inputs) {
      inputs_.push_back({value_of_[in], GradientOf(in), shapes_[in], OffsetsOf(in, step)});
    }
    parameters_.clear();
    for (size_t t : block_tables_[node.index]) parameters_.push_back(parameter_of_[t]);
    return {step.batch.rows, training_,   step.dropout_seed, step.batch.sample_id,
            weight_sum_,     inputs_,     parameters_,       parameter_gradients_};
  }

  void Forward(const Step& step) {
    weight_sum_ = static_cast<double>(step.batch.rows);
    if (!step.batch.sample_weight.empty()) {
      weight_sum_ = 0;
      for (float w : step.batch.sample_weight) weight_sum_ += w;
    }
    for (size_t n = 0; n < plan_.nodes.size(); ++n) {
      const NodePlan& node = plan_.nodes[n];
      if (node.kind == NodePlan::Kind::kNumeric) {
        value_of_[n] = step.batch.numeric[node.index].data();
        continue;
      }
      float* out = values_[n].Resize(CountOf(n, step));
      value_of_[n] = out;
      if (node.kind == NodePlan::Kind::kLookup) {
        const LookupPlan& lookup = plan_.lookups[node.index];
        LookupForward(lookup, step, widths_[lookup.table], out);
      } else {
        blocks_[node.index]->Forward(StepOf(node, step), out);
      }
    }
  }

  void Losses(const Step& step, StepResult* result) {
    result->weight_sum = weight_sum_;
    for (size_t t = 0; t < plan_.tasks.size(); ++t) {
      const TaskPlan& task = plan_.tasks[t];
      const LossInput in = {{value_of_[task.node], step.batch.rows}, step.batch.labels[task.label],
                            step.batch.sample_weight, task.weight};
      result->probabilities[t].assign(in.outputs.begin(), in.outputs.end());
      result->loss_sum += LossOf(t, in, step, result->probabilities[t]);
    }
  }

  // `scores`: the outputs; of BCE on logits they become probabilities.
  double LossOf(size_t t, const LossInput& in, const Step& step, std::span<float> scores) {
    const TaskPlan& task = plan_.tasks[t];
    std::span<float> d_outputs;
    if (float* d = GradientOf(task.node); d != nullptr) d_outputs = {d, step.batch.rows};
    switch (task.loss) {
      case TaskConfig::BCE:
        return task.probability ? BinaryCrossEntropyOfProbabilities(in, d_outputs)
                                : BinaryCrossEntropy(in, scores, d_outputs);
      case TaskConfig::MSE: return SquaredError(in, d_outputs);
      case TaskConfig::BPR: return PairwiseRanking(in, d_outputs);
      case TaskConfig::SOFTMAX: break;
    }
    if (!training_) return 0;  // in-batch candidates are a matter of training
    return softmax_[t]->Run({step.batch.rows, static_cast<uint32_t>(shapes_[task.query].size()),
                             value_of_[task.query], value_of_[task.item], in.labels, in.weights,
                             &step.batch.features[task.item_feature], GradientOf(task.query),
                             GradientOf(task.item)});
  }

  // All dense gradients together, divided by the samples' weight, to a norm of at most clip_norm_.
  void ClipDenseNorm(Step* step) const {
    double squares = 0;
    for (size_t t = sparse_tables_; t < tables_.size(); ++t) {
      if (IsMovingAverage(t)) continue;
      for (float g : step->tables[t].gradients) squares += static_cast<double>(g) * g;
    }
    const double norm = std::sqrt(squares) / weight_sum_;
    if (!(norm > clip_norm_)) return;
    const auto factor = static_cast<float>(clip_norm_ / norm);
    for (size_t t = sparse_tables_; t < tables_.size(); ++t) {
      if (IsMovingAverage(t)) continue;
      for (float& g : step->tables[t].gradients) g *= factor;
    }
  }
  bool IsMovingAverage(size_t t) const {
    return tables_[t].parts(0).optimizer().has_moving_average();
  }

  void Backward(Step* step) {
    for (size_t n = plan_.nodes.size(); n-- > 0;) {
      const NodePlan& node = plan_.nodes[n];
      if (!wants_gradient_[n] || node.kind == NodePlan::Kind::kNumeric) continue;
      if (node.kind == NodePlan::Kind::kLookup) {
        const LookupPlan& lookup = plan_.lookups[node.index];
        LookupBackward(lookup, gradients_[n].data(), widths_[lookup.table], step);
        continue;
      }
      parameter_gradients_.clear();
      for (size_t t : block_tables_[node.index]) {
        std::vector<float>& gradient = step->tables[t].gradients;
        float* target = gradient.data();
        if (in_order_[t] == 0) {
          target = permuted_gradient_[t].Resize(gradient.size());
          std::fill_n(target, gradient.size(), 0.0f);
        }
        parameter_gradients_.push_back(target);
      }
      blocks_[node.index]->Backward(StepOf(node, *step), value_of_[n], gradients_[n].data());
      for (size_t t : block_tables_[node.index]) {
        if (in_order_[t] == 0) Unpermute(t, &step->tables[t]);
      }
    }
  }

  void Unpermute(size_t t, TableStep* table) {
    for (size_t k = 0; k < table->keys.size(); ++k) {
      std::copy_n(permuted_gradient_[t].data() + table->keys[k] * widths_[t], widths_[t],
                  table->gradients.data() + k * widths_[t]);
    }
  }

  const GraphPlan plan_;
  const std::unique_ptr<Backend> backend_;
  std::vector<TableSpec> tables_;
  std::vector<uint32_t> widths_;
  size_t sparse_tables_ = 0;
  std::vector<std::vector<size_t>> table_features_;  // [sparse table]
  std::vector<TableId> feature_table_;
  std::vector<TableId> marked_tables_;               // with FEATURE_OOV
  std::vector<std::optional<Key>> oov_keys_;         // [feature]
  size_t numeric_count_ = 0;
  size_t label_count_ = 0;
  std::vector<std::string> task_names_;
  std::vector<std::unique_ptr<InBatchSoftmax>> softmax_;  // [task]; null: another loss
  float clip_norm_ = 0;

  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<std::vector<size_t>> block_tables_;  // tables of each block's parameters
  std::vector<Shape> shapes_;                      // [node]
  std::vector<uint8_t> wants_gradient_;            // [node]

  // Of the batch in hand.
  bool training_ = false;
  double weight_sum_ = 0;
  std::vector<FloatBuffer> values_, gradients_;         // [node]
  std::vector<const float*> value_of_;                  // [node]
  std::vector<const float*> parameter_of_;              // [table]
  std::vector<uint8_t> in_order_;                       // [table]
  std::vector<FloatBuffer> permuted_, permuted_gradient_;  // [table]
  std::vector<BlockInput> inputs_;
  std::vector<const float*> parameters_;
  std::vector<float*> parameter_gradients_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> Model::Create(const JobConfig& config) {
  return GraphModel::Make(config);
}

}  // namespace tidegate
