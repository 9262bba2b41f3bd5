#pragma once
// Staleness 0: holds the contributions of the clocks to come until every live worker's is complete.
// A contribution is one worker's pushes of one clock, in numbered parts. Knows nothing of tables.
// A core without I/O; not thread-safe.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "common/types.h"
#include "server/shard/clock_table.h"
#include "server/shard/shard_messages.h"

namespace tidegate {

class SyncAggregator {
 public:
  // Pushes of clocks beyond applied + this are refused until the clock has moved on.
  static constexpr Clock kMaxAhead = 4;

  struct Held {
    PushCall call;
    std::vector<ShardId> refused_shards;
    uint64_t reserved_bytes = 0;  // that its new rows may take
    bool wanted = true;           // somebody waits for the answer
  };
  // The contributions of one clock, in the order in which they are added: worker, then part.
  struct Contributions {
    Clock clock = 0;
    double weight = 0;  // sum over the workers
    std::vector<Held> pushes;
  };

  // Already applied: nothing of it must be applied again.
  static bool IsDuplicate(Clock clock, Clock applied) { return clock <= applied; }

  // Whether Add would take the push. UNAVAILABLE: too far ahead. INVALID_ARGUMENT: parts or weight
  // differ from those of another part. REQUIRES: !IsDuplicate.
  absl::Status Check(const wire::PushRequest& push, Clock applied) const;
  // Holds the push. A part that is held already is the same push sent again: the new call takes its
  // place, and the token of the old is returned if somebody waits for it. REQUIRES: Check is OK.
  std::optional<CallToken> Add(Held push);

  // True when each live worker (and there is one) has ended `clock`: by a complete contribution or,
  // without any part of one, by its announced clock.
  bool Ready(Clock clock, const ClockTable& clocks) const;
  // Takes the contributions of `clock` out.
  Contributions Take(Clock clock);
  // Takes out everything of a worker that has left.
  std::vector<Held> Discard(Incarnation worker);
  std::vector<Held> DiscardAll();
  bool Cancel(CallToken token);

  size_t held() const { return held_; }  // pushes
  uint64_t reserved_bytes() const { return reserved_bytes_; }

 private:
  struct Contribution {
    uint32_t parts = 1;
    double weight = 0;
    std::map<uint32_t, Held> pushes;  // by part
    bool Complete() const { return pushes.size() == parts; }
  };
  using ByClock = std::map<std::pair<Clock, Incarnation>, Contribution>;
  ByClock::iterator TakeInto(ByClock::iterator it, std::vector<Held>* out);

  ByClock contributions_;
  size_t held_ = 0;
  uint64_t reserved_bytes_ = 0;
};

}  // namespace tidegate
