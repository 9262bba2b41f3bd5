#pragma once
// The metrics of a task: their names, what they need, their values. Thread-safe (functions only).

#include <string>
#include <string_view>
#include <vector>

#include "common/eval_metrics.h"
#include "proto/cluster.pb.h"
#include "proto/job.pb.h"

namespace tidegate {

// "auc", "logloss", "calibration", "gauc", "rmse", "hr@10", "ndcg@10", "recall@10" (of task.top_k).
std::string MetricName(const TaskConfig& task, TaskConfig::Metric metric);
// GAUC, HR, NDCG, RECALL.
bool NeedsGroups(TaskConfig::Metric metric);
bool NeedsGroups(const TaskConfig& task);
// LOGLOSS, CALIBRATION: predictions of the task's loss must be probabilities (BCE).
bool NeedsProbabilities(TaskConfig::Metric metric);
// What stands where task.metric is empty: BCE: AUC, LOGLOSS, CALIBRATION; MSE: RMSE; else AUC.
std::vector<TaskConfig::Metric> DefaultMetrics(TaskConfig::Loss loss);
// By the last part of a name such as "valid/click/hr@10": true for the AUCs and ranking metrics.
bool HigherIsBetter(std::string_view metric_name);

ScoreSet ScoresOf(const TaskConfig& task);  // empty; takes what the task's loss predicts
// "valid/<task>/<metric>" for each of task.metric (empty: the default ones), then "/groups" where one needs groups, and "/rows".
// REQUIRES: scores.has_groups() where a metric needs them.
std::vector<MetricValue> TaskMetrics(const TaskConfig& task, const ScoreSet& scores);

}  // namespace tidegate
