#include "scheduler/data_plan.h"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <string>

namespace tidegate {
namespace {

struct Folder {
  std::string path;
  Folder() {
    const char* base = std::getenv("TEST_TMPDIR");
    path = std::string(base != nullptr ? base : "/tmp") + "/plan-XXXXXX";
    REQUIRE(mkdtemp(path.data()) != nullptr);
  }
  void Write(const std::string& name, size_t bytes) {
    REQUIRE(RealFileSystem().WriteAtomically(path + "/" + name, std::string(bytes, 'x')).ok());
  }
};

JobConfig JobOver(const std::string& pattern, uint64_t split_bytes = 0) {
  JobConfig job;
  job.mutable_data()->set_format(DataConfig::LIBSVM);
  job.mutable_data()->mutable_train()->add_files(pattern);
  job.mutable_data()->set_split_bytes(split_bytes);
  job.mutable_cluster()->set_workers(2);
  return job;
}

void CheckCovers(const std::vector<Split>& splits, uint32_t source, uint64_t begin, uint64_t end) {
  uint64_t at = begin;
  for (const Split& split : splits) {
    if (split.source() != source) continue;
    CHECK(split.begin() == at);
    CHECK(split.end() > split.begin());
    at = split.end();
  }
  CHECK(at == end);
}

TEST_CASE("files are cut into ranges that cover each byte once; compressed files stay whole") {
  Folder folder;
  folder.Write("a.txt", 1000);
  folder.Write("b.txt", 250);
  folder.Write("c.txt.gz", 999);
  const auto plan = PlanData(&RealFileSystem(), JobOver(folder.path + "/*", 300));
  REQUIRE(plan.ok());
  REQUIRE(plan->job.data().train().files_size() == 3);
  CHECK(plan->job.data().train().files(1) == folder.path + "/b.txt");
  REQUIRE(plan->train.size() == 6);
  CheckCovers(plan->train, 0, 0, 1000);
  CheckCovers(plan->train, 1, 0, 250);
  CheckCovers(plan->train, 2, 0, 999);
  CHECK(plan->train[5].file() == folder.path + "/c.txt.gz");
  CHECK(plan->valid.empty());
}

TEST_CASE("split sizes follow from the data's size and the number of workers, within limits") {
  Folder folder;
  folder.Write("small", 100 << 10);
  CHECK(PlanData(&RealFileSystem(), JobOver(folder.path + "/small"))->train.size() == 2);
  folder.Write("big", 4 << 20);
  CHECK(PlanData(&RealFileSystem(), JobOver(folder.path + "/big"))->train.size() == 16);
}

TEST_CASE("generated rows are cut into ranges from the first row on") {
  JobConfig job;
  job.mutable_data()->set_format(DataConfig::GENERATED);
  job.mutable_data()->mutable_train()->set_rows(100'000);
  job.mutable_data()->mutable_valid()->set_rows(5000);
  job.mutable_data()->mutable_valid()->set_first_row(100'000);
  const auto plan = PlanData(&RealFileSystem(), job);
  REQUIRE(plan.ok());
  CheckCovers(plan->train, 0, 0, 100'000);
  CheckCovers(plan->valid, 0, 100'000, 105'000);
  CHECK(plan->train.size() == 8);
  CHECK(plan->valid.size() == 5);
}

TEST_CASE("what is missing or empty is named") {
  Folder folder;
  folder.Write("empty.txt", 0);
  const auto why = [](const JobConfig& job) {
    return std::string(PlanData(&RealFileSystem(), job).status().message());
  };
  CHECK_THAT(why(JobOver(folder.path + "/no*")), Catch::Contains("data.train.files: no file matches"));
  CHECK_THAT(why(JobOver(folder.path + "/empty.txt")), Catch::Contains("empty.txt is empty"));
  CHECK_THAT(why(JobConfig()), Catch::Contains("data.train"));
  JobConfig generated;
  generated.mutable_data()->set_format(DataConfig::GENERATED);
  generated.mutable_data()->mutable_train();
  CHECK_THAT(why(generated), Catch::Contains("data.train.rows"));
}

TEST_CASE("a split size that makes millions of splits is refused") {
  Folder folder;
  folder.Write("big", 3 << 20);
  CHECK(absl::IsInvalidArgument(PlanData(&RealFileSystem(), JobOver(folder.path + "/big", 1)).status()));
}

}  // namespace
}  // namespace tidegate
