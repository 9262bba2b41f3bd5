#pragma once
// A model: the job's block graph, compiled. Knows its tables, computes loss and gradients of a batch
// from pulled rows. Not thread-safe; one per worker process. Compute goes through
// worker/model/backend.h (CPU by oneDNN).
//
//   gather:   distinct keys per table, and for each feature where its keys stand among them
//   forward / backward:  rows in, gradients of the same shape out

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/types.h"
#include "proto/job.pb.h"
#include "proto/table.pb.h"
#include "worker/data/batch.h"

namespace tidegate {

// One table's rows of one step. The pipeline fills `keys` (sparse: the batch's distinct keys; dense:
// all blocks) and pulls into `rows`; the model fills `gradients`.
struct TableStep {
  std::vector<Key> keys;
  std::vector<float> rows;            // [keys, row width]
  std::vector<float> gradients;       // same shape, summed over samples
  std::vector<uint32_t> counts;       // [keys]: samples that held the key (sparse)
};

// Where the keys of one feature stand in its table's `keys`: position[i] for Batch key i.
struct FeatureStep {
  std::vector<uint32_t> position;
  uint32_t oov_position = 0;          // of its out-of-vocabulary key, where Model::OovKeyOfFeature has one and Batch keys
};

struct Step {
  Batch batch;
  std::vector<TableStep> tables;      // indexed by TableId
  std::vector<FeatureStep> features;  // indexed like batch.features
  uint64_t dropout_seed = 0;          // of the job; masks are f(dropout_seed, sample id, layer, unit)
};

struct StepResult {
  double loss_sum = 0;    // of weight * loss over samples and tasks (task weights applied)
  double weight_sum = 0;  // of the sample weights
  std::vector<std::vector<float>> probabilities;  // [task][rows]; filled by Evaluate, and by Train
};

class Model {
 public:
  // `config` is resolved (common/job_config.h). Errors name the block, feature or table.
  static absl::StatusOr<std::unique_ptr<Model>> Create(const JobConfig& config);
  virtual ~Model() = default;

  // Sparse tables of the config in its order, then one dense table per tensor. ids are indices.
  virtual const std::vector<TableSpec>& tables() const = 0;
  // Row width in float32 elements, per table.
  virtual const std::vector<uint32_t>& row_widths() const = 0;
  // Table of batch feature f.
  virtual TableId TableOfFeature(size_t feature) const = 0;
  // The key whose row stands in for the feature's keys that are not admitted: of a table with FEATURE_OOV.
  virtual std::optional<Key> OovKeyOfFeature(size_t feature) const = 0;
  virtual std::vector<std::string> task_names() const = 0;
  // Index into Batch::labels per task.
  virtual std::vector<size_t> task_labels() const = 0;

  // Keys and positions of step->batch. (Grouping by server is the client's business: it may reorder
  // keys through worker/client/dedup.h instead; this is the simple version, first occurrence order.)
  virtual void Gather(Step* step) const = 0;

  // From rows to gradients. Pre: rows filled. Out-of-vocabulary keys that no sample read then leave keys,
  // counts and gradients: what is there is to be pushed. (rows and positions are those of before.)
  virtual absl::StatusOr<StepResult> Train(Step* step) = 0;
  // Forward only, in evaluation mode (no dropout, moving statistics).
  virtual absl::StatusOr<StepResult> Evaluate(Step* step) = 0;
};

}  // namespace tidegate
