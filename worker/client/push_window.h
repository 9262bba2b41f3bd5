#pragma once
// Sequences of a worker's pushes: which are not acknowledged where, and how far ahead of them the next may
// be. Servers remember as many for each shard as the window is wide (server sessions). Not thread-safe.
//
// A message to a server may name as the oldest the oldest that this server owes an answer to, so one server
// that is silent does not hold up the others. That is sound while a message counts where it may be applied: one
// that was cut by older primaries, or has no server, may come to any, and counts everywhere.

#include <algorithm>
#include <map>
#include <set>

#include "common/types.h"

namespace tidegate {

class PushWindow {
 public:
  static constexpr Incarnation kEverywhere = 0;

  explicit PushWindow(Sequence width) : width_(width) {}

  // The next sequence, from 1.
  Sequence Take() { return next_++; }
  // A message with this sequence is not acknowledged, and counts at `server`.
  void Add(Incarnation server, Sequence sequence) { open_[server].insert(sequence); }
  // It is, or counts elsewhere from now on. REQUIRES: it was added there.
  void Remove(Incarnation server, Sequence sequence) {
    const auto at = open_.find(server);
    at->second.erase(at->second.find(sequence));
    if (at->second.empty()) open_.erase(at);
  }
  // Everything below is acknowledged by the server; kEverywhere: by all.
  Sequence OldestUnacked(Incarnation server) const {
    if (server != kEverywhere) return std::min(OldestAt(server), OldestAt(kEverywhere));
    Sequence oldest = next_;
    for (const auto& [at, sequences] : open_) oldest = std::min(oldest, *sequences.begin());
    return oldest;
  }
  // May this one be sent there now?
  bool MaySend(Incarnation server, Sequence sequence) const { return sequence < OldestUnacked(server) + width_; }

 private:
  Sequence OldestAt(Incarnation server) const {
    const auto at = open_.find(server);
    return at == open_.end() ? next_ : *at->second.begin();
  }

  const Sequence width_;
  Sequence next_ = 1;
  std::map<Incarnation, std::multiset<Sequence>> open_;
};

}  // namespace tidegate
