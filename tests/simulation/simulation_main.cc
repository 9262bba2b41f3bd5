// Runs simulated clusters. A failing seed is printed with the command that replays it; exit status 1.
//   simulation --seeds=1000 [--first_seed=1]     many
//   simulation --seed=17 --trace                 one, with a line for each event
//   --replicated                                 clusters with copies of their shards, and servers that fail

#include <gflags/gflags.h>

#include <cstdio>

#include "tests/simulation/simulation.h"

DEFINE_uint64(seeds, 100, "how many seeds to run");
DEFINE_uint64(first_seed, 1, "the first of them");
DEFINE_uint64(seed, 0, "run this one alone");
DEFINE_bool(replicated, false, "clusters with copies of their shards, and servers that fail");
DEFINE_bool(failover, false, "at staleness 0, faults of servers alone");
DEFINE_bool(trace, false, "with --seed: print what happens");

int main(int argc, char** argv) {
  using namespace tidegate::simulation;
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  const uint64_t first = FLAGS_seed != 0 ? FLAGS_seed : FLAGS_first_seed;
  const uint64_t count = FLAGS_seed != 0 ? 1 : FLAGS_seeds;
  uint64_t failed = 0, events = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const Plan plan = FLAGS_failover ? MakeFailoverPlan(seed) : FLAGS_replicated ? MakeReplicatedPlan(seed) : MakePlan(seed);
    const Outcome outcome = Run(plan, FLAGS_trace ? stdout : nullptr);
    events += outcome.events;
    if (outcome.ok && FLAGS_seed == 0) continue;
    std::printf("%s\n", plan.Describe().c_str());
    if (outcome.ok) {
      std::printf("ok after %lld ms, trace hash %016llx\n", static_cast<long long>(outcome.at),
                  static_cast<unsigned long long>(outcome.trace_hash));
      continue;
    }
    ++failed;
    std::printf("FAILED at %lld ms, checker \"%s\": %s\nreplay: simulation %s--seed=%llu --trace\n\n",
                static_cast<long long>(outcome.at), outcome.checker.c_str(), outcome.text.c_str(),
                FLAGS_failover ? "--failover " : FLAGS_replicated ? "--replicated " : "", static_cast<unsigned long long>(seed));
  }
  std::printf("%llu seeds, %llu events, %llu failed\n", static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(events), static_cast<unsigned long long>(failed));
  return failed == 0 ? 0 : 1;
}
