#pragma once
// Routing: shard -> primary server. An immutable value made from the scheduler's proto; share it by
// shared_ptr<const Routing>. Thread-safe (const only).

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/stable_hash.h"
#include "common/types.h"
#include "proto/cluster.pb.h"

namespace tidegate {

class Routing {
 public:
  struct Server {
    Incarnation incarnation;
    std::string address;
  };

  // INVALID_ARGUMENT when shards is no power of two in [1, 65536], when primary has another length,
  // or names a server that `servers` lacks.
  static absl::StatusOr<Routing> FromProto(const RoutingTable& table);

  Epoch epoch() const { return epoch_; }
  uint32_t shards() const { return static_cast<uint32_t>(server_of_shard_.size()); }
  int log2_shards() const { return log2_shards_; }
  // Distinct servers that are primary of something, in order of incarnation.
  const std::vector<Server>& servers() const { return servers_; }
  // Index into servers() of the primary.
  uint32_t ServerOfShard(ShardId shard) const { return server_of_shard_[shard]; }
  uint32_t ServerOfHash(uint64_t placement_hash) const {
    return server_of_shard_[ShardOfHash(placement_hash, log2_shards_)];
  }
  // Shards whose primary is `incarnation`, ascending; empty if none.
  std::vector<ShardId> ShardsOf(Incarnation incarnation) const;

 private:
  Epoch epoch_ = 0;
  int log2_shards_ = 0;
  std::vector<uint32_t> server_of_shard_;
  std::vector<Server> servers_;
};

}  // namespace tidegate
