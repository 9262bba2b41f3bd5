// `tidegate evaluate`: scores of a checkpoint on a file, without a cluster.

#include <iostream>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/json.h"
#include "common/eval_metrics.h"
#include "common/job_config/job_config.h"
#include "server/checkpoint/loaded_checkpoint.h"
#include "worker/data/readers.h"
#include "worker/model/backend.h"
#include "worker/model/model.h"

DEFINE_string(checkpoint, "", "");
DEFINE_uint32(batch, 4096, "rows at a time");
DEFINE_uint64(max_bad_lines, 0, "go on up to so many bad lines");

namespace tidegate::cli {
namespace {

struct Scores {
  std::vector<float> probabilities;
  std::vector<float> labels;
  std::vector<float> weights;
};

// The job's config with --data and --format in place of its held-out data.
absl::StatusOr<JobConfig> ConfigForData(JobConfig job) {
  DataConfig& data = *job.mutable_data();
  if (!FLAGS_format.empty()) {
    DataConfig::Format format;
    if (!DataConfig::Format_Parse(FLAGS_format, &format) || format == DataConfig::UNSET) {
      return absl::InvalidArgumentError("--format=" + FLAGS_format + ": LIBSVM or CRITEO_TSV");
    }
    data.set_format(format);
  }
  if (!FLAGS_data.empty()) {
    if (data.format() == DataConfig::GENERATED) data.set_format(DataConfig::CRITEO_TSV);  // as `gen` writes
    auto path = ResolvePath(FLAGS_data);
    if (!path.ok()) return path.status();
    data.mutable_valid()->Clear();
    data.mutable_valid()->add_files(*path);
  }
  if (!data.has_valid()) return absl::InvalidArgumentError("the job has no held-out data: name some by --data");
  data.set_max_bad_lines(FLAGS_max_bad_lines);
  return job;
}

absl::Status Score(Step* step, Model* model, const LoadedCheckpoint& checkpoint, std::vector<Scores>* scores) {
  model->Gather(step);
  for (size_t t = 0; t < step->tables.size(); ++t) {
    TableStep& table = step->tables[t];
    table.rows.resize(table.keys.size() * model->row_widths()[t]);
    if (table.keys.empty()) continue;
    const absl::Status status = checkpoint.Gather(static_cast<TableId>(t), table.keys, std::span<float>(table.rows));
    if (!status.ok()) return status;
  }
  auto result = model->Evaluate(step);
  if (!result.ok()) return result.status();
  const std::vector<size_t> labels = model->task_labels();
  for (size_t task = 0; task < scores->size(); ++task) {
    Scores& s = (*scores)[task];
    const std::vector<float>& p = result->probabilities[task];
    const std::vector<float>& y = step->batch.labels[labels[task]];
    s.probabilities.insert(s.probabilities.end(), p.begin(), p.end());
    s.labels.insert(s.labels.end(), y.begin(), y.end());
    s.weights.insert(s.weights.end(), step->batch.sample_weight.begin(), step->batch.sample_weight.end());
  }
  return absl::OkStatus();
}

// The model of this program must have the tables of the checkpoint.
absl::Status SameTables(const Model& model, const CheckpointManifest& manifest) {
  const std::vector<TableSpec>& tables = model.tables();
  bool same = static_cast<int>(tables.size()) == manifest.tables_size();
  for (size_t t = 0; same && t < tables.size(); ++t) {
    same = tables[t].SerializeAsString() == manifest.tables(static_cast<int>(t)).SerializeAsString();
  }
  if (same) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the checkpoint was written by version ", manifest.version(),
                   ", whose model has other tables for this config: evaluate it with that version"));
}

absl::StatusOr<std::vector<std::string>> Evaluate(std::string* bad_lines) {
  auto checkpoint = LoadedCheckpoint::Load(RealFileSystem(), FLAGS_checkpoint);
  if (!checkpoint.ok()) return checkpoint.status();
  JobConfig job;
  if (!job.ParseFromString(checkpoint->manifest().job_config())) {
    return absl::DataLossError(FLAGS_checkpoint + "/MANIFEST holds no job config");
  }
  auto config = ConfigForData(std::move(job));
  if (!config.ok()) return config.status();
  auto model = Model::Create(*config);
  if (!model.ok()) return model.status();
  if (absl::Status s = SameTables(**model, checkpoint->manifest()); !s.ok()) return s;
  auto readers = Readers::Create(*config);
  if (!readers.ok()) return readers.status();
  auto source = (*readers)->OpenEval();
  if (!source.ok()) return source.status();
  const std::vector<std::string> names = (*model)->task_names();
  std::vector<Scores> scores(names.size());
  Step step;
  while (true) {
    auto more = (*source)->Next(FLAGS_batch, &step.batch);
    if (!more.ok()) return more.status();
    if (!*more) break;
    if (step.batch.rows == 0) continue;
    if (absl::Status s = Score(&step, model->get(), *checkpoint, &scores); !s.ok()) return s;
  }
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
  if ((*readers)->bad_lines().count() > 0) {
    *bad_lines = absl::StrCat((*readers)->bad_lines().count(), " bad lines left out");
    for (const std::string& example : (*readers)->bad_lines().examples()) absl::StrAppend(bad_lines, "\n  ", example);
  }
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
           {"format", "FORMAT", "LIBSVM or CRITEO_TSV (default: the job's)"},
           {"max_bad_lines", "N", "go on up to so many bad lines"},
           {"batch", "ROWS", "rows at a time"}},
          RunEvaluate};
}

}  // namespace tidegate::cli
