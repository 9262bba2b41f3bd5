#pragma once
// Scores of a finished model on data, without a cluster: what `evaluate` and `predict` share. Not thread-safe.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/types.h"
#include "proto/job.pb.h"
#include "worker/data/readers.h"
#include "worker/model/model.h"

namespace tidegate::cli {

struct ScoringOptions {
  std::string checkpoint;      // folder; exactly one of checkpoint and export_dir
  std::string export_dir;      // folder
  std::string data;            // file or glob; empty: the job's held-out data
  std::string format;          // of `data`; empty: the job's
  uint64_t max_bad_lines = 0;
  uint32_t batch = 4096;       // rows at a time
  bool given_rows = false;     // without data.full_ranking
  bool labels = true;          // false: the data needs none, and Batch::labels are NaN
};

class Scoring {
 public:
  // Answers a pull in mode EVAL: rows [keys, width of the table].
  using Rows = std::function<absl::Status(TableId table, std::span<const Key> keys, std::span<float> rows)>;
  // One batch in the order of the data, never empty; probabilities[task][row].
  using Visit = std::function<absl::Status(const Batch& batch, const StepResult& result)>;

  // Loads the model and opens nothing of the data yet. Errors name the file, or the flag by the name of
  // its option.
  static absl::StatusOr<std::unique_ptr<Scoring>> Create(const ScoringOptions& options);

  const JobConfig& config() const { return config_; }
  const Model& model() const { return *model_; }
  // All rows. `Visit`'s error ends it.
  absl::Status Run(const Visit& visit);
  // What is read, for messages.
  std::string DataFiles() const;
  // "3 bad lines left out" and examples; empty when there was none.
  std::string BadLines();

 private:
  Scoring() = default;
  absl::Status LoadCheckpoint(const std::string& directory, std::vector<TableSpec>* tables, std::string* version);
  absl::Status LoadExport(const std::string& directory, std::vector<TableSpec>* tables, std::string* version);
  absl::Status Evaluate(Step* step, const Visit& visit);

  JobConfig config_;
  Rows rows_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Readers> readers_;
  uint32_t batch_ = 0;
};

}  // namespace tidegate::cli
