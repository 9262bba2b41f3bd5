// Runs simulated clusters. A failing seed is printed with the command that replays it; exit status 1.
//   simulation --seeds=1000 [--first_seed=1]     many
//   simulation --seed=17 --trace                 one, with a line for each event
//   --plans=replicated                           clusters with copies of their shards, and servers that fail
//   --shrink                                     and with as few faults as still make it fail
//   --seed=17 --keep=0,3|none [--quiet]          with those of its faults alone, and a quiet network
//   --migration=3 --seeds=20                     of each seed a drain, cut after every third message of it

#include <gflags/gflags.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/simulation/simulation.h"

DEFINE_uint64(seeds, 100, "how many seeds to run");
DEFINE_uint64(first_seed, 1, "the first of them");
DEFINE_uint64(seed, 0, "run this one alone");
DEFINE_string(plans, "single", "single, replicated, elastic, failover, exact, drop");
DEFINE_bool(replicated, false, "--plans=replicated");
DEFINE_bool(shrink, false, "look for fewer faults that make a failing seed fail");
DEFINE_string(keep, "", "with --seed: these of its faults alone");
DEFINE_bool(quiet, false, "with --seed: without faults of the network, lags and skews");
DEFINE_uint64(migration, 0, "drains, cut after every so-manieth message");
DEFINE_bool(trace, false, "with --seed: print what happens");

namespace tidegate::simulation {
namespace {

Plan PlanOf(uint64_t seed) {
  if (FLAGS_replicated || FLAGS_plans == "replicated") return MakeReplicatedPlan(seed);
  if (FLAGS_plans == "elastic") return MakeElasticPlan(seed);
  if (FLAGS_plans == "failover") return MakeFailoverPlan(seed);
  if (FLAGS_plans == "exact") return MakeExactPlan(seed);
  if (FLAGS_plans == "drop") return MakeDropPlan(seed);
  return MakePlan(seed);
}

std::string Replay(uint64_t seed) {
  return absl::StrCat("simulation --plans=", FLAGS_replicated ? "replicated" : FLAGS_plans, " --seed=", seed, " --trace");
}

void PrintFailure(const Plan& plan, const Outcome& outcome) {
  std::printf("%s\nFAILED at %lld ms, checker \"%s\": %s\n", plan.Describe().c_str(),
              static_cast<long long>(outcome.at), outcome.checker.c_str(), outcome.text.c_str());
}

bool RunSeed(uint64_t seed, uint64_t* events) {
  Plan plan = PlanOf(seed);
  if (!FLAGS_keep.empty() || FLAGS_quiet) {
    std::vector<size_t> kept;
    for (size_t i = 0; i < plan.faults.size(); ++i) {
      const std::vector<std::string> numbers = absl::StrSplit(FLAGS_keep, ',');
      const bool named = std::find(numbers.begin(), numbers.end(), absl::StrCat(i)) != numbers.end();
      if (FLAGS_keep.empty() || named) kept.push_back(i);
    }
    plan = OnlyFaults(plan, kept, FLAGS_quiet);
  }
  const Outcome outcome = Run(plan, FLAGS_trace ? stdout : nullptr);
  *events += outcome.events;
  if (outcome.ok) {
    if (FLAGS_seed != 0) {
      std::printf("%s\nok after %lld ms, trace hash %016llx\n", plan.Describe().c_str(),
                  static_cast<long long>(outcome.at), static_cast<unsigned long long>(outcome.trace_hash));
    }
    return true;
  }
  PrintFailure(plan, outcome);
  std::printf("replay: %s\n", Replay(seed).c_str());
  if (FLAGS_shrink) {
    const ShrunkPlan shrunk = Shrink(plan, [&](const Plan& smaller) { return Run(smaller).checker == outcome.checker; });
    PrintFailure(shrunk.plan, Run(shrunk.plan));
    std::printf("replay: %s --keep=%s%s\n", Replay(seed).c_str(),
                shrunk.kept.empty() ? "none" : absl::StrJoin(shrunk.kept, ",").c_str(),
                shrunk.quiet ? " --quiet" : "");
  }
  std::printf("\n");
  return false;
}

// How many runs failed.
uint64_t RunMigrations(uint64_t seed, uint64_t* events) {
  uint64_t failed = 0;
  const uint64_t steps = Run(MakeMigrationPlan(seed, 0, 0)).drain_steps;
  for (uint64_t step = 1; step <= steps; step += FLAGS_migration) {
    for (uint32_t victim = 0; victim < 3; ++victim) {
      const Plan plan = MakeMigrationPlan(seed, step, victim);
      const Outcome outcome = Run(plan);
      *events += outcome.events;
      if (outcome.ok) continue;
      PrintFailure(plan, outcome);
      ++failed;
    }
  }
  return failed;
}

}  // namespace
}  // namespace tidegate::simulation

int main(int argc, char** argv) {
  using namespace tidegate::simulation;
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  const uint64_t first = FLAGS_seed != 0 ? FLAGS_seed : FLAGS_first_seed;
  const uint64_t count = FLAGS_seed != 0 ? 1 : FLAGS_seeds;
  uint64_t failed = 0, events = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    failed += FLAGS_migration > 0 ? RunMigrations(seed, &events) : RunSeed(seed, &events) ? 0 : 1;
  }
  std::printf("%llu seeds, %llu events, %llu failed\n", static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(events), static_cast<unsigned long long>(failed));
  return failed == 0 ? 0 : 1;
}
