#pragma once
// The right to serve pulls, at the follower: a grant answers a request of a primary and runs from when that was
// sent. A server that is promoted waits until the last grant that it gave to its predecessor has run out.
// A core without I/O; not thread-safe.

#include "absl/container/flat_hash_map.h"
#include "common/routing_table.h"
#include "common/types.h"

namespace tidegate {

class GivenGrants {
 public:
  explicit GivenGrants(TimeMs grant_ms) : grant_ms_(grant_ms) {}

  // Whether the request of this primary, made with a table of `epoch`, is granted; remembered then. Not where our
  // table is newer: it may have deposed the primary.
  bool Give(Incarnation primary, Epoch epoch, TimeMs now);
  // From now on requests made with an older table than `next` are not granted. Returns until when a predecessor of
  // this server may serve a shard that `next` gives it to lead and `old` (null: none) did not; 0: none does. One that
  // was handed over nobody serves.
  TimeMs TakeRouting(const Routing* old, const Routing& next, Incarnation self);

  Epoch epoch() const { return epoch_; }

 private:
  // By this server's clock, with room for clocks that do not run quite alike.
  TimeMs EndOf(TimeMs given) const { return given + grant_ms_ + grant_ms_ / 20 + 5; }

  const TimeMs grant_ms_;
  Epoch epoch_ = 0;
  absl::flat_hash_map<Incarnation, TimeMs> given_;  // last
};

}  // namespace tidegate
