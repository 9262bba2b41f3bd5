#pragma once
// A worker that keeps accounts (cli/chaos/accounts.h): a member of the job like any other, which pushes to each
// shard again and again and now and then reads its own writes. Thread-safe; has threads of its own.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/types.h"

namespace tidegate::cli {

class AccountingWorker {
 public:
  struct Options {
    std::string scheduler;  // host:port
    int number = 0;         // distinct among the workers
    uint64_t seed = 1;
    size_t keys_per_shard = 16;
    int interval_ms = 20;   // between two pushes to one shard
    int check_every = 8;    // reads its own writes after so many pushes
    bool tail_may_be_lost = false;  // durability ASYNC: a shard may lack some of its newest pushes, which are counted
    int start_timeout_s = 60;
  };
  struct Acknowledgement {
    TimeMs at = 0;
    ShardId shard = 0;
  };
  struct Counts {
    uint64_t pushes = 0;  // acknowledged
    uint64_t checks = 0;  // reads of own writes
    uint64_t lost = 0;    // of `pushes`, with tail_may_be_lost
  };

  explicit AccountingWorker(Options options);
  ~AccountingWorker();

  // Joins, declares the table, waits for the routing, and begins. The job's error where it fails.
  absl::Status Start();
  // Not OK: the books do not agree, or this worker was removed or refused.
  absl::Status Health() const;
  // Acknowledgements since the last call, in order.
  std::vector<Acknowledgement> TakeAcknowledgements();
  Counts counts() const;
  // No more pushes; waits until all are acknowledged. DEADLINE_EXCEEDED names a shard that does not answer.
  absl::Status Drain(int timeout_s);
  // Reads every account and compares. REQUIRES: drained.
  absl::Status Audit(int timeout_s);
  void Stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidegate::cli
