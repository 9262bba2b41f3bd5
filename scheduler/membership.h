#pragma once
// Members of a job, over the scheduler's durable state. Not thread-safe. Incarnations rise and are
// never reused; records of members that died or left are kept for a while, for status.

#include <string>
#include <vector>

#include "common/types.h"
#include "proto/scheduler_messages.pb.h"
#include "proto/scheduler_state.pb.h"

namespace tidegate {

class Membership {
 public:
  explicit Membership(SchedulerState* state) : state_(state) {}

  // nullptr if there is none (any more).
  MemberRecord* FindActive(Incarnation incarnation);
  // The active member that this process (by its nonce) is already; nonce 0 matches none.
  MemberRecord* FindActive(Role role, uint64_t nonce);
  MemberRecord* FindActiveServer(const std::string& address);

  MemberRecord* Add(const JoinRequest& request);
  // REQUIRES: active.
  void Remove(Incarnation incarnation, MemberRecord::State state);

  std::vector<Incarnation> Active(Role role) const;  // ascending
  size_t CountActive(Role role) const;
  WorkerSet Workers() const;

 private:
  SchedulerState* const state_;
};

// "worker 5 (host:1234)".
std::string DescribeMember(const Member& member);

}  // namespace tidegate
