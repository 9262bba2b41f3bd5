#include "tests/worker/model/local_trainer.h"

#include <chrono>
#include <deque>

namespace tidegate {

absl::StatusOr<std::unique_ptr<LocalTrainer>> LocalTrainer::Create(const JobConfig& config,
                                                                   int delay) {
  std::unique_ptr<LocalTrainer> t(new LocalTrainer(config, delay));
  auto readers = Readers::Create(config);
  if (!readers.ok()) return readers.status();
  t->readers_ = *std::move(readers);
  auto model = Model::Create(config);
  if (!model.ok()) return model.status();
  t->model_ = *std::move(model);
  const ShardId shard = 0;
  for (const TableSpec& spec : t->model_->tables()) {
    auto layout = RowLayout::Create(spec);
    if (!layout.ok()) return layout.status();
    t->layouts_.push_back(std::make_unique<RowLayout>(*std::move(layout)));
    t->tables_.push_back(std::make_unique<TableGroup>(t->layouts_.back().get(), 0,
                                                      std::span<const ShardId>(&shard, 1)));
  }
  return t;
}

void LocalTrainer::Pull(Step* step) const {
  model_->Gather(step);
  UpdateArguments arguments;
  arguments.clock = clock_;
  arguments.lr_scale = static_cast<float>(lr_scale_);
  for (size_t t = 0; t < tables_.size(); ++t) {
    TableStep& table = step->tables[t];
    table.rows.resize(table.keys.size() * model_->row_widths()[t]);
    if (table.keys.empty()) continue;
    tables_[t]->Gather(PackedSpan<Key>(table.keys.data(), table.keys.size()), {}, FLOAT32, arguments,
                       reinterpret_cast<std::byte*>(table.rows.data()));
  }
}

void LocalTrainer::Push(const Step& step, double weight) {
  if (weight == 0) return;
  UpdateArguments arguments;
  arguments.scale = static_cast<float>(1.0 / weight);
  arguments.lr_scale = static_cast<float>(lr_scale_);
  arguments.clock = clock_;
  for (size_t t = 0; t < tables_.size(); ++t) {
    const TableStep& table = step.tables[t];
    if (table.keys.empty()) continue;
    GradientBatch batch;
    batch.keys = PackedSpan<Key>(table.keys.data(), table.keys.size());
    batch.values = std::as_bytes(std::span(table.gradients));
    if (!table.counts.empty()) {
      batch.counts = PackedSpan<uint32_t>(table.counts.data(), table.counts.size());
    }
    tables_[t]->Apply(batch, arguments);
  }
}

absl::StatusOr<LocalTrainer::EpochReport> LocalTrainer::TrainEpoch() {
  using Seconds = std::chrono::duration<double>;
  auto source = readers_->OpenTrain(epoch_++);
  if (!source.ok()) return source.status();
  EpochReport report;
  report.lr_scale = lr_scale_;
  double weight_sum = 0;
  std::deque<std::pair<Step, double>> waiting;  // computed, not applied yet
  Step spare;
  while (true) {
    auto more = (*source)->Next(config_.train().global_batch(), &spare.batch);
    if (!more.ok()) return more.status();
    if (!*more) break;
    spare.dropout_seed = config_.seed();
    Pull(&spare);
    const auto start = std::chrono::steady_clock::now();
    auto result = model_->Train(&spare);
    report.compute_s += Seconds(std::chrono::steady_clock::now() - start).count();
    if (!result.ok()) return result.status();
    report.train_loss += result->loss_sum;
    weight_sum += result->weight_sum;
    report.samples += spare.batch.rows;
    waiting.emplace_back(std::move(spare), result->weight_sum);
    spare = Step();
    if (waiting.size() > static_cast<size_t>(delay_)) {
      Push(waiting.front().first, waiting.front().second);
      spare = std::move(waiting.front().first);
      waiting.pop_front();
      ++clock_;
    }
  }
  for (auto& [step, weight] : waiting) {
    Push(step, weight);
    ++clock_;
  }
  if (weight_sum > 0) report.train_loss /= weight_sum;
  if (config_.data().has_valid()) {
    auto valid = Evaluate();
    if (!valid.ok()) return valid.status();
    report.valid = *std::move(valid);
    FollowPlateau(report.valid);
  }
  return report;
}

absl::StatusOr<std::vector<EvalMetrics>> LocalTrainer::Evaluate() {
  auto source = readers_->OpenEval();
  if (!source.ok()) return source.status();
  const std::vector<size_t> labels = model_->task_labels();
  std::vector<std::vector<float>> p(labels.size()), y(labels.size());
  std::vector<float> weights;
  Step step;
  while (true) {
    auto more = (*source)->Next(8192, &step.batch);
    if (!more.ok()) return more.status();
    if (!*more) break;
    Pull(&step);
    auto result = model_->Evaluate(&step);
    if (!result.ok()) return result.status();
    for (size_t t = 0; t < labels.size(); ++t) {
      const auto& batch_labels = step.batch.labels[labels[t]];
      p[t].insert(p[t].end(), result->probabilities[t].begin(), result->probabilities[t].end());
      y[t].insert(y[t].end(), batch_labels.begin(), batch_labels.end());
    }
    weights.insert(weights.end(), step.batch.sample_weight.begin(), step.batch.sample_weight.end());
  }
  std::vector<EvalMetrics> metrics;
  for (size_t t = 0; t < labels.size(); ++t) metrics.push_back(ComputeEvalMetrics(p[t], y[t], weights));
  return metrics;
}

void LocalTrainer::FollowPlateau(const std::vector<EvalMetrics>& valid) {
  if (!config_.train().has_plateau()) return;
  const Plateau& plateau = config_.train().plateau();
  if (valid[0].auc > best_ + plateau.min_delta()) {
    best_ = valid[0].auc;
    epochs_without_better_ = 0;
  } else if (++epochs_without_better_ >= plateau.patience()) {
    lr_scale_ = std::max<double>(plateau.min_scale(), lr_scale_ * plateau.factor());
    epochs_without_better_ = 0;
  }
}

}  // namespace tidegate
