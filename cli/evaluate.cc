// `tidegate evaluate`: scores of a checkpoint on a file, without a cluster.

#include <iostream>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/json.h"
#include "cli/scoring.h"
#include "common/eval_metrics.h"
#include "worker/model/backend.h"

namespace tidegate::cli {
namespace {

struct Scores {
  std::vector<float> probabilities;
  std::vector<float> labels;
  std::vector<float> weights;
};

absl::StatusOr<std::vector<std::string>> Evaluate(std::string* bad_lines) {
  ScoringOptions options;
  options.checkpoint = FLAGS_checkpoint;
  options.data = FLAGS_data;
  options.format = FLAGS_format;
  options.max_bad_lines = FLAGS_max_bad_lines;
  options.batch = FLAGS_batch;
  auto scoring = Scoring::Create(options);
  if (!scoring.ok()) return scoring.status();
  const Model& model = (*scoring)->model();
  const std::vector<std::string> names = model.task_names();
  const std::vector<size_t> labels = model.task_labels();
  std::vector<Scores> scores(names.size());
  absl::Status status = (*scoring)->Run([&](const Batch& batch, const StepResult& result) {
    for (size_t task = 0; task < scores.size(); ++task) {
      Scores& s = scores[task];
      const std::vector<float>& p = result.probabilities[task];
      const std::vector<float>& y = batch.labels[labels[task]];
      s.probabilities.insert(s.probabilities.end(), p.begin(), p.end());
      s.labels.insert(s.labels.end(), y.begin(), y.end());
      s.weights.insert(s.weights.end(), batch.sample_weight.begin(), batch.sample_weight.end());
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  std::vector<std::string> out;
  for (size_t task = 0; task < names.size(); ++task) {
    const Scores& s = scores[task];
    if (s.labels.empty()) return absl::InvalidArgumentError(FLAGS_data.empty() ? "no row to evaluate" : "no row to evaluate in " + FLAGS_data);
    const EvalMetrics m = ComputeEvalMetrics(s.probabilities, s.labels, s.weights);
    out.push_back(JsonObject()
                      .Number("auc", m.auc)
                      .Number("logloss", m.logloss)
                      .Number("calibration", m.calibration)
                      .Integer("rows", static_cast<int64_t>(m.rows))
                      .Text("task", names[task])
                      .Build());
  }
  *bad_lines = (*scoring)->BadLines();
  return out;
}

int RunEvaluate(const Arguments& arguments) {
  if (FLAGS_checkpoint.empty() || FLAGS_batch == 0 || !arguments.positional.empty()) {
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
           {"max_bad_lines", "N", "go on up to so many bad lines"},
           {"batch", "ROWS", "rows at a time"}},
          RunEvaluate};
}

}  // namespace tidegate::cli
