#pragma once
// Bookkeeping of whole numbers, to be kept by a cluster under faults. An account is one worker's keys of one
// shard: a push adds small whole numbers to some of them, by SGD with rate 1, so that a row is exactly minus
// the sum of what was pushed, and a lost or a doubled push shows. Not thread-safe.

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "common/random.h"
#include "common/types.h"
#include "proto/table.pb.h"

namespace tidegate::cli {

inline constexpr TableId kAccountsTable = 0;
inline constexpr uint32_t kAccountDim = 2;

// The table of accounts.
TableSpec AccountsSpec();

class Account {
 public:
  // `count` keys of the shard that no other worker's account has.
  Account(int worker, ShardId shard, int log2_shards, size_t count);

  struct Batch {
    std::vector<Key> keys;
    std::vector<float> gradients;  // [keys, kAccountDim]
  };
  ShardId shard() const { return shard_; }
  std::span<const Key> keys() const { return keys_; }
  uint64_t pushes() const { return pushes_; }  // acknowledged

  // What to push next. REQUIRES: nothing is outstanding.
  Batch NextPush(Random* random);
  bool outstanding() const { return outstanding_; }
  void Acknowledged();
  // Compares rows [keys(), kAccountDim] with the books; empty: they agree. REQUIRES: nothing is outstanding.
  std::string Check(std::span<const float> rows) const;
  // Where the rows lack some of the last kRemembered pushes, one after another and whole: takes these out of the books and
  // returns how many. 0: that does not explain the rows, or nothing is missing.
  uint64_t WriteOff(std::span<const float> rows);

  static constexpr size_t kRemembered = 64;

 private:
  const ShardId shard_;
  std::vector<Key> keys_;
  std::vector<int64_t> sums_;     // [keys, kAccountDim]
  std::vector<int64_t> pending_;  // of the push that is outstanding
  std::deque<std::vector<int64_t>> newest_;  // amounts of the last pushes
  bool outstanding_ = false;
  uint64_t pushes_ = 0;
};

}  // namespace tidegate::cli
