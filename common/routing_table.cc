#include "common/routing_table.h"

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"

namespace tidegate {

absl::StatusOr<Routing> Routing::FromProto(const RoutingTable& table) {
  const uint32_t shards = table.shards();
  if (!std::has_single_bit(shards) || shards > 65536) {
    return absl::InvalidArgumentError(
        absl::StrCat("routing table with ", shards, " shards: must be a power of two up to 65536"));
  }
  if (static_cast<uint32_t>(table.primary_size()) != shards) {
    return absl::InvalidArgumentError(absl::StrCat("routing table names ", table.primary_size(),
                                                   " primaries for ", shards, " shards"));
  }
  Routing out;
  out.epoch_ = table.epoch();
  out.log2_shards_ = std::countr_zero(shards);
  for (const Member& m : table.servers()) out.servers_.push_back({m.incarnation(), m.address()});
  std::sort(out.servers_.begin(), out.servers_.end(),
            [](const Server& a, const Server& b) { return a.incarnation < b.incarnation; });
  out.server_of_shard_.reserve(shards);
  for (Incarnation primary : table.primary()) {
    auto it = std::lower_bound(
        out.servers_.begin(), out.servers_.end(), primary,
        [](const Server& a, Incarnation b) { return a.incarnation < b; });
    if (it == out.servers_.end() || it->incarnation != primary) {
      return absl::InvalidArgumentError(
          absl::StrCat("routing table names primary ", primary, " that is no server of it"));
    }
    out.server_of_shard_.push_back(static_cast<uint32_t>(it - out.servers_.begin()));
  }
  return out;
}

std::vector<ShardId> Routing::ShardsOf(Incarnation incarnation) const {
  std::vector<ShardId> out;
  for (ShardId s = 0; s < shards(); ++s) {
    if (servers_[server_of_shard_[s]].incarnation == incarnation) out.push_back(s);
  }
  return out;
}

}  // namespace tidegate
