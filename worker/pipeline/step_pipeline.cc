#include "worker/pipeline/step_pipeline.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/executor/trace.h"
#include "common/logging.h"

namespace tidegate {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Adds the time until its end to an atomic that only this thread writes.
class Stopwatch {
 public:
  explicit Stopwatch(std::atomic<double>* total) : total_(total), start_(SteadyClock::now()) {}
  ~Stopwatch() {
    const double s = std::chrono::duration<double>(SteadyClock::now() - start_).count();
    total_->store(total_->load(std::memory_order_relaxed) + s, std::memory_order_relaxed);
  }

 private:
  std::atomic<double>* total_;
  SteadyClock::time_point start_;
};

void Add(std::atomic<double>* a, double x) {
  a->store(a->load(std::memory_order_relaxed) + x, std::memory_order_relaxed);
}

}  // namespace

// What callbacks write and the worker's thread waits on.
struct StepPipeline::Board {
  std::mutex mu;
  std::condition_variable changed;
  struct Pushed {
    TrainOutcome own;
    bool done = false;
    bool dropped = false;
  };
  uint32_t pushes_in_flight = 0;
  std::map<Clock, Pushed> pushed;  // from the first that is not acknowledged on
  Clock newest_pushed = -1;
  Clock decided = -1;
  absl::Status push_status;
  Acknowledged on_acknowledged;
  TrainOutcome sum;                // of all steps before those, in order
  uint64_t samples = 0;            // finished since the last look
  uint64_t dropped_steps = 0;
  uint64_t dropped_samples = 0;

  // Waits until `ready()` holds under the lock. The periodic wake-up looks at `stop`.
  template <typename Ready>
  absl::Status Await(const char* what, const std::atomic<bool>* stop, Ready ready) {
    std::unique_lock lock(mu);
    while (!ready()) {
      if (stop != nullptr && stop->load(std::memory_order_relaxed)) {
        return absl::CancelledError(absl::StrCat("stopped while waiting for ", what));
      }
      changed.wait_for(lock, std::chrono::milliseconds(100));
    }
    return absl::OkStatus();
  }

  void OnPushDone(Clock clock, const ParameterClient::PushResult& result) {
    Acknowledged notify;
    Clock acknowledged = -1;
    TrainOutcome so_far;
    {
      std::lock_guard lock(mu);
      --pushes_in_flight;
      decided = std::max(decided, result.decided);
      if (!result.status.ok() && push_status.ok()) push_status = result.status;
      if (result.status.ok()) Finish(clock, result.dropped);
      acknowledged = pushed.empty() ? newest_pushed : pushed.begin()->first - 1;
      notify = on_acknowledged;
      so_far = sum;
    }
    if (notify) notify(acknowledged, so_far);
    changed.notify_all();
  }

 private:
  void Finish(Clock clock, bool dropped) {
    Pushed& step = pushed.at(clock);
    step.done = true;
    step.dropped = dropped;
    if (dropped && step.own.samples > 0) ++dropped_steps;
    (dropped ? dropped_samples : samples) += step.own.samples;
    for (auto first = pushed.begin(); first != pushed.end() && first->second.done; first = pushed.erase(first)) {
      if (first->second.dropped) continue;
      sum.samples += first->second.own.samples;
      sum.loss_sum += first->second.own.loss_sum;
      sum.weight_sum += first->second.own.weight_sum;
    }
  }
};

struct StepPipeline::Slot {
  Step step;
  Clock clock = 0;
  bool empty = false;    // a step without rows
  bool skipped = false;  // known to be dropped before it was pulled
  // Written by the pull's callback under the board's lock.
  bool pulled = false;
  ParameterClient::PullResult result;
  std::vector<TablePull> pulls;
  std::vector<TablePush> pushes;
};

StepPipeline::StepPipeline(Options options, Model* model, ParameterClient* client, Gather gather,
                           PipelineStats* stats)
    : options_(options),
      policy_(options.staleness),
      model_(model),
      client_(client),
      gather_(std::move(gather)),
      stats_(stats),
      board_(std::make_shared<Board>()) {}

StepPipeline::~StepPipeline() = default;

std::shared_ptr<StepPipeline::Slot> StepPipeline::TakeSlot() {
  if (free_slots_.empty()) return std::make_shared<Slot>();
  auto slot = std::move(free_slots_.back());
  free_slots_.pop_back();
  return slot;
}

void StepPipeline::StartPull(const std::shared_ptr<Slot>& slot, bool evaluate) {
  slot->step.dropout_seed = options_.seed;
  const Clock clock = evaluate ? -1 : slot->clock;
  {
    const TraceSpan span("gather", clock);
    gather_(&slot->step);
  }
  const int64_t asked_us = Trace::Wants(clock) ? Trace::NowUs() : -1;
  slot->pulls.clear();
  for (size_t t = 0; t < slot->step.tables.size(); ++t) {
    TableStep& table = slot->step.tables[t];
    table.rows.resize(table.keys.size() * model_->row_widths()[t]);
    if (!table.keys.empty()) {
      slot->pulls.push_back({static_cast<TableId>(t), table.keys, std::span<float>(table.rows)});
    }
  }
  slot->pulled = false;
  // The callback owns the slot too: an aborted run leaves, and late rows still have where to go.
  auto done = [board = board_, slot, clock, asked_us](ParameterClient::PullResult result) {
    if (asked_us >= 0) Trace::AddAsync("pull", clock, asked_us, Trace::NowUs());
    {
      std::lock_guard lock(board->mu);
      slot->result = std::move(result);
      slot->pulled = true;
    }
    board->changed.notify_all();
  };
  if (evaluate) {
    client_->PullForEvaluation(slot->pulls, std::move(done));
  } else {
    client_->Pull(slot->clock, policy_.BoundOf(slot->clock), slot->pulls, std::move(done));
  }
}

absl::Status StepPipeline::AwaitPull(Slot* slot, const std::atomic<bool>* stop) {
  Stopwatch watch(&stats_->pull_wait_s);
  const TraceSpan span("wait for pull", slot->clock);
  // Where an own push was refused, the clock that releases the pull may never come.
  auto s = board_->Await("a pull", stop,
                         [&] { return slot->pulled || !board_->push_status.ok(); });
  if (!s.ok()) return s;
  std::lock_guard lock(board_->mu);
  return slot->pulled ? slot->result.status : board_->push_status;
}

absl::Status StepPipeline::AwaitPushes(uint32_t at_most, const std::atomic<bool>* stop) {
  Stopwatch watch(&stats_->push_wait_s);
  auto s = board_->Await("pushes to be acknowledged", stop, [&] {
    return board_->pushes_in_flight <= at_most || !board_->push_status.ok();
  });
  if (!s.ok()) return s;
  std::lock_guard lock(board_->mu);
  return board_->push_status;
}

void StepPipeline::StartPush(Slot* slot, double weight, bool with_tables,
                             const TrainOutcome& own) {
  slot->pushes.clear();
  if (with_tables) {
    for (size_t t = 0; t < slot->step.tables.size(); ++t) {
      const TableStep& table = slot->step.tables[t];
      if (table.keys.empty()) continue;
      slot->pushes.push_back(
          {static_cast<TableId>(t), table.keys, table.gradients, table.counts});
    }
  }
  {
    std::lock_guard lock(board_->mu);
    ++board_->pushes_in_flight;
    board_->newest_pushed = slot->clock;
    board_->pushed[slot->clock].own = own;
  }
  const TraceSpan span("push", slot->clock);
  client_->Push(slot->clock, weight, slot->pushes,
                [board = board_, clock = slot->clock](const ParameterClient::PushResult& result) {
                  board->OnPushDone(clock, result);
                });
  client_->EndClock(slot->clock);
  stats_->clock.store(slot->clock, std::memory_order_relaxed);
}

bool StepPipeline::IsDropped(Clock clock) const {
  std::lock_guard lock(board_->mu);
  return clock <= board_->decided;
}

// With drop_slowest a step counts when it is known whether it is dropped.
void StepPipeline::CountFinished() {
  std::lock_guard lock(board_->mu);
  stats_->samples.fetch_add(std::exchange(board_->samples, 0), std::memory_order_relaxed);
  stats_->dropped_steps.fetch_add(std::exchange(board_->dropped_steps, 0), std::memory_order_relaxed);
  stats_->dropped_samples.fetch_add(std::exchange(board_->dropped_samples, 0), std::memory_order_relaxed);
}

absl::Status StepPipeline::ComputeAndPush(Slot* slot, const std::atomic<bool>* stop) {
  TrainOutcome own;
  own.samples = slot->empty ? 0 : slot->step.batch.rows;
  if (!slot->empty && !slot->skipped) {
    if (auto s = AwaitPull(slot, stop); !s.ok()) return s;
    slot->skipped = options_.drop_slowest && IsDropped(slot->clock);
  }
  if (slot->empty || slot->skipped) {
    StartPush(slot, 0, false, own);
    if (options_.drop_slowest) CountFinished();
    return absl::OkStatus();
  }
  StepResult result;
  {
    Stopwatch watch(&stats_->compute_s);
    const TraceSpan span("compute", slot->clock);
    auto trained = model_->Train(&slot->step);
    if (!trained.ok()) return trained.status();
    result = *std::move(trained);
  }
  if (options_.on_trained) options_.on_trained(slot->step.batch, result);
  {
    const TraceSpan span("wait for pushes", slot->clock);
    if (auto s = AwaitPushes(options_.pushes_in_flight_max - 1, stop); !s.ok()) return s;
  }
  own.loss_sum = result.loss_sum;
  own.weight_sum = result.weight_sum;
  StartPush(slot, result.weight_sum, true, own);
  if (options_.drop_slowest) {
    CountFinished();
  } else {
    stats_->samples.fetch_add(own.samples, std::memory_order_relaxed);
  }
  stats_->steps.fetch_add(1, std::memory_order_relaxed);
  Add(&stats_->loss_sum, result.loss_sum);
  Add(&stats_->weight_sum, result.weight_sum);
  return absl::OkStatus();
}

absl::StatusOr<TrainOutcome> StepPipeline::Train(BatchFeed& feed, Clock first,
                                                 const std::atomic<bool>* stop,
                                                 Acknowledged on_acknowledged) {
  // A fresh board: callbacks of an aborted earlier run must not count here.
  board_ = std::make_shared<Board>();
  board_->on_acknowledged = std::move(on_acknowledged);
  std::deque<std::shared_ptr<Slot>> pulled;
  Clock next = first, computed = first - 1;
  bool end = false;
  absl::Status status;
  while (status.ok() && !(end && pulled.empty())) {
    while (!end && policy_.MayPull(next, computed)) {
      auto slot = TakeSlot();
      absl::StatusOr<BatchFeed::Kind> kind;
      {
        Stopwatch watch(&stats_->reader_wait_s);
        const TraceSpan span("wait for reader", next);
        slot->step.batch.Clear();
        kind = feed.Next(&slot->step.batch);
      }
      if (!kind.ok()) {
        status = kind.status();
        break;
      }
      if (*kind == BatchFeed::Kind::kEnd) {
        free_slots_.push_back(std::move(slot));
        end = true;
        break;
      }
      slot->clock = next++;
      slot->empty = *kind == BatchFeed::Kind::kNothing;
      slot->skipped = options_.drop_slowest && IsDropped(slot->clock);
      if (!slot->empty && !slot->skipped) StartPull(slot, false);
      pulled.push_back(std::move(slot));
    }
    if (!status.ok() || pulled.empty()) continue;
    status = ComputeAndPush(pulled.front().get(), stop);
    if (!status.ok()) break;
    computed = pulled.front()->clock;
    free_slots_.push_back(std::move(pulled.front()));
    pulled.pop_front();
  }
  if (status.ok()) status = AwaitPushes(0, stop);
  if (options_.drop_slowest) CountFinished();
  if (!status.ok()) return status;
  std::lock_guard lock(board_->mu);
  TrainOutcome outcome = board_->sum;
  outcome.next_clock = next;
  return outcome;
}

absl::Status StepPipeline::Evaluate(BatchFeed& feed, const std::atomic<bool>* stop,
                                    const ScoreSink& sink) {
  board_ = std::make_shared<Board>();
  std::deque<std::shared_ptr<Slot>> pulled;
  bool end = false;
  absl::Status status;
  while (status.ok() && !(end && pulled.empty())) {
    while (!end && pulled.size() < 2) {
      auto slot = TakeSlot();
      slot->step.batch.Clear();
      auto kind = feed.Next(&slot->step.batch);
      if (!kind.ok()) {
        status = kind.status();
        break;
      }
      if (*kind == BatchFeed::Kind::kEnd) {
        end = true;
      } else if (*kind == BatchFeed::Kind::kRows) {
        slot->empty = false;
        slot->clock = -1;
        StartPull(slot, true);
        pulled.push_back(std::move(slot));
      }
    }
    if (!status.ok() || pulled.empty()) continue;
    Slot* slot = pulled.front().get();
    status = AwaitPull(slot, stop);
    if (!status.ok()) break;
    auto result = model_->Evaluate(&slot->step);
    if (!result.ok()) {
      status = result.status();
      break;
    }
    sink(slot->step.batch, *result);
    free_slots_.push_back(std::move(pulled.front()));
    pulled.pop_front();
  }
  return status;
}

}  // namespace tidegate
