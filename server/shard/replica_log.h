#pragma once
// The log of a strand's led shards, as far as it is about who has what: the followers, how far each has
// acknowledged its records, and the pushes whose answers wait for that. What a follower must have is what the
// set that may be promoted is taken from: an acknowledgement waits for those that follow one of the push's shards as
// - kFilled: filled, the scheduler has not recorded it yet; always;
// - kBackup: recorded; with durability SYNC. Without it what it lacks is bounded by the window alone.
// A core without I/O; not thread-safe.

#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "common/types.h"
#include "server/shard/shard_messages.h"

namespace tidegate {

enum class Follows : uint8_t { kNot, kFilling, kFilled, kBackup };

class ReplicaLog {
 public:
  struct Follower {
    Incarnation server = 0;
    bool active = false;  // follows a shard
    uint64_t last = 0;    // index of the newest record
    uint64_t acked = 0;
    size_t unacked_bytes = 0;
    TimeMs granted_until = std::numeric_limits<TimeMs>::min();
    std::vector<Follows> follows;                    // by local shard
    std::deque<std::pair<uint64_t, size_t>> unacked;  // index, bytes
  };

  // A record of a follower's.
  struct Place {
    Incarnation follower = 0;
    uint64_t index = 0;
  };

  // `window_records`: 0: by bytes alone.
  ReplicaLog(bool durable, size_t window_bytes, size_t window_records = 0)
      : durable_(durable), window_bytes_(window_bytes), window_records_(window_records) {}

  // False: no shard has a follower, and nothing of this class is to be asked.
  bool any() const { return active_; }
  bool durable() const { return durable_; }
  // All that ever followed, by the order they came in: indices go on where one follows again.
  std::span<Follower> followers() { return followers_; }
  std::span<const Follower> followers() const { return followers_; }
  const Follower* Find(Incarnation server) const;

  // --- who follows (a newer routing table, a fill that ended) ---
  void SetEpoch(Epoch epoch) { epoch_ = epoch; }  // of records from now on
  void Resize(size_t shards);
  void Set(Incarnation server, uint32_t local, Follows follows);
  Follows Get(Incarnation server, uint32_t local) const;
  // After changes: what waited for a replica alone that is not waited for any more is answered.
  void Settle(ShardEffects* effects);
  // Answers what waits and touched one of these shards: they are led here no more.
  void FailHeld(std::span<const uint8_t> left, const absl::Status& status, ShardEffects* effects);

  // --- records ---
  // Returns the record's index.
  uint64_t Append(Follower* follower, wire::Record body, std::shared_ptr<const void> owner, size_t bytes,
                  ShardEffects* effects);
  // More than a window is unacknowledged at a follower of these shards.
  bool WindowFull(std::span<const uint8_t> touched) const;
  bool HasRoom(const Follower& follower) const { return follower.unacked_bytes < window_bytes_ / 2; }
  void Acknowledged(Incarnation server, uint64_t index, ShardEffects* effects);
  // The newest record of each follower of the shard that has not acknowledged it.
  std::vector<Place> Unacknowledged(uint32_t local) const;
  // The follower has the record, or follows the shard no more.
  bool IsPassed(const Place& place, uint32_t local) const;
  // Answers a push when everything so far is where it must be.
  void Finish(PushDone done, std::span<const uint8_t> touched, ShardEffects* effects);
  bool Cancel(CallToken token);
  size_t held() const { return held_.size(); }

  // --- grants ---
  void SetGrant(Incarnation server, TimeMs until);
  // Pulls of these shards may be served until then; `missing`: who ends it.
  TimeMs GrantedUntil(std::span<const uint8_t> touched, Incarnation* missing) const;

 private:
  struct Wait {
    size_t follower;
    uint64_t index;
  };
  struct Held {
    PushDone done;
    std::vector<uint32_t> touched;
    absl::InlinedVector<Wait, 2> waits;
  };
  bool MustHave(Follows follows) const {
    return follows == Follows::kFilled || (follows == Follows::kBackup && durable_);
  }
  bool MustHave(const Held& held, const Follower& follower) const;
  // Drops the waits for which `over` is true, and answers what waits for nothing more.
  template <typename Over>
  void Release(const Over& over, ShardEffects* effects);

  const bool durable_;
  const size_t window_bytes_;
  const size_t window_records_;
  bool active_ = false;
  Epoch epoch_ = 0;
  size_t shards_ = 0;
  std::vector<Follower> followers_;
  std::vector<Held> held_;  // in order of arrival
};

}  // namespace tidegate
