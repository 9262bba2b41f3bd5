#pragma once
// Who has been silent for longer than a lease. Not thread-safe; the time is told.
//
// After a start, or a gap between two ticks of more than half a lease (this process was paused, or its
// machine slept), members had no chance to be heard: every lease is renewed before anyone is named, and lasts `return_ms`
// at least: so long it may take until a member tries again.

#include <map>
#include <vector>

#include "common/types.h"

namespace tidegate {

class FailureDetector {
 public:
  explicit FailureDetector(TimeMs lease_ms, TimeMs return_ms = 0)
      : lease_ms_(lease_ms), grace_ms_(return_ms > lease_ms ? return_ms - lease_ms : 0) {}

  void Heard(Incarnation member, TimeMs now);
  void Forget(Incarnation member) { heard_.erase(member); }
  // Members whose lease has run out, ascending. They stay until they are forgotten.
  std::vector<Incarnation> Tick(TimeMs now);
  TimeMs SilentMs(Incarnation member, TimeMs now) const;
  // It began or slept, and since then not `ms` have passed in which those that live could be heard.
  bool Wakes(TimeMs now, TimeMs ms) const { return Slept(now) || now - woke_at_ < ms; }

 private:
  bool Slept(TimeMs now) const { return !ticked_ || now - last_tick_ > lease_ms_ / 2; }

  const TimeMs lease_ms_;
  const TimeMs grace_ms_;  // beyond a lease
  bool ticked_ = false;
  TimeMs last_tick_ = 0;
  TimeMs woke_at_ = 0;
  std::map<Incarnation, TimeMs> heard_;
};

}  // namespace tidegate
