#pragma once
// Who of several schedulers leads a job: a campaign for one key in etcd that lives with a lease. The create revision of
// the key fences what the leader writes (scheduler/store/etcd_store.h); its value is the leader's address.
//
// The right to lead ends by this process's own clock: a lease's time counts from before it was asked for, so it ends
// here before it ends in etcd. Once it has ended, it has ended for good; another Campaign begins anew.
//
// Leads is thread-safe; the rest is for one thread.

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "common/clock.h"
#include "scheduler/store/etcd.h"

namespace tidegate {

// Whether etcd was not reached, or has no leader: another attempt may cure it.
bool IsEtcdAway(const absl::Status& status);
// Calls `attempt` until it is OK or fails otherwise than by etcd's being away; ALREADY_EXISTS, which says that another
// one leads, is tried again for ever. CANCELLED: `stop` said true. Etcd's error after patience_ms of them.
absl::Status RetryEtcd(const ClockSource& clock, TimeMs patience_ms, const std::function<bool()>& stop,
                       const std::function<absl::Status()>& attempt);

class Leadership {
 public:
  struct Options {
    std::string key;
    std::string address;         // of this scheduler, for the others
    int64_t ttl_s = 3;           // of the lease
    TimeMs patience_ms = 60'000;  // without any answer of etcd's
  };
  // etcd and clock outlive it. `standby` is told of the leader's address whenever another one leads.
  Leadership(Etcd* etcd, const ClockSource* clock, Options options, std::function<void(const std::string&)> standby);
  ~Leadership();  // as Resign

  // Blocks until this process leads; errors as of RetryEtcd.
  absl::Status Campaign(const std::function<bool()>& stop);
  // Of the key; 0 before it has led.
  int64_t revision() const { return revision_; }
  // ABORTED, with the reason: it does not lead (any more).
  absl::Status Leads() const;
  // Gives the lead up, so that another one need not wait for the lease's end.
  void Resign();

 private:
  absl::Status Try();
  void KeepAlive(int64_t lease);
  // REQUIRES: mutex_ held.
  absl::Status LeadsLocked() const;

  Etcd* const etcd_;
  const ClockSource* const clock_;
  const Options options_;
  const std::function<void(const std::string&)> standby_;
  int64_t revision_ = 0;
  int64_t lease_ = 0;
  std::thread thread_;

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool stopping_ = false;
  TimeMs until_ = 0;
  mutable absl::Status lost_;
};

}  // namespace tidegate
