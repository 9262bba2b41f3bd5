#include "tests/simulation/plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/random.h"

namespace tidegate::simulation {
namespace {

// After this nothing breaks any more; pauses and outages that began before may last longer.
constexpr TimeMs kQuietAtMs = 6000;

void AddFaults(Random& random, Plan* plan) {
  const auto time = [&](TimeMs from, TimeMs to) {
    return from + static_cast<TimeMs>(random.Below(static_cast<uint64_t>(to - from)));
  };
  const size_t count = random.Below(5);
  for (size_t i = 0; i < count; ++i) {
    Fault fault;
    fault.kind = static_cast<Fault::Kind>(random.Below(Fault::kDisconnect + 1));
    fault.at = time(20, random.Below(3) == 0 ? kQuietAtMs : 1200);
    const bool of_scheduler = fault.kind == Fault::kSchedulerCrash || fault.kind == Fault::kSchedulerPause;
    fault.length_ms = random.Below(2) == 0 ? time(20, 400) : time(400, of_scheduler ? 6000 : 5000);
    fault.target = static_cast<uint32_t>(random.Below(64));
    fault.server = static_cast<uint32_t>(random.Below(64));
    fault.moment = static_cast<uint32_t>(random.Below(3));
    plan->faults.push_back(fault);
  }
  std::sort(plan->faults.begin(), plan->faults.end(),
            [](const Fault& a, const Fault& b) { return a.at < b.at; });
}

void AddStranger(Random& random, Plan* plan) {
  Fault fault;
  fault.kind = Fault::kStranger;
  fault.at = 20 + static_cast<TimeMs>(random.Below(600));
  fault.target = static_cast<uint32_t>(random.Below(64));
  fault.server = static_cast<uint32_t>(random.Below(64));
  const auto later = std::find_if(plan->faults.begin(), plan->faults.end(),
                                  [&](const Fault& f) { return f.at > fault.at; });
  plan->faults.insert(later, fault);
}

// From a sequence of their own, so that the rest of a seed's plan stays what it was.
void AddCheckpoints(Plan* plan) {
  Random random(Mix64(plan->seed ^ 0x636b7074));
  if (random.Below(2) == 0) plan->checkpoint_every_clocks = 2 + random.Below(12);
  for (uint64_t asked = random.Below(3); asked > 0; --asked) {
    plan->checkpoints_asked.push_back(static_cast<TimeMs>(50 + random.Below(1500)));
  }
  if (random.Below(2) == 0) plan->crash_all_at = static_cast<TimeMs>(200 + random.Below(1500));
  if (plan->crash_all_at > 0 || plan->checkpoint_every_clocks > 0) plan->checkpoints = true;
}

void AddServerFaults(uint64_t count, Random& random, Plan* plan) {
  const auto time = [&](TimeMs from, TimeMs to) {
    return from + static_cast<TimeMs>(random.Below(static_cast<uint64_t>(to - from)));
  };
  for (; count > 0; --count) {
    Fault fault;
    // Crashes are what replication is for.
    fault.kind = random.Below(3) == 0 ? Fault::kServerCrash
                                      : static_cast<Fault::Kind>(Fault::kServerCrash + random.Below(5));
    fault.at = time(100, random.Below(3) == 0 ? kQuietAtMs : 2000);
    fault.length_ms = random.Below(2) == 0 ? time(20, 600) : time(600, 5000);
    fault.target = static_cast<uint32_t>(random.Below(64));
    fault.server = static_cast<uint32_t>(random.Below(64));
    fault.moment = static_cast<uint32_t>(random.Below(3));
    plan->faults.push_back(fault);
  }
  std::stable_sort(plan->faults.begin(), plan->faults.end(),
                   [](const Fault& a, const Fault& b) { return a.at < b.at; });
}

}  // namespace

const char* NameOf(Fault::Kind kind) {
  switch (kind) {
    case Fault::kWorkerCrash: return "worker_crash";
    case Fault::kWorkerPause: return "worker_pause";
    case Fault::kWorkerJoin: return "worker_join";
    case Fault::kSchedulerCrash: return "scheduler_crash";
    case Fault::kSchedulerPause: return "scheduler_pause";
    case Fault::kCutWorkerServer: return "cut_worker_server";
    case Fault::kCutWorkerScheduler: return "cut_worker_sched";
    case Fault::kDisconnect: return "disconnect";
    case Fault::kStranger: return "stranger";
    case Fault::kServerCrash: return "server_crash";
    case Fault::kServerPause: return "server_pause";
    case Fault::kCutServers: return "cut_servers";
    case Fault::kCutServerScheduler: return "cut_server_sched";
    case Fault::kServerJoin: return "server_join";
    case Fault::kLoseShard: return "lose_shard";
    case Fault::kServerDrain: return "server_drain";
    case Fault::kSchedulerChange: return "scheduler_change";
    case Fault::kSlowDisk: return "slow_disk";
  }
  return "?";
}

void Plan::WithoutCheckpoints() {
  checkpoint_every_clocks = 0;
  checkpoints_asked.clear();
  crash_all_at = 0;
}

bool Plan::WorkersFail() const {
  return std::any_of(faults.begin(), faults.end(), [](const Fault& f) {
    return f.kind == Fault::kWorkerCrash || f.kind == Fault::kWorkerPause ||
           f.kind == Fault::kCutWorkerServer || f.kind == Fault::kCutWorkerScheduler;
  });
}

std::string Plan::Describe() const {
  std::string out = absl::StrCat(
      "seed ", seed, ": staleness ", synchronous ? absl::StrCat("0 without the slowest ", drop_slowest) : bounded ? absl::StrCat(staleness) : "inf", ", ",
      servers, " servers of ", strands, " strands, ", replicas, " replicas, ", workers, " workers, ", shards, " shards, ", epochs,
      " epochs of ", rows, " rows, batch ", global_batch, ", message limit ", message_limit_bytes,
      ", checkpoint every ", checkpoint_every_clocks, " clocks, all die at ", crash_all_at, ", drop ", network.drop, ", duplicate ", network.duplicate, ", slow ", network.slow,
      ", clocks differ by ", clock_skew_ms_max, " and drift by ", clock_drift_ppm_max, " ppm");
  if (cut_at_step > 0) absl::StrAppend(&out, ", drain cut at ", cut_at_step, " of ", cut_victim);
  for (const Fault& f : faults) {
    absl::StrAppend(&out, "\n  ", f.at, " ms: ", NameOf(f.kind), " of ", f.target, "/", f.server, " for ",
                    f.length_ms, " ms, moment ", f.moment);
  }
  return out;
}

Plan MakePlan(uint64_t seed) {
  Random random(seed);
  Plan plan;
  plan.seed = seed;
  const uint64_t kinds[] = {0, 0, 1, 3, ~uint64_t{0}};
  const uint64_t staleness = kinds[random.Below(5)];
  plan.synchronous = staleness == 0;
  plan.bounded = staleness != ~uint64_t{0};
  plan.staleness = plan.bounded ? staleness : 0;
  plan.servers = 1 + static_cast<uint32_t>(random.Below(3));
  plan.strands = 1 + static_cast<uint32_t>(random.Below(2));
  plan.workers = 1 + static_cast<uint32_t>(random.Below(4));
  plan.shards = 4u << random.Below(3);
  plan.epochs = 1 + static_cast<uint32_t>(random.Below(3));
  plan.global_batch = 4 + random.Below(8);
  plan.rows = 40 + random.Below(120);
  plan.rows_per_split = 8 + random.Below(16);
  plan.pipeline_depth = 1 + static_cast<uint32_t>(random.Below(3));
  plan.message_limit_bytes = random.Below(3) == 0 ? 400 : 1 << 20;
  plan.valid_splits = static_cast<uint32_t>(random.Below(3));
  plan.checkpoints = random.Below(2) == 0;
  plan.rate_changes = random.Below(3) == 0;
  plan.step_ms_max = random.Below(2) == 0 ? 8 : 60;
  plan.strand_lag_ms_max = random.Below(2) == 0 ? 0 : 6;
  plan.network.delay_ms_max = random.Below(2) == 0 ? 2 : 15;
  plan.network.quiet_at = kQuietAtMs;
  if (random.Below(4) != 0) {
    plan.network.drop = random.Unit() * 0.06;
    plan.network.duplicate = random.Unit() * 0.15;
    plan.network.slow = random.Unit() * 0.1;
  }
  AddFaults(random, &plan);
  if (random.Below(3) == 0) AddStranger(random, &plan);
  AddCheckpoints(&plan);
  return plan;
}

Plan MakeDropPlan(uint64_t seed) {
  Random random(Mix64(seed ^ 0x64726f70));
  Plan plan = seed % 3 == 0 ? MakePlan(seed) : seed % 3 == 1 ? MakeReplicatedPlan(seed) : MakeElasticPlan(seed);
  plan.synchronous = plan.bounded = true;
  plan.staleness = 0;
  plan.workers = 2 + static_cast<uint32_t>(random.Below(3));
  plan.drop_slowest = 1 + static_cast<uint32_t>(random.Below(random.Below(3) == 0 ? plan.workers : plan.workers - 1));
  return plan;
}

Plan MakeResumePlan(const Plan& before) {
  Plan plan = before;
  Random random(Mix64(before.seed ^ 0x72657374));
  plan.generation = 2;
  plan.crash_all_at = 0;
  plan.servers = 1 + static_cast<uint32_t>(random.Below(3));
  plan.strands = 1 + static_cast<uint32_t>(random.Below(2));
  plan.workers = 1 + static_cast<uint32_t>(random.Below(4));
  plan.faults.clear();
  return plan;
}

Plan MakeReplicatedPlan(uint64_t seed) {
  Plan plan = MakePlan(seed);
  Random random(Mix64(seed ^ 0x7265706c));
  plan.WithoutCheckpoints();
  plan.checkpoints = false;
  plan.replicas = 2 + static_cast<uint32_t>(random.Below(2));
  plan.servers = 2 + static_cast<uint32_t>(random.Below(3));
  plan.epochs = 2 + static_cast<uint32_t>(random.Below(2));  // long enough for what follows
  plan.rows += 80;
  std::erase_if(plan.faults, [](const Fault& f) { return f.kind == Fault::kStranger; });
  if (random.Below(2) == 0) plan.faults.clear();
  AddServerFaults(1 + random.Below(5), random, &plan);
  if (random.Below(10) == 0) plan.faults.back().kind = Fault::kLoseShard;
  return plan;
}

Plan MakeElasticPlan(uint64_t seed) {
  Plan plan = MakeReplicatedPlan(seed);
  Random random(Mix64(seed ^ 0x656c6173));
  plan.rows += 60;
  if (random.Below(2) == 0) {
    plan.clock_skew_ms_max = 1'000'000;
    plan.clock_drift_ppm_max = 10'000;
  }
  plan.checkpoints = random.Below(2) == 0;
  if (plan.checkpoints) plan.checkpoint_every_clocks = 2 + random.Below(12);
  const auto add = [&](Fault::Kind kind, uint64_t most) {
    for (uint64_t count = random.Below(most + 1); count > 0; --count) {
      Fault fault;
      fault.kind = kind;
      fault.at = 100 + static_cast<TimeMs>(random.Below(random.Below(3) == 0 ? 5500 : 1900));
      fault.length_ms = 20 + static_cast<TimeMs>(random.Below(2000));
      fault.target = static_cast<uint32_t>(random.Below(64));
      fault.server = static_cast<uint32_t>(random.Below(64));
      fault.moment = static_cast<uint32_t>(random.Below(3));
      plan.faults.push_back(fault);
    }
  };
  add(Fault::kServerDrain, 2);
  add(Fault::kServerJoin, 2);
  add(Fault::kSchedulerChange, 2);
  add(Fault::kSlowDisk, 1);
  for (size_t i = 1; i < plan.faults.size(); ++i) {  // several at once
    if (random.Below(3) == 0) plan.faults[i].at = plan.faults[random.Below(i)].at + static_cast<TimeMs>(random.Below(3));
  }
  std::stable_sort(plan.faults.begin(), plan.faults.end(), [](const Fault& a, const Fault& b) { return a.at < b.at; });
  return plan;
}

Plan MakeMigrationPlan(uint64_t seed, uint64_t step, uint32_t victim) {
  Plan plan = MakeQuietPlan(seed, 3, 1 + static_cast<uint32_t>(seed % 2));
  plan.synchronous = seed % 3 == 0;
  plan.staleness = plan.synchronous ? 0 : 2;
  plan.shards = 8;
  plan.checkpoints = false;
  plan.replicas = 2;
  plan.workers = 2;
  plan.rows = 300;
  Fault drain;
  drain.kind = Fault::kServerDrain;
  drain.at = 250;
  drain.server = static_cast<uint32_t>(seed);
  plan.faults = {drain};
  plan.cut_at_step = step;
  plan.cut_victim = victim;
  return plan;
}

Plan MakeExactPlan(uint64_t seed) {
  Plan plan = MakeFailoverPlan(seed);
  Random random(Mix64(seed ^ 0x65786163));
  plan.synchronous = random.Below(3) == 0;
  plan.staleness = plan.synchronous ? 0 : 1 + random.Below(3);
  plan.shards = 1u << random.Below(5);
  for (Fault& fault : plan.faults) {
    if (random.Below(4) == 0) fault.kind = random.Below(2) == 0 ? Fault::kServerDrain : Fault::kServerJoin;
  }
  return plan;
}

Plan OnlyFaults(const Plan& plan, const std::vector<size_t>& kept, bool quiet) {
  Plan out = plan;
  out.faults.clear();
  for (const size_t i : kept) {
    if (i < plan.faults.size()) out.faults.push_back(plan.faults[i]);
  }
  if (quiet) {
    out.network.drop = out.network.duplicate = out.network.slow = 0;
    out.strand_lag_ms_max = out.clock_skew_ms_max = 0;
    out.clock_drift_ppm_max = 0;
  }
  return out;
}

ShrunkPlan Shrink(const Plan& plan, const std::function<bool(const Plan&)>& fails) {
  ShrunkPlan out{plan, {}, false};
  for (size_t i = 0; i < plan.faults.size(); ++i) out.kept.push_back(i);
  const auto attempt = [&](const std::vector<size_t>& kept, bool quiet) {
    Plan smaller = OnlyFaults(plan, kept, quiet);
    if (!fails(smaller)) return false;
    out = {std::move(smaller), kept, quiet};
    return true;
  };
  attempt(out.kept, true);
  for (bool smaller = true; smaller;) {
    smaller = false;
    for (size_t i = 0; i < out.kept.size() && !smaller; ++i) {
      std::vector<size_t> kept = out.kept;
      kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(i));
      smaller = attempt(kept, out.quiet);
    }
  }
  return out;
}

Plan MakeFailoverPlan(uint64_t seed) {
  Random random(Mix64(seed ^ 0x6661696c));
  Plan plan = MakeQuietPlan(seed, 2 + static_cast<uint32_t>(random.Below(2)), 1 + static_cast<uint32_t>(random.Below(2)));
  plan.checkpoints = false;
  plan.replicas = 2;
  plan.rows += 100;
  AddServerFaults(1 + random.Below(3), random, &plan);
  return plan;
}

Plan MakeQuietPlan(uint64_t seed, uint32_t servers, uint32_t strands) {
  Plan plan;
  plan.seed = seed;
  Random random(Mix64(seed));
  plan.synchronous = true;
  plan.servers = servers;
  plan.strands = strands;
  plan.workers = 1 + static_cast<uint32_t>(random.Below(4));
  plan.shards = 16;
  plan.epochs = 2;
  plan.global_batch = 4 + random.Below(8);
  plan.rows = 40 + random.Below(60);
  plan.strand_lag_ms_max = strands > 1 ? 4 : 0;
  return plan;
}

}  // namespace tidegate::simulation
