#include "worker/pipeline/step_pipeline.h"

#include <catch2/catch.hpp>
#include <map>
#include <mutex>

#include "tests/fakes/fake_training.h"

namespace tidegate {
namespace {

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

TEST_CASE("a dropped step counts nowhere, and steps of clocks that are decided by then are not computed") {
  Fixture f;
  f.client.dropped = {{11, 13}, {12, 13}, {13, 13}};
  StepPipeline p({.staleness = {true, 0, 1}, .pushes_in_flight_max = 2, .on_trained = nullptr, .drop_slowest = true}, &f.model,
                 &f.client, [&](Step* s) { f.model.Gather(s); }, &f.stats);
  ListFeed feed({5, 6, 7, 8, 9});
  std::mutex mu;
  std::map<Clock, uint64_t> samples;
  auto out = p.Train(feed, 10, nullptr, [&](Clock c, const TrainOutcome& sum) {
    std::lock_guard l(mu);
    samples[c] = sum.samples;
  });
  REQUIRE(out.ok());
  CHECK(out->next_clock == 15);
  CHECK(out->samples == 14);
  CHECK(out->loss_sum == 28);
  CHECK(f.model.first_samples.size() == 3);  // 10, 11 and 14
  CHECK(f.client.pulls.back().first == 14);
  REQUIRE(f.client.pushes.size() == 5);
  CHECK(f.client.pushes[2].weight == 0);
  CHECK(f.stats.samples == 14);
  CHECK(f.stats.dropped_steps == 3);
  CHECK(f.stats.dropped_samples == 21);
  CHECK(samples.at(10) == 5);
  CHECK(samples.at(13) == 5);
  CHECK(samples.at(14) == 14);
}

TEST_CASE("every step is pulled, pushed and ended once, in order of clocks") {
  Fixture f;
  auto p = f.Make({true, 4, 3});
  ListFeed feed({5, 5, 5, 2});
  std::mutex mu;
  Clock acknowledged = -1;
  std::map<Clock, uint64_t> samples;
  auto out = p.Train(feed, 10, nullptr, [&](Clock c, const TrainOutcome& sum) {
    std::lock_guard l(mu);
    acknowledged = std::max(acknowledged, c);
    samples[c] = sum.samples;
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
  for (const auto& [clock, sum] : samples) {
    CHECK(static_cast<Clock>(sum) == (clock < 10 ? 0 : clock < 13 ? 5 * (clock - 9) : 17));
  }
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

TEST_CASE("a push that fails ends the run also where it holds up the next pull for ever") {
  Fixture f;
  class Refusing final : public ParameterClient {
   public:
    void Pull(Clock clock, Clock, std::span<const TablePull>, PullDone done) override {
      if (clock == 0) {
        done({absl::OkStatus(), -1});
      } else {
        kept.push_back(done);
      }
    }
    void PullForEvaluation(std::span<const TablePull>, PullDone) override {}
    void Push(Clock, double, std::span<const TablePush>, PushDone done) override {
      done({.status = absl::ResourceExhaustedError("--memory_limit_bytes")});
    }
    void EndClock(Clock) override {}
    std::vector<PullDone> kept;
  } refusing;
  StepPipeline p({{true, 0, 1}, 2, 1}, &f.model, &refusing, [&](Step* s) { f.model.Gather(s); },
                 &f.stats);
  ListFeed feed({3, 3, 3});
  CHECK(p.Train(feed, 0, nullptr).status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(refusing.kept.size() == 1);
  for (auto& done : refusing.kept) done({absl::OkStatus(), 0});
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
