#include "cli/scoring.h"

#include <google/protobuf/util/message_differencer.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/job_config/job_config.h"
#include "server/checkpoint/loaded_checkpoint.h"
#include "server/checkpoint/loaded_export.h"

namespace tidegate::cli {
namespace {

std::string FormatNames() {
  std::string names;
  for (int f = 1; f <= DataConfig::Format_MAX; ++f) {
    if (!DataConfig::Format_IsValid(f)) continue;
    absl::StrAppend(&names, names.empty() ? "" : ", ", DataConfig::Format_Name(static_cast<DataConfig::Format>(f)));
  }
  return names;
}

// --data and --format in place of the job's held-out data.
absl::Status SetData(const ScoringOptions& options, JobConfig* job) {
  DataConfig& data = *job->mutable_data();
  if (options.given_rows || !options.labels) data.clear_full_ranking();
  if (!options.format.empty()) {
    DataConfig::Format format;
    if (!DataConfig::Format_Parse(options.format, &format) || format == DataConfig::UNSET) {
      return absl::InvalidArgumentError(absl::StrCat("--format=", options.format, ": one of ", FormatNames()));
    }
    if (data.has_full_ranking()) {
      data.set_valid_format(format);  // data.train keeps its own
    } else {
      data.set_format(format);
      data.clear_valid_format();
    }
  }
  if (!options.data.empty()) {
    if (data.format() == DataConfig::GENERATED) data.set_format(DataConfig::CRITEO_TSV);  // as `gen` writes
    auto path = ResolvePath(options.data);
    if (!path.ok()) return path.status();
    data.mutable_valid()->Clear();
    data.mutable_valid()->add_files(*path);
  }
  if (!data.has_valid()) return absl::InvalidArgumentError("the job has no held-out data: name some by --data");
  if (data.valid().files().empty() && data.format() != DataConfig::GENERATED) {
    return absl::InvalidArgumentError(absl::StrCat("--format=", options.format, " needs --data: the job's held-out data is generated"));
  }
  if (!data.has_full_ranking()) data.clear_train();  // its files need not be here
  data.clear_timestamp();  // of no use to scores
  data.set_max_bad_lines(options.max_bad_lines);
  return absl::OkStatus();
}

// The model of this program must have the tables that were stored.
absl::Status SameTables(const Model& model, const std::vector<TableSpec>& stored, const std::string& version) {
  const std::vector<TableSpec>& tables = model.tables();
  bool same = tables.size() == stored.size();
  for (size_t t = 0; same && t < tables.size(); ++t) {
    // An export's JSON states defaults.
    same = google::protobuf::util::MessageDifferencer::Equivalent(tables[t], stored[t]);
  }
  if (same) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("it was written by version ", version,
                                                    ", whose model has other tables for this config: use that version"));
}

}  // namespace

absl::Status Scoring::LoadCheckpoint(const std::string& directory, std::vector<TableSpec>* tables, std::string* version) {
  auto loaded = LoadedCheckpoint::Load(RealFileSystem(), directory);
  if (!loaded.ok()) return loaded.status();
  auto checkpoint = std::make_shared<LoadedCheckpoint>(*std::move(loaded));
  const CheckpointManifest& manifest = checkpoint->manifest();
  if (!config_.ParseFromString(manifest.job_config())) {
    return absl::DataLossError(directory + "/MANIFEST holds no job config");
  }
  tables->assign(manifest.tables().begin(), manifest.tables().end());
  *version = manifest.version();
  rows_ = [checkpoint](TableId table, std::span<const Key> keys, std::span<float> rows) {
    return checkpoint->Gather(table, keys, rows);
  };
  return absl::OkStatus();
}

absl::Status Scoring::LoadExport(const std::string& directory, std::vector<TableSpec>* tables, std::string* version) {
  auto loaded = LoadedExport::Load(RealFileSystem(), directory);
  if (!loaded.ok()) return loaded.status();
  auto exported = std::make_shared<LoadedExport>(*std::move(loaded));
  auto config = ParseJobConfig(exported->config_text(), JoinPath(directory, kExportConfigName));
  if (!config.ok()) return config.status();
  config_ = *std::move(config);
  tables->assign(exported->spec().tables().begin(), exported->spec().tables().end());
  *version = exported->spec().version();
  rows_ = [exported](TableId table, std::span<const Key> keys, std::span<float> rows) {
    return exported->Gather(table, keys, rows);
  };
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Scoring>> Scoring::Create(const ScoringOptions& options) {
  auto scoring = std::unique_ptr<Scoring>(new Scoring());
  scoring->batch_ = options.batch;
  std::vector<TableSpec> tables;
  std::string version;
  absl::Status loaded = options.export_dir.empty() ? scoring->LoadCheckpoint(options.checkpoint, &tables, &version)
                                                   : scoring->LoadExport(options.export_dir, &tables, &version);
  if (!loaded.ok()) return loaded;
  if (absl::Status s = SetData(options, &scoring->config_); !s.ok()) return s;
  auto model = Model::Create(scoring->config_);
  if (!model.ok()) return model.status();
  scoring->model_ = *std::move(model);
  if (absl::Status s = SameTables(*scoring->model_, tables, version); !s.ok()) return s;
  auto readers = Readers::Create(scoring->config_, options.labels ? Readers::Targets::kRead : Readers::Targets::kSkip);
  if (!readers.ok()) return readers.status();
  scoring->readers_ = *std::move(readers);
  return scoring;
}

absl::Status Scoring::Evaluate(Step* step, const Visit& visit) {
  model_->Gather(step);
  for (size_t t = 0; t < step->tables.size(); ++t) {
    TableStep& table = step->tables[t];
    table.rows.resize(table.keys.size() * model_->row_widths()[t]);
    if (table.keys.empty()) continue;
    if (absl::Status s = rows_(static_cast<TableId>(t), table.keys, std::span<float>(table.rows)); !s.ok()) return s;
  }
  auto result = model_->Evaluate(step);
  if (!result.ok()) return result.status();
  return visit(step->batch, *result);
}

absl::Status Scoring::Run(const Visit& visit) {
  auto source = readers_->OpenEval();
  if (!source.ok()) return source.status();
  Step step;
  while (true) {
    auto more = (*source)->Next(batch_, &step.batch);
    if (!more.ok()) return more.status();
    if (!*more) return absl::OkStatus();
    if (step.batch.rows == 0) continue;
    if (absl::Status s = Evaluate(&step, visit); !s.ok()) return s;
  }
}

std::string Scoring::DataFiles() const {
  const auto& files = config_.data().valid().files();
  return files.empty() ? "data.valid" : absl::StrJoin(files, ", ");
}

std::string Scoring::BadLines() {
  const class BadLines& bad = readers_->bad_lines();
  if (bad.count() == 0) return "";
  std::string text = absl::StrCat(bad.count(), " bad lines left out");
  for (const std::string& example : bad.examples()) absl::StrAppend(&text, "\n  ", example);
  return text;
}

}  // namespace tidegate::cli
