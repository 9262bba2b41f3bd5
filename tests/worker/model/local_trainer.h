#pragma once
// Trains a config in this process, with the servers' tables and no cluster: what a job can reach, and
// recipes. The learning rate follows train.plateau as the scheduler's does.

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/eval_metrics.h"
#include "server/table/table_group.h"
#include "worker/data/readers.h"
#include "worker/model/model.h"

namespace tidegate {

class LocalTrainer {
 public:
  // `delay`: updates that a step's pulled rows lack, as at staleness > 0 (0: none).
  static absl::StatusOr<std::unique_ptr<LocalTrainer>> Create(const JobConfig& config, int delay = 0);

  struct EpochReport {
    double train_loss = 0;  // mean over the epoch
    std::vector<EvalMetrics> valid;  // [task]; empty without data.valid
    double lr_scale = 1;    // that the epoch trained with
    uint64_t samples = 0;
    double compute_s = 0;   // in the model alone
  };
  absl::StatusOr<EpochReport> TrainEpoch();

  Model& model() { return *model_; }

 private:
  LocalTrainer(const JobConfig& config, int delay) : config_(config), delay_(delay) {}
  void Pull(Step* step) const;
  void Push(const Step& step, double weight);
  absl::StatusOr<std::vector<EvalMetrics>> Evaluate();
  void FollowPlateau(const std::vector<EvalMetrics>& valid);

  const JobConfig config_;
  const int delay_;
  std::unique_ptr<Readers> readers_;
  std::unique_ptr<Model> model_;
  std::vector<std::unique_ptr<RowLayout>> layouts_;
  std::vector<std::unique_ptr<TableGroup>> tables_;
  uint64_t epoch_ = 0;
  Clock clock_ = 0;
  double lr_scale_ = 1;
  double best_ = -1;
  uint32_t epochs_without_better_ = 0;
};

}  // namespace tidegate
