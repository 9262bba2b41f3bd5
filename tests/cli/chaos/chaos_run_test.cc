#include "cli/chaos/chaos_run.h"

#include <catch2/catch.hpp>

#include "common/job_config/job_config.h"

namespace tidegate::cli {

TEST_CASE("the job of each durability is one that the config check takes") {
  for (const bool async : {false, true}) {
    ChaosOptions options;
    options.async = async;
    const auto config = ParseJobConfig(ChaosConfig(options), "chaos.textproto");
    REQUIRE(config.status() == absl::OkStatus());
    CHECK(config->cluster().durability() == (async ? ClusterConfig::ASYNC : ClusterConfig::SYNC));
  }
}

}  // namespace tidegate::cli
