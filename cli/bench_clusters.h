#pragma once
// Clusters on this machine whose worker is this process, for as long as it measures them. Only from the main thread.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cli/local_cluster.h"

namespace tidegate::cli {

class BenchClusters {
 public:
  // `bin_dir`: empty: beside this binary. `run_dir` is made, and left behind.
  BenchClusters(std::string bin_dir, std::string run_dir);
  ~BenchClusters();

  // A scheduler and servers with one strand each; waits until the scheduler listens. `config`: text of its job.
  absl::Status Start(const std::string& name, const std::string& config, int servers);
  const LocalCluster& cluster(size_t i) const { return *clusters_[i]->cluster; }
  // Runs `measure` in a thread of its own for as long as the clusters last.
  absl::Status Run(std::function<absl::Status()> measure);

 private:
  struct One {
    std::unique_ptr<Terminal> terminal;
    std::unique_ptr<LocalCluster> cluster;
  };
  bool Step(int timeout_ms);

  const std::string bin_dir_;
  const std::string run_dir_;
  std::vector<std::unique_ptr<One>> clusters_;
};

}  // namespace tidegate::cli
