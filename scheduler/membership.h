#pragma once
// Members of a job, over the scheduler's durable state. Not thread-safe. Incarnations rise and are
// never reused; records of members that died or left are kept for a while, for status. No call but Active and Workers
// looks at every member. Nothing else adds or removes records, or changes who they are of.

#include <array>
#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/types.h"
#include "proto/scheduler_messages.pb.h"
#include "proto/scheduler_state.pb.h"

namespace tidegate {

class Membership {
 public:
  explicit Membership(SchedulerState* state);

  // nullptr if there is none (any more).
  MemberRecord* FindActive(Incarnation incarnation);
  // The active member that this process (by its nonce) is already; nonce 0 matches none.
  MemberRecord* FindActive(Role role, uint64_t nonce);
  MemberRecord* FindActiveServer(const std::string& address);

  MemberRecord* Add(const JoinRequest& request);
  // REQUIRES: active.
  void Remove(Incarnation incarnation, MemberRecord::State state);

  std::vector<Incarnation> Active(Role role) const;  // ascending
  size_t CountActive(Role role) const { return active_[static_cast<size_t>(role)]; }
  WorkerSet Workers() const;

 private:
  void Index(const MemberRecord& record);

  SchedulerState* const state_;
  // Of active ones.
  std::array<size_t, Role_ARRAYSIZE> active_{};
  std::map<std::pair<Role, uint64_t>, Incarnation> by_nonce_;
  std::map<std::string, Incarnation> servers_by_address_;
  size_t gone_ = 0;
};

// "worker 5 (host:1234)".
std::string DescribeMember(const Member& member);

}  // namespace tidegate
