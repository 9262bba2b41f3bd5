#include "common/task_metrics.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tidegate {
namespace {

double ValueOf(TaskConfig::Metric metric, const EvalMetrics& plain, const GroupedMetrics& grouped) {
  switch (metric) {
    case TaskConfig::AUC: return plain.auc;
    case TaskConfig::LOGLOSS: return plain.logloss;
    case TaskConfig::CALIBRATION: return plain.calibration;
    case TaskConfig::RMSE: return plain.rmse;
    case TaskConfig::GAUC: return grouped.gauc;
    case TaskConfig::HR: return grouped.hit_rate;
    case TaskConfig::NDCG: return grouped.ndcg;
    case TaskConfig::RECALL: return grouped.recall;
  }
  return 0;
}

}  // namespace

std::string MetricName(const TaskConfig& task, TaskConfig::Metric metric) {
  switch (metric) {
    case TaskConfig::AUC: return "auc";
    case TaskConfig::LOGLOSS: return "logloss";
    case TaskConfig::CALIBRATION: return "calibration";
    case TaskConfig::RMSE: return "rmse";
    case TaskConfig::GAUC: return "gauc";
    case TaskConfig::HR: return absl::StrCat("hr@", task.top_k());
    case TaskConfig::NDCG: return absl::StrCat("ndcg@", task.top_k());
    case TaskConfig::RECALL: return absl::StrCat("recall@", task.top_k());
  }
  return "";
}

bool NeedsGroups(TaskConfig::Metric metric) {
  return metric == TaskConfig::GAUC || metric == TaskConfig::HR || metric == TaskConfig::NDCG ||
         metric == TaskConfig::RECALL;
}

bool NeedsGroups(const TaskConfig& task) {
  return std::any_of(task.metric().begin(), task.metric().end(),
                     [](int m) { return NeedsGroups(static_cast<TaskConfig::Metric>(m)); });
}

bool NeedsProbabilities(TaskConfig::Metric metric) {
  return metric == TaskConfig::LOGLOSS || metric == TaskConfig::CALIBRATION;
}

std::vector<TaskConfig::Metric> DefaultMetrics(TaskConfig::Loss loss) {
  switch (loss) {
    case TaskConfig::BCE: return {TaskConfig::AUC, TaskConfig::LOGLOSS, TaskConfig::CALIBRATION};
    case TaskConfig::MSE: return {TaskConfig::RMSE};
    case TaskConfig::SOFTMAX:
    case TaskConfig::BPR: return {TaskConfig::AUC};
  }
  return {};
}

bool HigherIsBetter(std::string_view metric_name) {
  const size_t slash = metric_name.rfind('/');
  const std::string_view last = slash == std::string_view::npos ? metric_name : metric_name.substr(slash + 1);
  return last == "auc" || last == "gauc" || last.starts_with("hr@") || last.starts_with("ndcg@") ||
         last.starts_with("recall@");
}

ScoreSet ScoresOf(const TaskConfig& task) {
  return ScoreSet(task.loss() == TaskConfig::BCE ? ScoreSet::Predictions::kProbabilities
                                                 : ScoreSet::Predictions::kAnyFinite);
}

std::vector<MetricValue> TaskMetrics(const TaskConfig& task, const ScoreSet& scores) {
  const EvalMetrics plain = scores.Compute();
  const bool by_group = NeedsGroups(task);
  GroupedMetrics grouped;
  if (by_group) grouped = scores.ComputeGrouped(task.top_k());
  std::vector<MetricValue> metrics;
  const auto add = [&](const std::string& name, double value) {
    MetricValue& metric = metrics.emplace_back();
    metric.set_name(absl::StrCat("valid/", task.name(), "/", name));
    metric.set_value(value);
  };
  if (task.metric().empty()) {
    for (TaskConfig::Metric m : DefaultMetrics(task.loss())) add(MetricName(task, m), ValueOf(m, plain, grouped));
  }
  for (int m : task.metric()) {
    const auto metric = static_cast<TaskConfig::Metric>(m);
    add(MetricName(task, metric), ValueOf(metric, plain, grouped));
  }
  if (by_group) add("groups", static_cast<double>(std::max(grouped.gauc_groups, grouped.ranked_groups)));
  add("rows", static_cast<double>(plain.rows));
  return metrics;
}

}  // namespace tidegate
