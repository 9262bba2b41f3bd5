#pragma once
// Exactly once: what each shard of a strand remembers of each worker incarnation's pushes. Below
// `floor` everything is a duplicate (the worker says which of its pushes are acknowledged); from there
// on a bitmap as wide as the worker's in-flight limit. A core without I/O; not thread-safe.

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "common/types.h"
#include "proto/checkpoint.pb.h"

namespace tidegate {

// A worker has at most so many pushes that are not acknowledged: sequence - oldest_unacked is below it.
inline constexpr Sequence kSessionWindow = 64;

class ShardSession {
 public:
  bool IsDuplicate(Sequence sequence) const {
    if (sequence < floor_) return true;
    const Sequence distance = sequence - floor_;
    return distance < kSessionWindow && ((applied_ >> distance) & 1) != 0;
  }
  // The worker's pushes below `floor` are acknowledged. Never goes back.
  void RaiseFloor(Sequence floor) {
    if (floor <= floor_) return;
    const Sequence shift = floor - floor_;
    applied_ = shift < kSessionWindow ? applied_ >> shift : 0;
    floor_ = floor;
  }
  // REQUIRES: !IsDuplicate(sequence), and within the window.
  void MarkApplied(Sequence sequence) { applied_ |= uint64_t{1} << (sequence - floor_); }
  // In the bitmap: applied, not only passed over.
  bool IsMarked(Sequence sequence) const { return sequence >= floor_ && IsDuplicate(sequence); }
  bool InWindow(Sequence sequence) const { return sequence < floor_ + kSessionWindow; }
  void Restore(Sequence floor, uint64_t applied) {
    floor_ = floor;
    applied_ = applied;
  }
  bool empty() const { return floor_ == 1 && applied_ == 0; }
  Sequence floor() const { return floor_; }
  uint64_t applied() const { return applied_; }

 private:
  Sequence floor_ = 1;
  uint64_t applied_ = 0;  // bit i: floor_ + i
};

class Sessions {
 public:
  // Local shards are 0 .. shards - 1; never fewer than before.
  void SetShards(size_t shards) {
    shards_ = shards;
    followed_.resize(shards, 0);
  }
  // What a followed shard remembers leaves only as its primary says (DropIn).
  void SetFollowed(size_t shard, bool followed) { followed_[shard] = followed ? 1 : 0; }

  // The sessions of a worker with every shard, made if new.
  std::span<ShardSession> Of(Incarnation worker);
  bool Has(Incarnation worker) const { return sessions_.contains(worker); }
  bool IsMarked(Incarnation worker, size_t shard, Sequence sequence) const;
  // In all shards but the followed.
  void Drop(Incarnation worker);
  void DropIn(Incarnation worker, size_t shard);
  // Forgets everything of a shard, and then loads what a header says of it.
  void Clear(size_t shard);
  void Load(size_t shard, const ShardFileHeader& header);
  size_t size() const { return sessions_.size(); }
  // What the shard remembers of each worker that pushed to it, by incarnation.
  void AppendRecords(size_t shard, ShardFileHeader* header) const;
  // Incarnations with a session, ascending.
  std::vector<Incarnation> Workers() const;

  // For each shard with touched[i] != 0 sets skip[i] to whether the push is a duplicate there; returns
  // how many are. INVALID_ARGUMENT where the sequence lies beyond the window. Changes no session: those of
  // equal logs are equal.
  static absl::Status FindDuplicates(std::span<const ShardSession> session, Sequence sequence,
                                     Sequence oldest_unacked, std::span<const uint8_t> touched,
                                     std::span<uint8_t> skip, size_t* duplicates);
  // Marks the push as applied where touched and not skipped. REQUIRES: FindDuplicates was OK with it.
  static void MarkApplied(std::span<ShardSession> session, Sequence sequence, Sequence oldest_unacked,
                          std::span<const uint8_t> touched, std::span<const uint8_t> skip);

 private:
  size_t shards_ = 0;
  std::vector<uint8_t> followed_;
  std::map<Incarnation, std::vector<ShardSession>> sessions_;
};

}  // namespace tidegate
