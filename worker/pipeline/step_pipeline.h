#pragma once
// The steps of one piece of work: read > gather > pull > compute > push, with the next step's pull in
// flight while this one computes, as far as the staleness policy lets it.
//
// Run and Evaluate are called by one thread (the worker's); callbacks of the parameter client come from
// its own. Every wait has a name and ends when `stop` is asked for.

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/client/parameter_client.h"
#include "worker/model/model.h"
#include "worker/pipeline/staleness_policy.h"

namespace tidegate {

// Where the batches of one piece of work come from.
class BatchFeed {
 public:
  enum class Kind {
    kRows,     // `batch` holds rows
    kNothing,  // staleness 0: a step in which this worker has no rows; it still ends its clock
    kEnd,
  };
  virtual ~BatchFeed() = default;
  virtual absl::StatusOr<Kind> Next(Batch* batch) = 0;
};

// Written by the worker's thread, read by the heartbeat's. Times in seconds since the start.
struct PipelineStats {
  std::atomic<uint64_t> samples{0};
  std::atomic<uint64_t> steps{0};
  std::atomic<int64_t> clock{-1};          // newest pushed
  std::atomic<double> loss_sum{0};         // weight * loss
  std::atomic<double> weight_sum{0};
  std::atomic<double> reader_wait_s{0};
  std::atomic<double> pull_wait_s{0};
  std::atomic<double> compute_s{0};
  std::atomic<double> push_wait_s{0};
  std::atomic<uint64_t> dropped_steps{0};    // with rows; of train.drop_slowest
  std::atomic<uint64_t> dropped_samples{0};  // not in samples
};

struct TrainOutcome {
  uint64_t samples = 0;
  double loss_sum = 0;
  double weight_sum = 0;
  Clock next_clock = 0;  // first clock not used
};

class StepPipeline {
 public:
  struct Options {
    StalenessOptions staleness;
    uint32_t pushes_in_flight_max = 8;
    uint64_t seed = 1;  // of the job: dropout
    // Sees each trained batch with its predictions, before its update is pushed; on the worker's thread.
    std::function<void(const Batch&, const StepResult&)> on_trained = nullptr;
    bool drop_slowest = false;  // staleness 0: a step may be dropped; what is known to be is not computed
  };
  // Fills step->tables[*].keys and counts, and step->features, from step->batch.
  using Gather = std::function<void(Step*)>;

  StepPipeline(Options options, Model* model, ParameterClient* client, Gather gather,
               PipelineStats* stats);
  ~StepPipeline();

  // Trains on everything that `feed` has, from clock `first` on, and returns when every push is
  // acknowledged. `on_acknowledged(clock, sum)`, if set, is called from a client's thread when all pushes
  // up to clock are; `sum` is of this call's steps up to it that were not dropped. CANCELLED once *stop is true.
  using Acknowledged = std::function<void(Clock, const TrainOutcome& sum)>;
  absl::StatusOr<TrainOutcome> Train(BatchFeed& feed, Clock first, const std::atomic<bool>* stop,
                                     Acknowledged on_acknowledged = nullptr);

  // Forward only; `sink` gets each batch with its probabilities, in order.
  using ScoreSink = std::function<void(const Batch&, const StepResult&)>;
  absl::Status Evaluate(BatchFeed& feed, const std::atomic<bool>* stop, const ScoreSink& sink);

 private:
  struct Slot;
  struct Board;

  std::shared_ptr<Slot> TakeSlot();
  void StartPull(const std::shared_ptr<Slot>& slot, bool evaluate);
  absl::Status AwaitPull(Slot* slot, const std::atomic<bool>* stop);
  void StartPush(Slot* slot, double weight, bool with_tables, const TrainOutcome& own);
  bool IsDropped(Clock clock) const;
  void CountFinished();
  absl::Status AwaitPushes(uint32_t at_most, const std::atomic<bool>* stop);
  absl::Status ComputeAndPush(Slot* slot, const std::atomic<bool>* stop);

  const Options options_;
  const StalenessPolicy policy_;
  Model* const model_;
  ParameterClient* const client_;
  const Gather gather_;
  PipelineStats* const stats_;
  std::shared_ptr<Board> board_;               // outlives late callbacks
  std::vector<std::shared_ptr<Slot>> free_slots_;
};

}  // namespace tidegate
