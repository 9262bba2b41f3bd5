#pragma once
// What goes into a ShardGroup and what comes out of it, apart from control inputs.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "common/types.h"
#include "common/wire/replica_wire.h"
#include "common/wire/shard_wire.h"

namespace tidegate {

// Names a call for its caller; given back in its effect exactly once. Distinct among calls that are
// not answered yet.
using CallToken = uint64_t;

// Which keys of a message are a strand's: for each table of the message, indices into its keys,
// ascending. `all`: every key (a server with one strand). A key of a shard that no strand of the
// server has goes to any one strand, which names it in refused_shards.
struct KeySelection {
  bool all = true;
  absl::InlinedVector<std::span<const uint32_t>, 4> positions;  // by table of the message

  std::span<const uint32_t> Of(size_t table_index) const {
    return all ? std::span<const uint32_t>() : positions[table_index];
  }
  size_t Count(size_t table_index, size_t keys) const {
    return all ? keys : positions[table_index].size();
  }
};

// `owner` keeps the bytes that `request` views, and the positions, for as long as the group holds it.
// REQUIRES: the request has passed CheckPull / CheckPush (message_check.h).
struct PullCall {
  CallToken token = 0;
  wire::PullRequest request;
  KeySelection selection;
  std::shared_ptr<const void> owner;
};
struct PushCall {
  CallToken token = 0;
  wire::PushRequest request;
  KeySelection selection;
  std::shared_ptr<const void> owner;
};

// A strand's share of an answer. The server's answer, when several strands worked on a call: the
// first status that is not OK, else the lowest min_clock (kHello: the highest), all refused shards,
// the sum of the duplicate rows.
struct PullDone {
  CallToken token = 0;
  absl::Status status;
  Clock min_clock = 0;
  std::vector<ShardId> refused_shards;  // ascending
  // The rows may be given out if they were read before this time: look at the clock once more. Later: UNAVAILABLE.
  TimeMs valid_until = std::numeric_limits<TimeMs>::max();
};
struct ShardMetrics;
struct ShardLoad {
  ShardId shard = 0;
  uint64_t rows_total = 0;  // pulled and pushed since the shard is on this strand
  uint64_t bytes = 0;       // in memory
};
struct PushDone {
  CallToken token = 0;
  absl::Status status;
  std::vector<ShardId> refused_shards;
  uint64_t duplicate_rows = 0;
  uint64_t ShardMetrics::*refusal = nullptr;  // refused whole: where the strand has counted it
  // To one that asks (train.drop_slowest):
  std::vector<Incarnation> contributors = {};  // ascending
  Clock closed = 0;
};
struct ClockDone {
  CallToken token = 0;
  absl::Status status;
  Clock min_clock = 0;
};
// An entry of the strand's log for one follower. Indices are 1, 2, 3, ... for each follower, also across a time
// in which it follows nothing.
struct OutRecord {
  Incarnation follower = 0;
  uint64_t index = 0;
  wire::Record body;
  std::shared_ptr<const void> owner;  // of what `body` views
  size_t bytes = 0;                   // about, of what is kept until the acknowledgement
  Epoch epoch = 0;                    // of the table that it follows from: a follower with an older one may not take it
};
// The replica is filled and is waited for: the scheduler may record it.
struct ReplicaInSync {
  ShardId shard = 0;
  Incarnation server = 0;
};
struct ShardEffects {
  std::vector<PullDone> pulls;
  std::vector<PushDone> pushes;
  std::vector<ClockDone> clocks;
  std::vector<OutRecord> records;      // to be sent in this order
  std::vector<ReplicaInSync> in_sync;
  std::vector<ShardId> diverged;       // of a follower: has to be filled anew
  std::vector<ShardId> drained;        // of those with a successor: all replicas are equal, and nothing is served here

  bool empty() const {
    return pulls.empty() && pushes.empty() && clocks.empty() && records.empty() && in_sync.empty() &&
           diverged.empty() && drained.empty();
  }
  void Clear() {
    pulls.clear();
    pushes.clear();
    clocks.clear();
    records.clear();
    in_sync.clear();
    diverged.clear();
    drained.clear();
  }
};

// Where a released pull writes its rows: asked at release, so that a parked pull holds no memory.
class RowSink {
 public:
  virtual ~RowSink() = default;
  // The bytes of all rows of table `table_index` of the call's request: keys x width x SizeOf(type),
  // also where the strand fills some of them only. Empty: nobody waits for the rows any more.
  virtual std::span<std::byte> RowsOf(CallToken token, size_t table_index) = 0;
};

// Plain counters of one strand, since its start.
struct ShardMetrics {
  static constexpr size_t kStalenessBuckets = 33;  // 0 .. 31, last: above

  uint64_t pulled_rows = 0;
  uint64_t pushed_rows = 0;     // applied or, at staleness 0, accepted
  uint64_t duplicate_rows = 0;
  uint64_t duplicate_pushes = 0;
  uint64_t pushes_refused_generation = 0;
  uint64_t pushes_refused_rejoin = 0;
  uint64_t pushes_refused_routing = 0;  // newer than ours, or not announced
  uint64_t pushes_refused_memory = 0;
  uint64_t pushes_refused_other = 0;
  uint64_t pulls_parked = 0;    // ever
  uint64_t pulls_replaced = 0;
  uint64_t clocks_applied = 0;  // staleness 0
  uint64_t swept_rows = 0;
  uint64_t pulls_without_grant = 0;
  uint64_t records_applied = 0;       // of other servers' logs
  uint64_t digest_mismatches = 0;
  uint64_t staleness[kStalenessBuckets] = {};  // of released TRAIN pulls: clock - 1 - min_clock

  uint64_t pushes_refused() const {
    return pushes_refused_generation + pushes_refused_rejoin + pushes_refused_routing +
           pushes_refused_memory + pushes_refused_other;
  }
};

}  // namespace tidegate
