// The cluster over many seeds; the seeds that once failed; the same run twice; the same work on other
// layouts.

#include <cstdlib>
#include <fstream>
#include <string>

#include <catch2/catch.hpp>
#include "tests/simulation/simulation.h"

namespace tidegate::simulation {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr uint64_t kReplicatedSeeds = 40;
constexpr uint64_t kSeeds = 200;  // ten times slower, and the contracts are held without it
#else
constexpr uint64_t kReplicatedSeeds = 40;
constexpr uint64_t kSeeds = 2000;  // at least what a planted bug may take
#endif

void RequireOk(uint64_t seed) {
  const Plan plan = MakePlan(seed);
  const Outcome outcome = Run(plan);
  INFO(plan.Describe());
  INFO("checker \"" << outcome.checker << "\" at " << outcome.at << " ms: " << outcome.text);
  INFO("replay: bazel run //tests/simulation -- --seed=" << seed << " --trace");
  REQUIRE(outcome.ok);
}

TEST_CASE("every contract holds over many simulated clusters") {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) RequireOk(seed);
}

TEST_CASE("every contract holds over many replicated clusters whose servers fail") {
  for (uint64_t seed = 1; seed <= kReplicatedSeeds; ++seed) {
    const Plan plan = MakeReplicatedPlan(seed);
    const Outcome outcome = Run(plan);
    INFO(plan.Describe());
    INFO("checker \"" << outcome.checker << "\" at " << outcome.at << " ms: " << outcome.text);
    INFO("replay: bazel run //tests/simulation -- --replicated --seed=" << seed << " --trace");
    REQUIRE(outcome.ok);
  }
}

TEST_CASE("at staleness 0 failures of servers leave no trace in the bits") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    const Plan failing = MakeFailoverPlan(seed);
    Plan quiet = failing;
    quiet.faults.clear();
    quiet.replicas = 1;
    const Outcome one = Run(quiet);
    const Outcome other = Run(failing);
    INFO(failing.Describe());
    INFO("checker \"" << other.checker << "\" at " << other.at << " ms: " << other.text);
    REQUIRE(one.ok);
    REQUIRE(other.ok);
    REQUIRE(other.digest == one.digest);
  }
}

TEST_CASE("seeds that once failed pass") {
  std::ifstream file("tests/simulation/regression_seeds.txt");
  REQUIRE(file.good());
  std::string word;
  int seeds = 0;
  while (file >> word) {
    if (word[0] == '#') {
      std::getline(file, word);
      continue;
    }
    RequireOk(std::stoull(word));
    ++seeds;
  }
  REQUIRE(seeds > 0);
}

TEST_CASE("a seed replays exactly") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const Plan plan = seed % 2 == 0 ? MakeReplicatedPlan(seed) : MakePlan(seed);
    const Outcome first = Run(plan);
    const Outcome second = Run(plan);
    INFO("seed " << seed);
    REQUIRE(first.trace_hash == second.trace_hash);
    REQUIRE(first.events == second.events);
    REQUIRE(first.digest == second.digest);
  }
  REQUIRE(Run(MakePlan(1)).trace_hash != Run(MakePlan(2)).trace_hash);
}

TEST_CASE("at staleness 0 any number of servers and strands gives the same bits") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Outcome one = Run(MakeQuietPlan(seed, 1, 1));
    INFO("seed " << seed << ": " << one.text);
    REQUIRE(one.ok);
    for (uint32_t servers = 1; servers <= 3; ++servers) {
      for (uint32_t strands = 1; strands <= 3; ++strands) {
        const Outcome other = Run(MakeQuietPlan(seed, servers, strands));
        INFO(servers << " servers of " << strands << " strands: " << other.text);
        REQUIRE(other.ok);
        REQUIRE(other.digest == one.digest);
      }
    }
  }
  REQUIRE(Run(MakeQuietPlan(1, 1, 1)).digest != Run(MakeQuietPlan(2, 1, 1)).digest);
}

}  // namespace
}  // namespace tidegate::simulation
