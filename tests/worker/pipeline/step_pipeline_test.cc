#include "worker/pipeline/step_pipeline.h"

#include <catch2/catch.hpp>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace tidegate {
namespace {

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
  std::vector<std::string> task_names() const override { return {"click"}; }
  std::vector<size_t> task_labels() const override { return {0}; }
  void Gather(Step* step) const override {
    step->tables.resize(1);
    step->tables[0].keys = {1};
  }
  absl::StatusOr<StepResult> Train(Step* step) override {
    if (fail_at > 0 && ++trained == fail_at) return absl::InternalError("no model today");
    step->tables[0].gradients = {static_cast<float>(step->batch.rows)};
    StepResult r;
    r.weight_sum = static_cast<double>(step->batch.rows);
    r.loss_sum = 2 * r.weight_sum;
    return r;
  }
  absl::StatusOr<StepResult> Evaluate(Step* step) override {
    StepResult r;
    r.probabilities = {std::vector<float>(step->batch.rows, step->tables[0].rows[0])};
    return r;
  }
  int fail_at = 0;
  int trained = 0;

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
    absl::Status status = push_status;
    Post([done, status] { done(status); });
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
  std::vector<std::pair<Clock, Clock>> pulls;
  std::vector<PushSeen> pushes;
  std::vector<Clock> ended;
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

class ListFeed final : public BatchFeed {
 public:
  explicit ListFeed(std::vector<size_t> rows) : rows_(std::move(rows)) {}
  absl::StatusOr<Kind> Next(Batch* batch) override {
    if (at_ == rows_.size()) return Kind::kEnd;
    if (rows_[at_] == 777) return absl::DataLossError("bad.txt:3: broken");
    batch->rows = rows_[at_++];
    return batch->rows == 0 ? Kind::kNothing : Kind::kRows;
  }

 private:
  std::vector<size_t> rows_;
  size_t at_ = 0;
};

struct Fixture {
  FakeModel model;
  FakeClient client;
  PipelineStats stats;
  StepPipeline Make(StalenessOptions s) {
    return StepPipeline({s, 2, 1}, &model, &client, [this](Step* st) { model.Gather(st); }, &stats);
  }
};

}  // namespace

TEST_CASE("every step is pulled, pushed and ended once, in order of clocks") {
  Fixture f;
  auto p = f.Make({true, 4, 3});
  ListFeed feed({5, 5, 5, 2});
  std::mutex mu;
  Clock acknowledged = -1;
  auto out = p.Train(feed, 10, nullptr, [&](Clock c) {
    std::lock_guard l(mu);
    acknowledged = std::max(acknowledged, c);
  });
  REQUIRE(out.ok());
  CHECK(out->samples == 17);
  CHECK(out->next_clock == 14);
  CHECK(out->loss_sum == 34);
  REQUIRE(f.client.pulls.size() == 4);
  for (int i = 0; i < 4; ++i) {
    CHECK(f.client.pulls[i] == std::pair<Clock, Clock>(10 + i, 10 + i - 5));
    CHECK(f.client.pushes[i].clock == 10 + i);
    CHECK(f.client.ended[i] == 10 + i);
  }
  CHECK(f.client.pushes[3].gradient == 2);
  CHECK(f.client.pushes[3].weight == 2);
  std::lock_guard l(mu);
  CHECK(acknowledged == 13);
  CHECK(f.stats.samples == 17);
}

TEST_CASE("synchronous steps never pull ahead, and end clocks without rows") {
  Fixture f;
  auto p = f.Make({true, 0, 8});
  ListFeed feed({4, 0, 0, 4});
  auto out = p.Train(feed, 0, nullptr);
  REQUIRE(out.ok());
  CHECK(f.client.pulls.size() == 2);
  REQUIRE(f.client.pushes.size() == 4);
  CHECK(f.client.pushes[1].weight == 0);
  CHECK(f.client.pushes[1].gradient == -1);  // no tables
  CHECK(f.client.unpushed_pulls_max == 1);
}

TEST_CASE("a push that fails ends the run with its status") {
  Fixture f;
  f.client.push_status = absl::ResourceExhaustedError("--memory_limit_bytes");
  auto p = f.Make({false, 0, 2});
  ListFeed feed(std::vector<size_t>(50, 3));
  auto out = p.Train(feed, 0, nullptr);
  CHECK(out.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(f.client.pushes.size() < 50);
}

TEST_CASE("errors of the feed and the model end the run") {
  Fixture f;
  auto p = f.Make({false, 0, 2});
  ListFeed broken({3, 3, 777});
  CHECK(p.Train(broken, 0, nullptr).status().code() == absl::StatusCode::kDataLoss);
  f.model.fail_at = 2;
  ListFeed feed({3, 3, 3});
  CHECK(p.Train(feed, 0, nullptr).status().code() == absl::StatusCode::kInternal);
}

TEST_CASE("a stop request ends a run that waits") {
  Fixture f;
  class Never final : public ParameterClient {
   public:
    void Pull(Clock, Clock, std::span<const TablePull>, PullDone done) override {
      kept.push_back(done);
    }
    void PullForEvaluation(std::span<const TablePull>, PullDone done) override {
      kept.push_back(done);
    }
    void Push(Clock, double, std::span<const TablePush>, PushDone) override {}
    void EndClock(Clock) override {}
    std::vector<PullDone> kept;
  } never;
  std::atomic<bool> stop = true;
  StepPipeline p({{true, 1, 2}, 2, 1}, &f.model, &never, [&](Step* s) { f.model.Gather(s); },
                 &f.stats);
  ListFeed feed({3, 3, 3});
  CHECK(p.Train(feed, 0, &stop).status().code() == absl::StatusCode::kCancelled);
  CHECK(never.kept.size() == 2);
  for (auto& done : never.kept) done({absl::CancelledError("late"), 0});  // late answers are harmless
}

TEST_CASE("evaluation hands every batch to the sink in order") {
  Fixture f;
  auto p = f.Make({true, 0, 2});
  ListFeed feed({5, 4, 3, 2, 1});
  std::vector<size_t> seen;
  REQUIRE(p.Evaluate(feed, nullptr, [&](const Batch& b, const StepResult& r) {
             seen.push_back(b.rows);
             CHECK(r.probabilities[0].at(0) == 0.25f);
           }).ok());
  CHECK(seen == std::vector<size_t>{5, 4, 3, 2, 1});
  CHECK(f.client.pushes.empty());
}

}  // namespace tidegate
