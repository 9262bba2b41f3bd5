#include "cli/job_plan.h"

#include <google/protobuf/text_format.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <string>

#include "tests/worker/data/test_files.h"

namespace tidegate::cli {
namespace {

constexpr int kRows = 30000;

// Row i has key floor(sqrt(i)): n rows have about sqrt(n) distinct keys, Heaps' law with b = 1/2.
std::string SquareRootRows() {
  std::string text;
  for (int i = 0; i < kRows; ++i) text += "1 " + std::to_string(static_cast<int>(std::sqrt(i))) + ":1\n";
  return text;
}

JobPlan PlanOf(const std::string& file, uint64_t limit) {
  JobConfig job;
  REQUIRE(google::protobuf::TextFormat::ParseFromString("data { format: LIBSVM train { files: '" + file + R"(' } }
    feature { name: "a" column: "#1" id {} table: "t" } table { name: "t" part { name: "w" dim: 1 sgd { lr: 0.1 } } }
    model { preset { kind: LR wide: "t.w" } task { name: "click" logit: "logit" } } dense { adam {} } train { global_batch: 4096 }
    cluster { shards: 64 })", &job));
  auto plan = PlanJob(job, {}, limit);
  INFO(plan.status());
  REQUIRE(plan.ok());
  return *std::move(plan);
}

TEST_CASE("rows are expected by Heaps' law through what was read, whatever the limit is to a step") {
  const std::string file = WriteFile("sqrt.svm", SquareRootRows());
  for (const uint64_t limit : {8192, 10000, 12000, 20000}) {
    INFO(limit);
    const JobPlan plan = PlanOf(file, limit);
    CHECK(plan.tables[0].rows_by == "Heaps' law");
    CHECK(plan.tables[0].rows == Approx(std::sqrt(kRows)).epsilon(0.05));
  }
}

TEST_CASE("one step tells nothing of growth, and all rows need no law") {
  const std::string file = WriteFile("sqrt.svm", SquareRootRows());
  const JobPlan step = PlanOf(file, 2000);
  CHECK(step.tables[0].rows_by == "so far");
  CHECK(step.tables[0].rows == 64);
  const JobPlan all = PlanOf(file, kRows * 2);
  CHECK(all.tables[0].rows_by == "all rows read");
  CHECK(all.tables[0].rows == std::ceil(std::sqrt(kRows)));
}

TEST_CASE("compressed files cost the reader what they hold as text") {
  const std::string text = SquareRootRows();
  const JobPlan plain = PlanOf(WriteFile("sqrt.svm", text), kRows * 2);
  const JobPlan packed = PlanOf(WriteFile("sqrt.svm.gz", Gzip(text)), kRows * 2);
  CHECK(plain.parse_bytes == Approx(static_cast<double>(text.size()) / kRows));
  CHECK(packed.parse_bytes == plain.parse_bytes);
  CHECK(FindBottleneck(packed).parse > 0);
}

TEST_CASE("a reader whose bytes are not known is not the one that limits") {
  JobPlan plan;
  plan.flops = 1;
  CHECK(std::isnan(FindBottleneck(plan).parse));
  CHECK(FindBottleneck(plan).largest == "compute");
}

}  // namespace
}  // namespace tidegate::cli
