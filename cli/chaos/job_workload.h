#pragma once
// A job of one's own with worker processes: it must come to its end, whatever is done to its cluster meanwhile.
// How it goes on is seen by the samples that its status counts, so to within a few heartbeats.

#include <string>

#include "cli/chaos/chaos_cluster.h"
#include "cli/chaos/workload.h"

namespace tidegate::cli {

class JobWorkload final : public Workload {
 public:
  struct Options {
    int start_timeout_s = 60;
    int heartbeat_interval_ms = 250;
  };
  // `cluster` outlives this.
  JobWorkload(ChaosCluster* cluster, Options options) : cluster_(cluster), options_(options) {}

  absl::Status Start() override;
  absl::Status Watch() override;
  bool Finished() const override { return finished_; }
  void ExpectFault() override {}
  Recovery RecoveryOf(const FaultReach& reach, TimeMs since) override;
  TimeMs LongestGap(const std::set<ShardId>&, TimeMs) override { return -1; }
  absl::StatusOr<bool> Audit() override;
  void Stop() override {}
  // Of the newest status: "epoch 3 of 3, 288609 samples, valid/click/auc 0.9712".
  std::string Text() const;

 private:
  void Ask(TimeMs now);

  ChaosCluster* const cluster_;
  const Options options_;
  GetStatusResponse status_;
  TimeMs asked_ = 0;
  TimeMs risen_ = 0;     // when samples last were seen to have risen
  bool finished_ = false;
};

}  // namespace tidegate::cli
