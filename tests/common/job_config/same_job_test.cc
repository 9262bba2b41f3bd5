#include "common/job_config/same_job.h"

#include <catch2/catch.hpp>

#include "common/job_config/job_config.h"

namespace tidegate {
namespace {

JobConfig Job() {
  JobConfig job;
  job.set_name("ads");
  job.mutable_data()->mutable_train()->add_files("/data/a");
  job.mutable_train()->set_global_batch(64);
  job.add_table()->set_name("emb");
  return job;
}

TEST_CASE("a resumed job may have more epochs, another cluster and other checkpoints") {
  JobConfig now = Job();
  now.mutable_train()->set_epochs(9);
  now.mutable_train()->set_stall_timeout_s(1);
  now.mutable_train()->mutable_checkpoint()->set_keep(7);
  now.mutable_data()->set_max_bad_lines(3);
  now.mutable_cluster()->set_servers(5);
  CHECK(JobDifferences(Job(), now) == "");
}

TEST_CASE("every other field makes another job, and is named") {
  JobConfig now = Job();
  now.mutable_train()->set_global_batch(128);
  CHECK(JobDifferences(Job(), now) == "modified: train.global_batch: 64 -> 128\n");
  now = Job();
  now.mutable_train()->set_limit_steps(5);
  CHECK_THAT(JobDifferences(Job(), now), Catch::Contains("train.limit_steps"));
  now = Job();
  now.mutable_table(0)->set_admit_after(2);
  CHECK_THAT(JobDifferences(Job(), now), Catch::Contains("table[0].admit_after"));
  now = Job();
  now.mutable_data()->mutable_train()->add_files("/data/b");
  CHECK_THAT(JobDifferences(Job(), now), Catch::Contains("/data/b"));
}

TEST_CASE("a field that says its default is no difference") {
  JobConfig now = Job();
  now.mutable_train()->set_staleness("0");
  CHECK(JobDifferences(Job(), now) == "");
}

}  // namespace
}  // namespace tidegate
