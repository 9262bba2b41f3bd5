#include "worker/pipeline/work_runner.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/progressive.h"
#include "common/task_metrics.h"
#include "worker/data/prefetch.h"

namespace tidegate {
namespace {

constexpr size_t kPrefetchedBatches = 4;
constexpr size_t kRankedRows = 8192;  // of full ranking: the more in a batch, the fewer times an item is pulled

constexpr uint64_t kNoLimit = ~0ull;

// Empty pushes for the clocks before the first step (staleness 0), then the source's batches, at most
// `steps` of them. With `repeated`, that batch (where it is empty yet: the first one) in place of each.
class SourceFeed final : public BatchFeed {
 public:
  SourceFeed(BatchSource* source, size_t rows, Clock ticks, const std::atomic<bool>* stop, uint64_t steps = kNoLimit,
             Batch* repeated = nullptr)
      : prefetch_(source, rows, kPrefetchedBatches, stop), ticks_(ticks), steps_(steps), repeated_(repeated) {}

  absl::StatusOr<Kind> Next(Batch* batch) override {
    if (ticks_ > 0) {
      --ticks_;
      return Kind::kNothing;
    }
    if (steps_ == 0) return Kind::kEnd;
    auto more = prefetch_.Next(batch);
    if (!more.ok()) return more.status();
    if (!*more) return Kind::kEnd;
    --steps_;
    if (batch->rows == 0) return Kind::kNothing;
    if (repeated_ != nullptr) {
      if (repeated_->rows == 0) *repeated_ = *batch;
      *batch = *repeated_;
    }
    return Kind::kRows;
  }

 private:
  Prefetcher prefetch_;
  Clock ticks_;
  uint64_t steps_;
  Batch* const repeated_;
};

template <typename T>
void AppendBytes(const std::vector<T>& values, std::string* out) {
  out->append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

}  // namespace

WorkRunner::WorkRunner(const JobConfig& job, StepPipeline::Options options, size_t batch_rows,
                       Readers* readers, Model* model, ParameterClient* client,
                       StepPipeline::Gather gather)
    : job_(job),
      batch_rows_(batch_rows),
      readers_(readers),
      model_(model),
      pipeline_(Observed(std::move(options)), model, client, std::move(gather), &stats_) {}

StepPipeline::Options WorkRunner::Observed(StepPipeline::Options options) {
  options.on_trained = [this](const Batch& batch, const StepResult& result) { CountTrained(batch, result); };
  return options;
}

void WorkRunner::CountTrained(const Batch& batch, const StepResult& result) {
  const std::vector<size_t> labels = model_->task_labels();
  std::lock_guard lock(mu_);
  progressive_.resize(labels.size());
  for (size_t t = 0; t < labels.size(); ++t) {
    const TaskConfig& task = job_.model().task(static_cast<int>(t));
    if (!HasProgressiveMetrics(task)) continue;
    CountPredictions(task, result.probabilities[t], batch.labels[labels[t]], batch.sample_weight,
                     &progressive_[t]);
  }
}

std::vector<TaskProgress> WorkRunner::Progressive() const {
  std::vector<TaskProgress> counts;
  std::lock_guard lock(mu_);
  for (const TaskProgress& task : progressive_) {
    if (!task.task().empty()) counts.push_back(task);
  }
  return counts;
}

absl::StatusOr<WorkRunner::Outcome> WorkRunner::Run(const Work& work, Clock clock,
                                                    const std::atomic<bool>* stop) {
  const uint64_t bad_before = readers_->bad_lines().count();
  absl::StatusOr<Outcome> outcome = absl::InvalidArgumentError("work of an unknown kind");
  if (work.kind() == Work::EVAL) {
    outcome = Evaluate(work, clock, stop);
  } else if (work.has_sync()) {
    outcome = TrainSteps(work, clock, stop);
  } else if (work.has_split()) {
    outcome = TrainSplit(work, clock, stop);
  }
  {
    std::lock_guard lock(mu_);
    progress_.reset();
  }
  if (!outcome.ok()) return outcome;
  outcome->done.set_lease(work.lease());
  outcome->done.set_bad_lines(readers_->bad_lines().count() - bad_before);
  if (outcome->done.bad_lines() > 0 && !readers_->bad_lines().examples().empty()) {
    outcome->done.set_bad_line_example(readers_->bad_lines().examples().back());
  }
  return outcome;
}

void WorkRunner::ReportLoss(const TrainOutcome& outcome, WorkDone* done) const {
  done->set_samples(outcome.samples);
  done->set_loss_sum(outcome.loss_sum);
  done->set_weight_sum(outcome.weight_sum);
}

uint64_t WorkRunner::StepsLeft(Clock clock) const {
  const uint64_t limit = job_.train().limit_steps();
  return limit == 0 ? kNoLimit : limit - std::min(limit, static_cast<uint64_t>(clock));
}

absl::StatusOr<WorkRunner::Outcome> WorkRunner::TrainSplit(const Work& work, Clock clock,
                                                           const std::atomic<bool>* stop) {
  auto source = readers_->OpenTrainSplit(work.split(), work.epoch());
  if (!source.ok()) return source.status();
  SourceFeed feed(source->get(), batch_rows_, 0, stop, StepsLeft(clock), Repeated());
  auto on_acknowledged = [this, lease = work.lease()](Clock, const TrainOutcome& sum) {
    std::lock_guard lock(mu_);
    if (!progress_) progress_.emplace();
    ReportLoss(sum, &*progress_);
    progress_->set_lease(lease);
    progress_->set_in_progress(true);
  };
  auto trained = pipeline_.Train(feed, clock, stop, on_acknowledged);
  if (!trained.ok()) return trained.status();
  Outcome out;
  ReportLoss(*trained, &out.done);
  out.next_clock = trained->next_clock;
  return out;
}

absl::StatusOr<WorkRunner::Outcome> WorkRunner::TrainSteps(const Work& work, Clock clock,
                                                           const std::atomic<bool>* stop) {
  auto source = readers_->TrainSteps(work.epoch());
  if (!source.ok()) return source.status();
  if (auto s = (*source)->SetRange(work.sync()); !s.ok()) return s;
  const Clock start = std::max<Clock>(work.start_clock(), clock);
  // By value: after an abort, late acknowledgements outlive this call.
  auto on_acknowledged = [this, lease = work.lease(), first = work.sync().first_step(), start](
                             Clock acknowledged, const TrainOutcome& sum) {
    if (acknowledged < start) return;
    std::lock_guard lock(mu_);
    if (!progress_) progress_.emplace();
    ReportLoss(sum, &*progress_);
    progress_->set_lease(lease);
    progress_->set_in_progress(true);
    progress_->set_next_step(first + static_cast<uint64_t>(acknowledged - start + 1));
  };
  TrainOutcome trained;
  {
    SourceFeed feed(*source, 0, start - clock, stop, kNoLimit, Repeated());  // limited by the range
    auto result = pipeline_.Train(feed, clock, stop, on_acknowledged);
    if (!result.ok()) return result.status();
    trained = *result;
  }
  Outcome out;
  ReportLoss(trained, &out.done);
  out.done.set_next_step(work.sync().first_step() +
                         static_cast<uint64_t>(trained.next_clock - start));
  if ((*source)->end_of_data()) {
    out.done.set_end_of_data(true);
    out.done.set_end_of_data_step((*source)->end_of_data_step());
  }
  out.next_clock = trained.next_clock;
  return out;
}

absl::StatusOr<WorkRunner::Outcome> WorkRunner::Evaluate(const Work& work, Clock clock,
                                                         const std::atomic<bool>* stop) {
  auto source = readers_->OpenEvalSplit(work.split());
  if (!source.ok()) return source.status();
  Outcome out;
  out.next_clock = clock;
  const std::vector<std::string> tasks = model_->task_names();
  const std::vector<size_t> labels = model_->task_labels();
  std::vector<TaskScores> scores(tasks.size());
  bool groups = false;  // a task's metrics need them
  for (size_t t = 0; t < tasks.size(); ++t) scores[t].set_task(tasks[t]);
  for (const TaskConfig& task : job_.model().task()) groups = groups || NeedsGroups(task);
  if (readers_->full_ranking()) return EvaluateRanking(source->get(), clock, stop);
  uint64_t rows = 0;
  SourceFeed feed(source->get(), batch_rows_, 0, stop);
  auto status = pipeline_.Evaluate(feed, stop, [&](const Batch& batch, const StepResult& result) {
    rows += batch.rows;
    for (size_t t = 0; t < tasks.size(); ++t) {
      AppendBytes(result.probabilities[t], scores[t].mutable_probabilities());
      AppendBytes(batch.labels[labels[t]], scores[t].mutable_labels());
      if (!batch.sample_weight.empty()) {
        AppendBytes(batch.sample_weight, scores[t].mutable_weights());
      }
      if (groups) {
        AppendBytes(batch.group_id, scores[t].mutable_groups());
      }
    }
  });
  if (!status.ok()) return status;
  out.done.set_samples(rows);
  for (TaskScores& s : scores) *out.done.add_scores() = std::move(s);
  return out;
}

absl::StatusOr<WorkRunner::Outcome> WorkRunner::EvaluateRanking(BatchSource* source, Clock clock,
                                                                const std::atomic<bool>* stop) {
  const std::vector<std::string> tasks = model_->task_names();
  const std::vector<size_t> labels = model_->task_labels();
  std::vector<RankCounter> counters(tasks.size());
  SourceFeed feed(source, std::max(batch_rows_, kRankedRows), 0, stop);
  auto status = pipeline_.Evaluate(feed, stop, [&](const Batch& batch, const StepResult& result) {
    for (size_t t = 0; t < tasks.size(); ++t) {
      counters[t].Add(result.probabilities[t], batch.labels[labels[t]], batch.group_id);
    }
  });
  if (!status.ok()) return status;
  Outcome out;
  out.next_clock = clock;
  for (size_t t = 0; t < tasks.size(); ++t) {
    TaskScores* scores = out.done.add_scores();
    scores->set_task(tasks[t]);
    AppendBytes(counters[t].predictions(), scores->mutable_probabilities());
    AppendBytes(std::vector<float>(counters[t].above().size(), 1.0f), scores->mutable_labels());
    AppendBytes(counters[t].groups(), scores->mutable_groups());
    AppendBytes(counters[t].above(), scores->mutable_above());
    out.done.set_samples(counters[t].above().size());
  }
  return out;
}

std::optional<WorkDone> WorkRunner::Progress() const {
  std::lock_guard lock(mu_);
  return progress_;
}

}  // namespace tidegate
