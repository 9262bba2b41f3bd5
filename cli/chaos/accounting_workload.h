#pragma once
// Accounting workers in this process (cli/chaos/accounting_worker.h): every sum is known, so every update is checked.

#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "cli/chaos/accounting_worker.h"
#include "cli/chaos/workload.h"

namespace tidegate::cli {

// How pushes went on: first_ms and all_ms of `reach.led`, elsewhere_ms of `reach.untouched`. What is acknowledged
// within the first few milliseconds was on its way when the fault came.
Recovery RecoveryOfPushes(std::span<const AccountingWorker::Acknowledgement> by_time, const FaultReach& reach, TimeMs since);

// The longest from one acknowledgement of a shard to its next, from `since` to `until`, over `shards`.
TimeMs LongestGapOfPushes(std::span<const AccountingWorker::Acknowledgement> by_time, const std::set<ShardId>& shards, TimeMs since,
                          TimeMs until);

class AccountingWorkload final : public Workload {
 public:
  struct Options {
    std::string scheduler;  // HOST:PORT, or several by commas
    int workers = 2;
    int shards = 32;
    uint64_t seed = 1;
    bool tail_may_be_lost = false;  // durability ASYNC
  };
  struct Totals {
    uint64_t pushes = 0;  // acknowledged
    uint64_t checks = 0;  // reads of own writes
    uint64_t rows = 0;    // audited
    uint64_t lost = 0;    // of `pushes`, with tail_may_be_lost
  };
  explicit AccountingWorkload(Options options) : options_(std::move(options)) {}

  absl::Status Start() override;
  absl::Status Watch() override;
  bool Finished() const override { return false; }
  void ExpectFault() override;
  Recovery RecoveryOf(const FaultReach& reach, TimeMs since) override;
  TimeMs LongestGap(const std::set<ShardId>& shards, TimeMs since) override;
  absl::StatusOr<bool> Audit() override;
  void Stop() override;
  Totals totals() const;

 private:
  void SortByTime();

  const Options options_;
  std::vector<std::unique_ptr<AccountingWorker>> workers_;
  std::vector<AccountingWorker::Acknowledgement> acknowledgements_;  // since the newest fault, by time
  uint64_t rows_ = 0;
};

}  // namespace tidegate::cli
