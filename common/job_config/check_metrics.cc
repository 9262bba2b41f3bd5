// The checks of a resolved config's metrics.
#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/job_config/check.h"
#include "common/task_metrics.h"

namespace tidegate {

namespace {

size_t Ranking(const TaskConfig& task) {
  return static_cast<size_t>(std::count_if(task.metric().begin(), task.metric().end(), [](int m) {
    return m == TaskConfig::HR || m == TaskConfig::NDCG || m == TaskConfig::RECALL;
  }));
}

}  // namespace

void CheckMetrics(const JobConfig& config, std::vector<std::string>* problems) {
  for (const TaskConfig& task : config.model().task()) {
    const auto problem = [&](const auto&... pieces) {
      problems->push_back(absl::StrCat("task \"", task.name(), "\": ", pieces...));
    };
    std::set<int> seen;
    bool ranks = false;
    for (int m : task.metric()) {
      const auto metric = static_cast<TaskConfig::Metric>(m);
      const std::string& name = TaskConfig::Metric_Name(metric);
      if (!seen.insert(m).second) problem("metric ", name, " is there twice");
      ranks = ranks || (NeedsGroups(metric) && metric != TaskConfig::GAUC);
      if (NeedsProbabilities(metric) && task.loss() != TaskConfig::BCE) {
        problem("metric ", name, " needs predictions that are probabilities: loss BCE, not ",
                TaskConfig::Loss_Name(task.loss()));
      }
      if (NeedsGroups(metric) && !config.data().has_group()) {
        problem("metric ", name, " needs a group id with every row of data.valid: name its column in data.group");
      }
    }
    if (config.data().has_full_ranking() && (task.metric().empty() || seen.size() > Ranking(task))) {
      problem("data.full_ranking ranks positives and scores nothing else: metric must be some of HR, NDCG and RECALL");
    }
    if (task.has_top_k() && !ranks) problem("top_k is for metrics HR, NDCG and RECALL");
    if (task.top_k() < 1 || task.top_k() > 1000000) problem("top_k is ", task.top_k(), "; from 1 to 1000000");
  }
}

}  // namespace tidegate
