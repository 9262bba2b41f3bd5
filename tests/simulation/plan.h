#pragma once
// What one simulated run is made of, all of it from a seed: the cluster, the job, the network, the faults.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/types.h"
#include "tests/simulation/network.h"

namespace tidegate::simulation {

struct Fault {
  enum Kind {
    kWorkerCrash,      // `length_ms` later another process joins in its place
    kWorkerPause,      // for length_ms; wakes with what it believed
    kWorkerJoin,       // one more worker
    kSchedulerCrash,   // up again after length_ms
    kSchedulerPause,
    kCutWorkerServer,  // no message passes for length_ms
    kCutWorkerScheduler,
    kDisconnect,       // the stream of a worker and a server breaks
    kStranger,         // a process that never joined talks to a server as if it were a worker
    // Of replicated clusters; none of these kills the last copy of a shard.
    kServerCrash,      // its memory is lost; `length_ms` later it is there again, empty
    kServerPause,
    kCutServers,       // moment 0: both ways, 1: from `target` to `server`, 2: the other way
    kCutServerScheduler,
    kServerJoin,
    kLoseShard,        // but this one: all copies of a shard that are in sync. The job must fail, and say so
    kServerDrain,      // by command; once it is drained it must be empty, and ends
    kSchedulerChange,  // a standby leads; moment 0: the old one has died, 1: it sleeps for length_ms, 2: it goes on
                       // for a while and does not know
    kSlowDisk,         // of the scheduler, for length_ms
  };
  Kind kind = kWorkerCrash;
  TimeMs at = 0;
  TimeMs length_ms = 0;
  uint32_t target = 0;  // modulo the number of workers
  uint32_t server = 0;
  // A scheduler's crash: 0 at once, 1 at the next time it would persist, before; 2 after, with its replies
  // not sent.
  uint32_t moment = 0;

  bool OfServer() const { return kind >= kServerCrash && kind <= kServerDrain; }
};
const char* NameOf(Fault::Kind kind);

struct Plan {
  uint64_t seed = 1;
  bool synchronous = false;
  uint32_t drop_slowest = 0;   // synchronous
  bool bounded = true;
  uint64_t staleness = 0;
  uint32_t servers = 1;
  uint32_t replicas = 1;       // more than 1: with durability SYNC
  uint32_t strands = 1;
  uint32_t workers = 1;
  uint32_t shards = 4;
  uint32_t epochs = 1;
  uint64_t rows = 48;          // of training data
  uint64_t rows_per_split = 12;
  uint64_t global_batch = 8;
  uint32_t pipeline_depth = 2;
  uint64_t message_limit_bytes = 1 << 20;  // some plans: so small that steps travel in parts
  uint32_t valid_splits = 1;
  bool checkpoints = true;
  uint64_t checkpoint_every_clocks = 0;   // 0: off
  std::vector<TimeMs> checkpoints_asked;  // by command
  // Every process dies at once; the job is started again, and resumes from its newest checkpoint, while
  // pushes of the old run still arrive. 0: no.
  TimeMs crash_all_at = 0;
  uint64_t generation = 1;                // of the job; 2: after that
  bool rate_changes = false;   // a plateau that always bites
  TimeMs step_ms_max = 20;     // of computing
  TimeMs strand_lag_ms_max = 0;
  TimeMs clock_skew_ms_max = 0;  // between processes
  uint32_t clock_drift_ppm_max = 0;  // of a process
  // While a server is drained, after so many messages of it (0: never): crashes 0 that server, 1 one that is being
  // filled, 2 the scheduler.
  uint64_t cut_at_step = 0;
  uint32_t cut_victim = 0;
  TimeMs lease_ms = 3000;
  float stall_timeout_s = 4;
  NetworkFaults network;
  std::vector<Fault> faults;

  bool WorkersFail() const;    // some worker may be removed
  void WithoutCheckpoints();   // but for those at the ends of epochs
  bool replicated() const { return replicas > 1; }
  uint64_t Steps() const { return (rows + global_batch - 1) / global_batch; }
  uint64_t WorkerBatch() const { return (global_batch + workers - 1) / workers; }
  std::string Describe() const;
};

Plan MakePlan(uint64_t seed);
// MakePlan's cluster with copies of its shards, without checkpoints, and servers that fail.
Plan MakeReplicatedPlan(uint64_t seed);
// That, with more of them at the same time: servers are drained and come under load, the scheduler changes or has a
// slow disk, clocks differ.
Plan MakeElasticPlan(uint64_t seed);
// A drain under load, cut at a step.
Plan MakeMigrationPlan(uint64_t seed, uint64_t step, uint32_t victim);
// The run after `before` was killed: of other processes, without faults but the network's.
Plan MakeResumePlan(const Plan& before);
// Synchronous, without faults; the same work for any placement.
Plan MakeQuietPlan(uint64_t seed, uint32_t servers, uint32_t strands);
// At staleness 0 with drop_slowest: a cluster of one of the others.
Plan MakeDropPlan(uint64_t seed);
// As MakeQuietPlan, replicated, with faults of servers alone.
Plan MakeFailoverPlan(uint64_t seed);
// As that at any staleness, with drains and joins: no worker fails, so each row is pushed once.
Plan MakeExactPlan(uint64_t seed);

// A failing plan with as few faults as still make it fail, found by leaving them out one after the other.
struct ShrunkPlan {
  Plan plan;
  std::vector<size_t> kept;  // of the plan's faults
  bool quiet = false;        // without the network's faults, lags and skews
};
ShrunkPlan Shrink(const Plan& plan, const std::function<bool(const Plan&)>& fails);
// What is left of a plan: ShrunkPlan.kept and .quiet.
Plan OnlyFaults(const Plan& plan, const std::vector<size_t>& kept, bool quiet);

}  // namespace tidegate::simulation
