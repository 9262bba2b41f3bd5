#pragma once
// Keeps etcd's history short: every write of the state leaves the one before it behind, until etcd's quota is full.
// At each turn compacts to the revision of the turn before, so that what is that old can still be read. Concerns all
// keys of that etcd. Not thread-safe.

#include <cstdint>

#include "common/types.h"
#include "scheduler/store/etcd.h"

namespace tidegate {

class EtcdCompaction {
 public:
  // `every_ms` 0: never.
  EtcdCompaction(Etcd* etcd, TimeMs every_ms) : etcd_(etcd), every_ms_(every_ms) {}

  // Its errors: another turn will do.
  absl::Status Tick(TimeMs now) {
    if (every_ms_ == 0 || now < next_) return absl::OkStatus();
    next_ = now + every_ms_;
    const auto newest = etcd_->Revision();
    if (!newest.ok()) return newest.status();
    if (last_ != 0) {
      if (absl::Status s = etcd_->Compact(last_); !s.ok()) return s;
    }
    last_ = *newest;
    return absl::OkStatus();
  }

 private:
  Etcd* const etcd_;
  const TimeMs every_ms_;
  TimeMs next_ = 0;
  int64_t last_ = 0;
};

}  // namespace tidegate
