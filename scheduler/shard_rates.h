#pragma once
// How many rows a second are pulled from and pushed to each shard, from the totals that servers report. Soft state,
// exponentially weighted. Not thread-safe.

#include <cstdint>
#include <span>
#include <vector>

#include "common/types.h"
#include "proto/cluster.pb.h"

namespace tidegate {

class ShardRates {
 public:
  // Totals of `server`, for the shards of `table` that it leads; others are passed over.
  void Take(TimeMs now, Incarnation server, const ShardLoads& loads, const RoutingTable& table);
  // By shard; 0: nothing known.
  std::span<const double> rates() const { return rates_; }
  double total() const;
  // Every shard's primary has reported it for some seconds, and lately.
  bool Known(TimeMs now, const RoutingTable& table) const;

 private:
  struct Source {
    Incarnation server = 0;  // primary that reported last
    Epoch since = 0;         // it is the primary
    uint64_t rows = 0;
    TimeMs at = 0;
    uint32_t windows = 0;    // of this primary
  };
  std::vector<Source> sources_;
  std::vector<double> rates_;
  std::vector<char> seen_;  // there is a rate
};

}  // namespace tidegate
