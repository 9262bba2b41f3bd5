#pragma once
// Does one piece of work: opens its data, runs its steps, and makes the report. Runs on the worker's
// thread; Progress() and stats() may be called from any.

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/cluster.pb.h"
#include "proto/job.pb.h"
#include "worker/data/readers.h"
#include "worker/pipeline/step_pipeline.h"

namespace tidegate {

class WorkRunner {
 public:
  // `readers`, `model` and `client` outlive it. `batch_rows`: of one step at staleness > 0 and of
  // evaluation.
  WorkRunner(const JobConfig& job, StepPipeline::Options options, size_t batch_rows,
             Readers* readers, Model* model, ParameterClient* client, StepPipeline::Gather gather);

  struct Outcome {
    WorkDone done;
    Clock next_clock = 0;
  };
  // `clock`: the first one that this worker may use. Errors: of the data (with file and line), of the
  // client, CANCELLED once *stop is true.
  absl::StatusOr<Outcome> Run(const Work& work, Clock clock, const std::atomic<bool>* stop);

  // How far the training under way is acknowledged; nothing between works.
  std::optional<WorkDone> Progress() const;
  // Counts of every task with progressive metrics, since the start (common/progressive.h).
  std::vector<TaskProgress> Progressive() const;
  const PipelineStats& stats() const { return stats_; }

 private:
  absl::StatusOr<Outcome> TrainSplit(const Work& work, Clock clock, const std::atomic<bool>* stop);
  absl::StatusOr<Outcome> TrainSteps(const Work& work, Clock clock, const std::atomic<bool>* stop);
  absl::StatusOr<Outcome> Evaluate(const Work& work, Clock clock, const std::atomic<bool>* stop);
  absl::StatusOr<Outcome> EvaluateRanking(BatchSource* source, Clock clock, const std::atomic<bool>* stop);
  StepPipeline::Options Observed(StepPipeline::Options options);
  void CountTrained(const Batch& batch, const StepResult& result);
  uint64_t StepsLeft(Clock clock) const;  // by train.limit_steps
  Batch* Repeated() { return job_.train().overfit_one_batch() ? &repeated_ : nullptr; }
  void ReportLoss(const TrainOutcome& outcome, WorkDone* done) const;

  const JobConfig job_;
  const size_t batch_rows_;
  Readers* const readers_;
  Model* const model_;
  PipelineStats stats_;
  StepPipeline pipeline_;
  Batch repeated_;  // train.overfit_one_batch: the first one, once it was read
  mutable std::mutex mu_;
  std::optional<WorkDone> progress_;
  std::vector<TaskProgress> progressive_;  // by task of the model
};

}  // namespace tidegate
