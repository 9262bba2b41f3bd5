#pragma once
// ShardEngine's insides, shared by its files only: a strand with its group, and what dispatch needs.

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "common/executor/strand.h"
#include "server/replication/inbox.h"
#include "server/rpc/shard_engine.h"
#include "server/shard/message_check.h"
#include "server/shard/shard_group.h"

namespace tidegate {

struct ShardEngine::Lane {
  explicit Lane(int lane_index) : index(lane_index) {}
  uint64_t bit() const { return uint64_t{1} << index; }

  const int index;
  Strand strand;
  // --- on the strand ---
  std::unique_ptr<ShardGroup> group;
  ShardEffects effects;
  ShardMetrics refusals;  // pushes by the strand that refused them first: each counts once
  StrandLog log;          // of the records that this strand has applied of other servers' logs

  // --- replication: what came for the strand, taken by its next task, whoever runs that ---
  std::atomic<bool> has_mail{false};
  std::mutex mail_mutex;
  std::condition_variable mail_came;
  std::deque<absl::AnyInvocable<void(Lane&)>> mail;
  bool mail_wanted = false;  // its thread is to take it: the strand was idle
  bool mail_ends = false;
  std::thread mail_thread;
};

struct ShardEngine::View {
  std::shared_ptr<const TableCatalog> catalog;  // null: not open yet
  Epoch epoch = 0;
  uint32_t shards = 0;                // of the job
  int log2_shards = 0;
  std::vector<ShardId> own;           // all replicas, ascending
  std::vector<ShardId> led;           // of these, as primary
  std::shared_ptr<const Routing> routing;
  std::vector<uint8_t> lane_of_shard; // of the job's shards; those of other servers: 0
};

}  // namespace tidegate
