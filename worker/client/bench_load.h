#pragma once
// What benchmarks over the wire share: a process that joins a job as its only worker, keys, and calls under way.

#include <sys/types.h>
#include <time.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/random.h"
#include "common/rpc/member_link.h"
#include "common/types.h"
#include "proto/table.pb.h"
#include "worker/client/rpc/cluster_client.h"

namespace tidegate {

inline constexpr size_t kBenchBatchKeys = 8192;  // as a worker's message
inline constexpr int kBenchInFlight = 3;

double ClockSeconds(clockid_t clock);
// Of a process's CPU time.
absl::StatusOr<clockid_t> CpuClockOf(pid_t process);
double Median(std::vector<double> values);

// Of a job whose data and model are of no matter: workers join it and declare tables of their own.
// `cluster`: what its `cluster` block says.
std::string BenchJob(const std::string& name, const std::string& cluster);
// One part of `dim` floats by SGD.
TableSpec BenchTable(TableId id, const char* name, uint32_t dim);
// kBenchBatchKeys of them, distinct, in no order, uniform over Mix64(0 .. vocabulary - 1).
std::vector<Key> DistinctKeys(Random* random, uint64_t vocabulary);

// A job's only worker; calls may be made once Join has returned.
class BenchWorker {
 public:
  static absl::StatusOr<std::unique_ptr<BenchWorker>> Join(const std::string& scheduler,
                                                           const std::vector<TableSpec>& tables);
  ClusterClient& client() { return *client_; }
  // The job loses its worker; nothing may be called afterwards.
  void Leave();

 private:
  BenchWorker() = default;
  std::unique_ptr<MemberLink> link_;
  std::unique_ptr<ClusterClient> client_;
};

// Calls under way, each starting the next when it is done, until told to stop.
class BenchLoad {
 public:
  // `start(slot, i, done)` makes the i-th call.
  using Start = std::function<void(int slot, uint64_t i, std::function<void(absl::Status)> done)>;

  explicit BenchLoad(Start start) : start_(std::move(start)) {}
  // Runs until `calls` were made, or for `seconds`; returns how many ended.
  absl::StatusOr<uint64_t> Run(uint64_t calls, double seconds);

 private:
  void Next(int slot);

  const Start start_;
  std::mutex mutex_;
  uint64_t left_ = 0;
  uint64_t ended_ = 0;
  int running_ = 0;
  double deadline_ = 0;
  absl::Status status_;
  std::condition_variable finished_;
};

// Pushes every key of Mix64(0 .. keys - 1) of the table once.
absl::Status FillTable(ClusterClient* client, TableId table, uint32_t width, uint64_t keys);

}  // namespace tidegate
