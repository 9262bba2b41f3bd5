#include "worker/pipeline/work_runner.h"

#include <catch2/catch.hpp>
#include <latch>

#include "common/job_config/job_config.h"
#include "tests/fakes/fake_training.h"

namespace tidegate {
namespace {

constexpr char kConfig[] = R"(
  data { format: GENERATED generator { cardinality: [10, 10] numeric_fields: 1 }
         train { rows: 1000 } valid { rows: 90 first_row: 1000 } }
  feature { name: "C{1..2}" id {} table: "emb" }
  table { name: "emb" part { name: "w" dim: 1 sgd {} } }
  model { preset { kind: LR wide: "emb.w" } task { logit: "z" } }
  train { global_batch: 64 })";

struct Fixture {
  explicit Fixture(const char* staleness, std::vector<std::string> overrides = {}) {
    overrides.push_back(std::string("train.staleness=") + staleness);
    auto parsed = ParseJobConfig(kConfig, "test", overrides);
    INFO(parsed.status().ToString());
    REQUIRE(parsed.ok());
    job = *parsed;
    auto made = Readers::Create(job);
    REQUIRE(made.ok());
    readers = *std::move(made);
    StepPipeline::Options options;
    options.staleness = {true, staleness[0] == '0' ? 0u : 4u, 2};
    runner = std::make_unique<WorkRunner>(job, options, 50, readers.get(), &model, &client,
                                          [this](Step* s) { model.Gather(s); });
  }
  JobConfig job;
  std::unique_ptr<Readers> readers;
  FakeModel model;
  FakeClient client;
  std::unique_ptr<WorkRunner> runner;
};

Work SplitWork(uint64_t begin, uint64_t end) {
  Work work;
  work.set_lease(5);
  work.set_kind(Work::TRAIN);
  work.mutable_split()->set_begin(begin);
  work.mutable_split()->set_end(end);
  return work;
}

}  // namespace

TEST_CASE("a split is trained on once, in steps of the worker's batch") {
  Fixture f("4");
  Work work;
  work.set_lease(5);
  work.set_kind(Work::TRAIN);
  work.mutable_split()->set_begin(100);
  work.mutable_split()->set_end(320);
  auto out = f.runner->Run(work, 7, nullptr);
  REQUIRE(out.ok());
  CHECK(out->done.lease() == 5);
  CHECK(out->done.samples() == 220);
  CHECK(out->done.weight_sum() == 220);
  CHECK(out->next_clock == 7 + 5);
  CHECK_FALSE(f.runner->Progress().has_value());
}

TEST_CASE("ranks of a synchronous range share its steps, and the end of the data is reported") {
  // 1000 rows in steps of 64: 15 whole ones and one of 40.
  for (uint32_t world : {1, 2, 3}) {
    uint64_t samples = 0;
    for (uint32_t rank = 0; rank < world; ++rank) {
      Fixture f("0");
      Work work;
      work.set_lease(9);
      work.set_kind(Work::TRAIN);
      work.set_start_clock(3);
      work.mutable_sync()->set_first_step(10);
      work.mutable_sync()->set_end_step(74);
      work.mutable_sync()->set_rank(rank);
      work.mutable_sync()->set_world(world);
      auto out = f.runner->Run(work, 1, nullptr);
      REQUIRE(out.ok());
      samples += out->done.samples();
      CHECK(out->done.end_of_data());
      CHECK(out->done.end_of_data_step() == 16);
      CHECK(out->next_clock == 3 + 6);
      // Two empty ends of clock up to the start, then steps 10 to 15.
      REQUIRE(f.client.pushes.size() == 8);
      CHECK(f.client.pushes[0].clock == 1);
      CHECK(f.client.pushes[0].weight == 0);
      CHECK(f.client.pushes[2].weight > 0);
    }
    CHECK(samples == 1000 - 640);
  }
}

TEST_CASE("how far a split is acknowledged is told while it runs, with its lease") {
  Fixture f("4");
  std::vector<uint64_t> told;
  std::latch pushes(5);  // a callback may come after the run has ended
  f.client.on_push_done = [&] {
    auto progress = f.runner->Progress();
    if (progress && progress->lease() == 5 && progress->in_progress()) told.push_back(progress->samples());
    pushes.count_down();
  };
  REQUIRE(f.runner->Run(SplitWork(100, 320), 0, nullptr).ok());
  pushes.wait();
  told.resize(4);  // of the last push or not: the run may have ended
  CHECK(told == std::vector<uint64_t>{50, 100, 150, 200});
  CHECK_FALSE(f.runner->Progress().has_value());
}

TEST_CASE("train.limit_steps ends a split where the clock reaches it, and later ones at once") {
  Fixture f("4", {"train.limit_steps=9"});
  auto out = f.runner->Run(SplitWork(100, 320), 7, nullptr);
  REQUIRE(out.ok());
  CHECK(out->done.samples() == 2 * 50);
  CHECK(out->next_clock == 9);
  out = f.runner->Run(SplitWork(320, 520), 9, nullptr);
  REQUIRE(out.ok());
  CHECK(out->done.samples() == 0);
  CHECK(out->next_clock == 9);
}

TEST_CASE("train.overfit_one_batch trains on the first batch in every step, of every split") {
  Fixture f("4", {"train.overfit_one_batch=true"});
  REQUIRE(f.runner->Run(SplitWork(100, 320), 0, nullptr).ok());
  REQUIRE(f.runner->Run(SplitWork(320, 420), 5, nullptr).ok());
  REQUIRE(f.model.first_samples.size() == 7);
  for (const uint64_t sample : f.model.first_samples) CHECK(sample == f.model.first_samples[0]);
  for (const auto& push : f.client.pushes) CHECK(push.weight == 50);
  Fixture other("4");
  REQUIRE(other.runner->Run(SplitWork(100, 320), 0, nullptr).ok());
  CHECK(other.model.first_samples[1] != other.model.first_samples[0]);
}

TEST_CASE("a synchronous range that ends before the data does not report its end") {
  Fixture f("0");
  Work work;
  work.set_kind(Work::TRAIN);
  work.mutable_sync()->set_first_step(0);
  work.mutable_sync()->set_end_step(4);
  work.mutable_sync()->set_world(1);
  auto out = f.runner->Run(work, 0, nullptr);
  REQUIRE(out.ok());
  CHECK_FALSE(out->done.end_of_data());
  CHECK(out->done.next_step() == 4);
  work.mutable_sync()->set_first_step(4);
  work.mutable_sync()->set_end_step(8);
  work.set_start_clock(4);
  out = f.runner->Run(work, 4, nullptr);
  REQUIRE(out.ok());
  CHECK(out->done.samples() == 256);
}

TEST_CASE("training is counted before its updates, and evaluation is not") {
  Fixture f("0");
  CHECK(f.runner->Progressive().empty());
  Work work;
  work.set_kind(Work::TRAIN);
  work.mutable_sync()->set_first_step(0);
  work.mutable_sync()->set_end_step(4);
  work.mutable_sync()->set_world(1);
  REQUIRE(f.runner->Run(work, 0, nullptr).ok());
  const std::vector<TaskProgress> counts = f.runner->Progressive();
  REQUIRE(counts.size() == 1);
  CHECK(counts[0].task() == "click");
  CHECK(counts[0].weight_sum() == 256);
  double weight = 0;
  for (double w : counts[0].positives()) weight += w;
  CHECK(weight > 0);
  for (double w : counts[0].negatives()) weight += w;
  CHECK(weight == 256);
  Work eval;
  eval.set_kind(Work::EVAL);
  eval.mutable_split()->set_begin(1000);
  eval.mutable_split()->set_end(1090);
  REQUIRE(f.runner->Run(eval, 4, nullptr).ok());
  CHECK(f.runner->Progressive()[0].weight_sum() == 256);
}

TEST_CASE("evaluation reports a score for every row") {
  Fixture f("0");
  Work work;
  work.set_kind(Work::EVAL);
  work.mutable_split()->set_begin(1000);
  work.mutable_split()->set_end(1090);
  auto out = f.runner->Run(work, 0, nullptr);
  REQUIRE(out.ok());
  REQUIRE(out->done.scores_size() == 1);
  CHECK(out->done.scores(0).probabilities().size() == 90 * 4);
  CHECK(out->done.scores(0).labels().size() == 90 * 4);
  CHECK(f.client.pushes.empty());
}

TEST_CASE("work of an unknown kind is refused") {
  Fixture f("0");
  CHECK(f.runner->Run(Work(), 0, nullptr).status().code() == absl::StatusCode::kInvalidArgument);
}

}  // namespace tidegate
