#pragma once
// Routing: shard -> primary server, and the servers that follow it. An immutable value made from the scheduler's proto; share it by
// shared_ptr<const Routing>. Thread-safe (const only).

#include <cstdint>
#include <span>
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

  // INVALID_ARGUMENT when shards is no power of two in [1, 65536], when primary, backups, joining, successor or an
  // epoch of shards have another length, or name a server that `servers` lacks, or one shard's server twice; when a
  // successor is no backup, or its shard is being filled elsewhere; when a shard was drained after it was handed over.
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

  // --- replicas (docs/decisions/0010-replication.md) ---
  // All servers that hold a replica, by incarnation: who hears clocks.
  const std::vector<Server>& members() const { return members_; }
  Incarnation PrimaryOf(ShardId shard) const { return servers_[server_of_shard_[shard]].incarnation; }
  // In sync, in the order of promotion.
  std::span<const Incarnation> BackupsOf(ShardId shard) const;
  // Is being filled; 0: none.
  Incarnation JoiningOf(ShardId shard) const;
  // The backup that is to lead it when its primary has drained its log; 0: none.
  Incarnation SuccessorOf(ShardId shard) const;
  // When its primary became that; 0 in tables that do not say.
  Epoch ShardEpoch(ShardId shard) const;
  // The primary before had drained its log then and served nothing any more: all backups were equal to it.
  bool WasHandedOver(ShardId shard) const;
  Epoch primary_epoch() const { return primary_epoch_; }
  uint64_t worker_set_version() const { return worker_set_version_; }
  // Shards of which it is primary, backup or joining, ascending.
  std::vector<ShardId> ReplicasOf(Incarnation incarnation) const;

 private:
  Epoch epoch_ = 0;
  int log2_shards_ = 0;
  std::vector<uint32_t> server_of_shard_;
  std::vector<Server> servers_;
  std::vector<Server> members_;
  std::vector<uint32_t> backups_begin_;   // shards + 1 offsets into backups_; empty: no backups
  std::vector<Incarnation> backups_;
  std::vector<Incarnation> joining_;
  std::vector<Incarnation> successor_;
  std::vector<Epoch> shard_epoch_;
  std::vector<Epoch> drained_epoch_;
  Epoch primary_epoch_ = 0;
  uint64_t worker_set_version_ = 0;
};

}  // namespace tidegate
