#include "scheduler/failure_detector.h"

#include <algorithm>

namespace tidegate {

void FailureDetector::Heard(Incarnation member, TimeMs now) {
  TimeMs& at = heard_[member];
  at = std::max(at, now);
}

std::vector<Incarnation> FailureDetector::Tick(TimeMs now) {
  const bool slept = Slept(now);
  if (slept) woke_at_ = now;
  ticked_ = true;
  last_tick_ = now;
  std::vector<Incarnation> silent;
  for (auto& [member, at] : heard_) {
    if (slept) {
      at = std::max(at, now + grace_ms_);
    } else if (now - at > lease_ms_) {
      silent.push_back(member);
    }
  }
  return silent;
}

TimeMs FailureDetector::SilentMs(Incarnation member, TimeMs now) const {
  const auto it = heard_.find(member);
  return it == heard_.end() ? 0 : std::max<TimeMs>(0, now - it->second);
}

}  // namespace tidegate
