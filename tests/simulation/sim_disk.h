#pragma once
// The folder of checkpoints, and what else outlives a crash of every process: the messages of the old run
// that are still under way.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "proto/checkpoint.pb.h"
#include "scheduler/cluster_state.h"

namespace tidegate::simulation {

struct SimDisk {
  // By folder, then shard: the sections of its file.
  std::map<std::string, std::map<ShardId, std::vector<std::string>>> shards;
  std::map<uint64_t, ManifestOrder> complete;  // by number
  // What checkers saw: the digest of all shards at their cuts, by number.
  std::map<uint64_t, uint64_t> digest_at_cut;

  std::vector<std::string> old_pushes;  // stream requests, as they came to servers

  // What the job resumed from calls done: (epoch, row).
  std::set<std::pair<uint32_t, uint64_t>> began_done;
  // Of the restore that is under way.
  uint64_t restored_digest = 0;
  size_t restored_strands = 0;
};

}  // namespace tidegate::simulation
