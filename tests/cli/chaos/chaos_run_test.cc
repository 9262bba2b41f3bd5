#include "cli/chaos/chaos_run.h"

#include <catch2/catch.hpp>

#include "common/job_config/job_config.h"

namespace tidegate::cli {

TEST_CASE("faults are named by a list") {
  CHECK(*ParseFaults("kill-server") == std::vector{ChaosFault::kKillServer});
  CHECK(ParseFaults("no-scheduler,pause-server")->size() == 2);
  CHECK(ParseFaults("all")->size() == 6);
  CHECK(ParseFaults("network")->size() == 4);
  for (const char* bad : {"", "kill-servers", "kill-server,,pause-server", "kill-server "}) {
    const auto faults = ParseFaults(bad);
    REQUIRE_FALSE(faults.ok());
    CHECK_THAT(std::string(faults.status().message()), Catch::Contains("pause-scheduler"));
  }
}

TEST_CASE("every fault's name is read back") {
  const auto all = ParseFaults("all,network");
  REQUIRE(all->size() == 10);
  for (const ChaosFault fault : *all) CHECK(*ParseFaults(NameOf(fault)) == std::vector{fault});
}

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
