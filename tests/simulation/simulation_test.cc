// The cluster over many seeds; the seeds that once failed; the same run twice; the same work on other
// layouts.

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <string>

#include <catch2/catch.hpp>
#include "tests/simulation/simulation.h"

namespace tidegate::simulation {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr uint64_t kReplicatedSeeds = 40;
constexpr uint64_t kStepStride = 40;
constexpr uint64_t kSeeds = 200;  // ten times slower, and the contracts are held without it
#else
constexpr uint64_t kReplicatedSeeds = 40;
constexpr uint64_t kStepStride = 9;
constexpr uint64_t kSeeds = 2000;  // at least what a planted bug may take
#endif

void RequireOk(const Plan& plan) {
  const Outcome outcome = Run(plan);
  INFO(plan.Describe());
  INFO("checker \"" << outcome.checker << "\" at " << outcome.at << " ms: " << outcome.text);
  REQUIRE(outcome.ok);
}

TEST_CASE("every contract holds over many simulated clusters") {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) RequireOk(MakePlan(seed));
}

TEST_CASE("every contract holds over many replicated clusters whose servers fail") {
  for (uint64_t seed = 1; seed <= kReplicatedSeeds; ++seed) RequireOk(MakeReplicatedPlan(seed));
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

TEST_CASE("every contract holds where servers are drained and come, schedulers change and clocks differ") {
  for (uint64_t seed = 1; seed <= kReplicatedSeeds; ++seed) RequireOk(MakeElasticPlan(seed));
}

TEST_CASE("every contract holds where clocks do not wait for the slowest workers, with and without copies") {
  for (uint64_t seed = 1; seed <= 6 * kReplicatedSeeds; ++seed) RequireOk(MakeDropPlan(seed));
}

TEST_CASE("a drain may be cut at any step") {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const uint64_t steps = Run(MakeMigrationPlan(seed, 0, 0)).drain_steps;
    REQUIRE(steps > 50);
    for (uint64_t step = seed; step <= steps; step += kStepStride) {
      for (uint32_t victim = 0; victim < 3; ++victim) RequireOk(MakeMigrationPlan(seed, step, victim));
    }
  }
}

TEST_CASE("sums of integers end alike with and without faults, replicas, servers and shards") {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    const Plan failing = MakeExactPlan(seed);
    const Outcome other = Run(failing);
    INFO(failing.Describe());
    INFO("checker \"" << other.checker << "\" at " << other.at << " ms: " << other.text);
    REQUIRE(other.ok);
    Plan plain = failing;
    plain.faults.clear();
    plain.replicas = plain.servers = plain.strands = plain.shards = 1;
    plain.message_limit_bytes = 1 << 20;
    const Outcome one = Run(plain);
    REQUIRE(one.ok);
    REQUIRE(one.sums != 0);
    REQUIRE(other.sums == one.sums);
  }
}

TEST_CASE("a failing plan is shrunk to the faults that make it fail") {
  const Plan plan = MakeElasticPlan(3);
  REQUIRE(plan.faults.size() > 2);
  const auto fails = [](const Plan& p) {
    const auto& f = p.faults;
    return std::any_of(f.begin(), f.end(), [](const Fault& fault) { return fault.kind == Fault::kServerCrash; }) &&
           p.network.delay_ms_max > 0;
  };
  REQUIRE(fails(plan));
  const ShrunkPlan shrunk = Shrink(plan, fails);
  CHECK(shrunk.quiet);
  REQUIRE(shrunk.plan.faults.size() == 1);
  CHECK(shrunk.plan.faults[0].kind == Fault::kServerCrash);
  CHECK(OnlyFaults(plan, shrunk.kept, true).Describe() == shrunk.plan.Describe());
  const ShrunkPlan noisy = Shrink(plan, [&](const Plan& p) { return p.network.drop == plan.network.drop; });
  CHECK(noisy.quiet == (plan.network.drop == 0));
  CHECK(noisy.kept.empty());
}

TEST_CASE("seeds that once failed pass") {
  std::ifstream file("tests/simulation/regression_seeds.txt");
  REQUIRE(file.good());
  std::string word, plans;
  int seeds = 0;
  while (file >> word) {
    if (word[0] == '#') {
      std::getline(file, word);
    } else if (std::isdigit(static_cast<unsigned char>(word[0])) == 0) {
      plans = word;
    } else {
      const uint64_t seed = std::stoull(word);
      INFO(plans << " " << seed);
      REQUIRE((plans == "single" || plans == "replicated" || plans == "elastic" || plans == "drop"));
      RequireOk(plans == "drop" ? MakeDropPlan(seed) : plans == "single" ? MakePlan(seed) : plans == "replicated" ? MakeReplicatedPlan(seed) : MakeElasticPlan(seed));
      ++seeds;
    }
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
