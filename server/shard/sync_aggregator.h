#pragma once
// Staleness 0: holds the contributions of the clocks to come until every live worker's is complete.
// A contribution is one worker's pushes of one clock, in numbered parts. Knows nothing of tables.
//
// With train.drop_slowest a clock is made of some of the contributions, the same in all shards: where shard 0 is led they
// are chosen (docs/decisions/0013-drop-slowest.md), and the others are dropped.
// A core without I/O; not thread-safe.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock_limit.h"
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
    std::vector<Held> dropped;
  };
  using Workers = std::vector<Incarnation>;  // ascending

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

  // --- drop_slowest ---
  // Where shard 0 is led: whose contributions make up `clock`, once all but `drop_slowest` of the live workers that have
  // not ended it otherwise are here whole, at least one of them with data. Those without data do not count as slow ones'
  // substitutes: whoever is missing then may have some.
  std::optional<Workers> Choose(Clock clock, const ClockTable& clocks, uint32_t drop_slowest) const;
  // True when nothing of these, which were chosen, is missing that may come.
  bool AllHere(Clock clock, const Workers& contributors, const ClockTable& clocks) const;
  bool Holds(Clock clock) const;
  // Takes the contributions of `clock` out, apart from the others'.
  Contributions Take(Clock clock, const Workers& contributors);

  // Takes out everything of a worker that has left, or what it has up to a clock.
  std::vector<Held> Discard(Incarnation worker, Clock last = kClockLimit);
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
