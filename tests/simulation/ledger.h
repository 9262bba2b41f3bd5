#pragma once
// What checkers know of every push: what it was to change, and what of it the servers' tables show. Filled by
// the exactly-once checker, read by the others after it.

#include <map>
#include <set>
#include <utility>
#include <vector>

#include "tests/simulation/checker.h"

namespace tidegate::simulation {

using RowAt = std::pair<TableId, Key>;

struct Ledger {
  struct Entry {
    PushIssued push;
    bool acknowledged = false;
    bool dropped = false;
    std::set<RowAt> applied;
  };
  std::map<std::pair<Incarnation, uint64_t>, Entry> pushes;  // by number
  // A worker that parks and comes back may use a clock again.
  std::map<std::pair<Incarnation, Clock>, uint64_t> newest_of_clock;
  std::map<std::pair<Incarnation, Sequence>, uint64_t> number_of_sequence;
  // Replicated: (shard, clock) of pushes that a primary applied in the call that is being looked at.
  std::vector<std::pair<ShardId, Clock>> shards_applied_now;
  // Of the call into a group that is being looked at.
  std::vector<std::pair<Incarnation, Clock>> applied_now;
  // Staleness 0: whose contributions an update held, by clock.
  std::map<std::pair<int, int>, std::map<Clock, std::set<Incarnation>>> contributors;
  // Replicated, by checkpoint and shard: what its cut holds.
  struct ShardInCut {
    Clock clock = 0;
    std::map<RowAt, std::set<std::pair<Incarnation, uint64_t>>> content;  // staleness > 0: of pushes
  };
  std::map<std::pair<uint64_t, ShardId>, ShardInCut> cuts;
  bool workers_failed = false;

  // False: the worker has a push of this clock under way.
  bool Add(const PushIssued& push);
  void AddSequence(Incarnation worker, Sequence sequence, Clock clock);
  Entry& EntryOf(Incarnation worker, Sequence sequence) {
    return pushes.at({worker, number_of_sequence.at({worker, sequence})});
  }
};

std::unique_ptr<Checker> MakeExactlyOnceChecker(const Plan* plan, Report* report, Ledger* ledger);
// Of replicated clusters, in place of it.
std::unique_ptr<Checker> MakeReplicaChecker(const Plan* plan, Report* report, Ledger* ledger);
std::unique_ptr<Checker> MakeFailoverChecker(const Plan* plan, Report* report, const Ledger* ledger);
std::unique_ptr<Checker> MakeStalenessChecker(const Plan* plan, Report* report, const Ledger* ledger);
std::unique_ptr<Checker> MakeWorkChecker(const Plan* plan, Report* report, Ledger* ledger, const SimDisk* disk);
std::unique_ptr<Checker> MakeCheckpointChecker(const Plan* plan, Report* report, const Ledger* ledger, SimDisk* disk);
std::unique_ptr<Checker> MakeSchedulerChecker(const Plan* plan, Report* report);
std::unique_ptr<Checker> MakeDropChecker(const Plan* plan, Report* report, Ledger* ledger);
std::unique_ptr<Checker> MakeBoundsChecker(const Plan* plan, Report* report);

}  // namespace tidegate::simulation
