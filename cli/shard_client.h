#pragma once
// Questions to a running job's scheduler and servers as a guest (docs/wire.md). Functions only.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/types.h"
#include "proto/cluster.pb.h"
#include "proto/table.pb.h"

namespace tidegate::cli {

struct ClusterRouting {
  RoutingTable routing;
  std::vector<TableSpec> tables;
};

// FAILED_PRECONDITION: the job has no tables or no servers yet.
absl::StatusOr<ClusterRouting> FetchRouting(const std::string& scheduler);
// One row as an evaluation would see it, all parts, float32.
absl::StatusOr<std::vector<float>> PullRow(const std::string& server, TableId table, Key key);

}  // namespace tidegate::cli
