#include "cli/chaos/faults.h"

#include <algorithm>
#include <catch2/catch.hpp>

namespace tidegate::cli {

TEST_CASE("faults are named by a list") {
  CHECK(*ParseFaults("kill-server", false) == std::vector{ChaosFault::kKillServer});
  CHECK(ParseFaults("no-scheduler,pause-server", false)->size() == 2);
  CHECK(ParseFaults("all", false)->size() == 6);
  CHECK(ParseFaults("network", false)->size() == 4);
  for (const char* bad : {"", "kill-servers", "kill-server,,pause-server", "kill-server "}) {
    const auto faults = ParseFaults(bad, true);
    REQUIRE_FALSE(faults.ok());
    CHECK_THAT(std::string(faults.status().message()), Catch::Contains("pause-scheduler"));
  }
}

TEST_CASE("every fault's name is read back") {
  const auto all = ParseFaults("all,network", true);
  REQUIRE(all->size() == 11);
  for (const ChaosFault fault : *all) CHECK(*ParseFaults(NameOf(fault), true) == std::vector{fault});
}

TEST_CASE("only a job with worker processes has workers to kill") {
  CHECK(ParseFaults("kill-worker", true).ok());
  const auto refused = ParseFaults("kill-worker", false);
  REQUIRE_FALSE(refused.ok());
  CHECK_THAT(std::string(refused.status().message()), !Catch::Contains("kill-worker,"));
  const auto all = *ParseFaults("all", false);
  CHECK(std::count(all.begin(), all.end(), ChaosFault::kKillWorker) == 0);
}

}  // namespace tidegate::cli
