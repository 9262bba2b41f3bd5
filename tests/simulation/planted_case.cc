// A core with a planted bug is linked in: the checker that the environment names must find it.

#include <cstdlib>
#include <string>

#include <catch2/catch.hpp>
#include "tests/simulation/simulation.h"

namespace tidegate::simulation {
namespace {

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  INFO(name);
  REQUIRE(value != nullptr);
  return value;
}

TEST_CASE("the planted bug is found") {
  const std::string checker = Variable("PLANTED_CHECKER");
  const uint64_t seeds = std::stoull(Variable("PLANTED_SEEDS"));
  const std::string plans = Variable("PLANTED_PLANS");
  REQUIRE((plans == "single" || plans == "replicated" || plans == "elastic" || plans == "drop"));
  std::string found;
  for (uint64_t seed = 1; seed <= seeds && found.empty(); ++seed) {
    Plan plan = plans == "drop" ? MakeDropPlan(seed) : plans == "single" ? MakePlan(seed) : plans == "replicated" ? MakeReplicatedPlan(seed) : MakeElasticPlan(seed);
    if (checker != "checkpoint") plan.WithoutCheckpoints();  // its checker would be first to find what others are for
    const Outcome outcome = Run(plan);
    if (outcome.ok) continue;
    found = outcome.checker;
    WARN("seed " << seed << ", checker \"" << found << "\": " << outcome.text);
  }
  REQUIRE(found == checker);
}

}  // namespace
}  // namespace tidegate::simulation
