#pragma once
// Hand-written stand-ins for a model and a cluster, for tests of what lies between them.

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "worker/client/parameter_client.h"
#include "worker/model/model.h"

namespace tidegate {

// One table of one parameter; the gradient of a row of a batch is its label.
class FakeModel final : public Model {
 public:
  FakeModel() {
    TableSpec t;
    t.set_id(0);
    t.set_name("w");
    tables_.push_back(t);
  }
  const std::vector<TableSpec>& tables() const override { return tables_; }
  const std::vector<uint32_t>& row_widths() const override { return widths_; }
  TableId TableOfFeature(size_t) const override { return 0; }
  std::optional<Key> OovKeyOfFeature(size_t) const override { return std::nullopt; }
  std::vector<std::string> task_names() const override { return {"click"}; }
  std::vector<size_t> task_labels() const override { return {0}; }
  void Gather(Step* step) const override {
    step->tables.resize(1);
    step->tables[0].keys = {1};
  }
  absl::StatusOr<StepResult> Train(Step* step) override {
    if (fail_at > 0 && ++trained == fail_at) return absl::InternalError("no model today");
    step->tables[0].gradients = {static_cast<float>(step->batch.rows)};
    first_samples.push_back(step->batch.sample_id.empty() ? 0 : step->batch.sample_id[0]);
    StepResult r;
    r.weight_sum = static_cast<double>(step->batch.rows);
    r.loss_sum = 2 * r.weight_sum;
    r.probabilities = {std::vector<float>(step->batch.rows, 0.5f)};
    return r;
  }
  absl::StatusOr<StepResult> Evaluate(Step* step) override {
    StepResult r;
    r.probabilities = {std::vector<float>(step->batch.rows, step->tables[0].rows[0])};
    return r;
  }
  int fail_at = 0;
  int trained = 0;
  std::vector<uint64_t> first_samples;  // of each batch

 private:
  std::vector<TableSpec> tables_;
  std::vector<uint32_t> widths_ = {1};
};

// Answers from its own thread, in order, and keeps a journal.
class FakeClient final : public ParameterClient {
 public:
  FakeClient() : thread_([this] { Loop(); }) {}
  ~FakeClient() override {
    {
      std::lock_guard l(mu_);
      stop_ = true;
    }
    cv_.notify_all();
    thread_.join();
  }
  void Pull(Clock clock, Clock bound, std::span<const TablePull> tables, PullDone done) override {
    std::lock_guard l(mu_);
    pulls.push_back({clock, bound});
    unpushed_pulls_max = std::max<int64_t>(unpushed_pulls_max, clock - newest_push);
    Post([tables = std::vector(tables.begin(), tables.end()), done] {
      tables[0].rows[0] = 0.25f;
      done({absl::OkStatus(), 0});
    });
  }
  void PullForEvaluation(std::span<const TablePull> tables, PullDone done) override {
    std::lock_guard l(mu_);
    Post([tables = std::vector(tables.begin(), tables.end()), done] {
      tables[0].rows[0] = 0.25f;
      done({absl::OkStatus(), 0});
    });
  }
  void Push(Clock clock, double weight, std::span<const TablePush> tables,
            PushDone done) override {
    std::lock_guard l(mu_);
    newest_push = clock;
    pushes.push_back({clock, weight, tables.empty() ? -1.f : tables[0].gradients[0]});
    PushResult result{push_status, dropped.contains(clock), decided};
    if (result.dropped) result.decided = decided = std::max(decided, dropped.at(clock));
    Post([this, done, result] {
      done(result);
      if (on_push_done) on_push_done();
    });
  }
  void EndClock(Clock clock) override {
    std::lock_guard l(mu_);
    ended.push_back(clock);
  }
  struct PushSeen {
    Clock clock;
    double weight;
    float gradient;
  };
  std::map<Clock, Clock> dropped;  // pushes of these are, and all that come up to the clock beside them will be
  Clock decided = -1;
  std::vector<std::pair<Clock, Clock>> pulls;
  std::vector<PushSeen> pushes;
  std::vector<Clock> ended;
  std::function<void()> on_push_done;  // after each, from the client's thread
  absl::Status push_status;
  Clock newest_push = -1;
  int64_t unpushed_pulls_max = 0;

 private:
  void Post(std::function<void()> f) {
    queue_.push_back(std::move(f));
    cv_.notify_all();
  }
  void Loop() {
    std::unique_lock l(mu_);
    while (true) {
      cv_.wait(l, [&] { return stop_ || !queue_.empty(); });
      if (queue_.empty()) return;
      auto f = std::move(queue_.front());
      queue_.pop_front();
      l.unlock();
      f();
      l.lock();
    }
  }
  std::mutex mu_;
  std::condition_variable cv_;
  std::deque<std::function<void()>> queue_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace tidegate
