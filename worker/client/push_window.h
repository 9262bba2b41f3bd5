#pragma once
// Sequences of a worker's pushes: which are acknowledged, and how far ahead the next may be. Servers
// remember as many as the window is wide (server sessions). Not thread-safe.

#include <set>

#include "common/types.h"

namespace tidegate {

class PushWindow {
 public:
  explicit PushWindow(Sequence width) : width_(width) {}

  // The next sequence, from 1. It counts as unacknowledged from here on.
  Sequence Take() {
    unacked_.insert(next_);
    return next_++;
  }
  // May this one be sent now?
  bool MaySend(Sequence sequence) const { return sequence < oldest_unacked() + width_; }
  void Acknowledge(Sequence sequence) { unacked_.erase(sequence); }
  // Everything below is acknowledged.
  Sequence oldest_unacked() const { return unacked_.empty() ? next_ : *unacked_.begin(); }

 private:
  const Sequence width_;
  Sequence next_ = 1;
  std::set<Sequence> unacked_;
};

}  // namespace tidegate
