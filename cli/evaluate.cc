// `tidegate evaluate`: scores of a checkpoint on a file, without a cluster.

#include <algorithm>
#include <iostream>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/json.h"
#include "cli/scoring.h"
#include "common/task_metrics.h"
#include "worker/model/backend.h"

namespace tidegate::cli {
namespace {

template <typename T>
std::string_view BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// The metrics that the loss has by default, then what else the task names; of a full ranking what it names.
std::string ResultLine(TaskConfig task, bool ranked, const ScoreSet& scores) {
  google::protobuf::RepeatedField<int> named;
  named.Swap(task.mutable_metric());
  if (!ranked) for (TaskConfig::Metric metric : DefaultMetrics(task.loss())) task.add_metric(metric);
  for (int metric : named) {
    if (std::count(task.metric().begin(), task.metric().end(), metric) == 0) task.add_metric(static_cast<TaskConfig::Metric>(metric));
  }
  JsonObject line;
  for (const MetricValue& metric : TaskMetrics(task, scores)) {
    const std::string name = metric.name().substr(metric.name().rfind('/') + 1);
    if (name == "rows" || name == "groups") {
      line.Integer(name, static_cast<int64_t>(metric.value()));
    } else {
      line.Number(name, metric.value());
    }
  }
  return line.Text("task", task.name()).Build();
}

absl::StatusOr<std::vector<std::string>> Evaluate(std::string* bad_lines) {
  ScoringOptions options;
  options.checkpoint = FLAGS_checkpoint;
  options.data = FLAGS_data;
  options.format = FLAGS_format;
  options.max_bad_lines = FLAGS_max_bad_lines;
  options.batch = FLAGS_batch;
  options.given_rows = FLAGS_given_rows;
  auto scoring = Scoring::Create(options);
  if (!scoring.ok()) return scoring.status();
  const Model& model = (*scoring)->model();
  const std::vector<size_t> labels = model.task_labels();
  const auto& tasks = (*scoring)->config().model().task();
  std::vector<ScoreSet> scores;
  for (const TaskConfig& task : tasks) scores.push_back(ScoresOf(task));
  const bool ranked = (*scoring)->config().data().has_full_ranking();
  std::vector<RankCounter> counters(ranked ? scores.size() : 0);
  absl::Status status = (*scoring)->Run([&](const Batch& batch, const StepResult& result) {
    for (size_t t = 0; t < counters.size(); ++t) {
      counters[t].Add(result.probabilities[t], batch.labels[labels[t]], batch.group_id);
    }
    for (size_t t = 0; !ranked && t < scores.size(); ++t) {
      std::string_view groups;
      if (NeedsGroups(tasks[static_cast<int>(t)])) groups = BytesOf(batch.group_id);
      const absl::Status added = scores[t].Add(BytesOf(result.probabilities[t]), BytesOf(batch.labels[labels[t]]),
                                               BytesOf(batch.sample_weight), groups);
      if (!added.ok()) return added;
    }
    return absl::OkStatus();
  });
  for (size_t t = 0; status.ok() && t < counters.size(); ++t) {
    status = scores[t].AddRanked(BytesOf(counters[t].predictions()), BytesOf(counters[t].groups()), BytesOf(counters[t].above()));
  }
  if (!status.ok()) return status;
  std::vector<std::string> out;
  for (size_t t = 0; t < scores.size(); ++t) {
    const TaskConfig& task = tasks[static_cast<int>(t)];
    if (scores[t].rows() == 0) return absl::InvalidArgumentError("no row to evaluate in " + (*scoring)->DataFiles());
    if (NeedsGroups(task) && !scores[t].has_groups()) {
      return absl::InvalidArgumentError("task \"" + task.name() + "\": the data has no group ids, which its metrics need");
    }
    out.push_back(ResultLine(task, ranked, scores[t]));
  }
  *bad_lines = (*scoring)->BadLines();
  return out;
}

int RunEvaluate(const Arguments& arguments) {
  if (FLAGS_checkpoint.empty() || !arguments.positional.empty()) {
    std::cerr << "usage: tidegate evaluate --checkpoint=DIR [--data=FILE] [--format=FORMAT]\n";
    return kUsage;
  }
  SetComputeThreads(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  std::string bad_lines;
  auto results = Evaluate(&bad_lines);
  if (!results.ok()) {
    std::cerr << "tidegate evaluate: " << results.status().message() << "\n";
    return kFailed;
  }
  if (!bad_lines.empty()) std::cerr << "tidegate evaluate: " << bad_lines << "\n";
  for (const std::string& result : *results) std::cout << result << "\n";
  return kOk;
}

}  // namespace

Command EvaluateCommand() {
  return {"evaluate",
          "",
          "score a checkpoint on a file, without a cluster; JSON on stdout, a line per task",
          {{"checkpoint", "DIR", "the checkpoint's folder (the one with MANIFEST)"},
           {"data", "FILE", "file or glob (default: the job's held-out data)"},
           {"format", "FORMAT", "of --data: LIBSVM, CRITEO_TSV, ... (default: the job's)"},
           {"given_rows", "", "score the data's rows as they are, also where the job has data.full_ranking"},
           Ranged({"max_bad_lines", "N", "go on up to so many bad lines"}, 0, int64_t{1} << 60),
           Ranged({"batch", "ROWS", "rows at a time"}, 1, 1 << 20)},
          RunEvaluate};
}

}  // namespace tidegate::cli
