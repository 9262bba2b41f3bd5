#include "scheduler/membership.h"

#include <catch2/catch.hpp>

namespace tidegate {
namespace {

JoinRequest Request(Role role, uint64_t nonce, const std::string& address = "") {
  JoinRequest request;
  request.set_role(role);
  request.set_nonce(nonce);
  request.set_address(address);
  request.set_name(std::to_string(nonce));
  request.set_zone(nonce % 2 == 0 ? "even" : "odd");
  return request;
}

TEST_CASE("a member is found by incarnation, nonce and address as long as it is active") {
  SchedulerState state;
  Membership members(&state);
  const MemberRecord* server = members.Add(Request(SERVER, 7, "a:1"));
  members.Add(Request(WORKER, 7));
  CHECK(server->member().zone() == "odd");
  CHECK(server->member().name() == "7");
  CHECK(members.FindActive(1)->member().role() == SERVER);
  CHECK(members.FindActive(SERVER, 7)->member().incarnation() == 1);
  CHECK(members.FindActive(WORKER, 7)->member().incarnation() == 2);
  CHECK(members.FindActiveServer("a:1")->member().incarnation() == 1);
  CHECK(members.FindActive(3) == nullptr);
  CHECK(members.FindActive(SERVER, 8) == nullptr);
  CHECK(members.FindActiveServer("") == nullptr);  // the worker's

  members.Remove(1, MemberRecord::DEAD);
  CHECK(members.FindActive(1) == nullptr);
  CHECK(members.FindActive(SERVER, 7) == nullptr);
  CHECK(members.FindActiveServer("a:1") == nullptr);
  CHECK(members.FindActive(WORKER, 7) != nullptr);
  CHECK(state.members(0).state() == MemberRecord::DEAD);

  members.Add(Request(SERVER, 9, "a:1"));
  CHECK(members.FindActiveServer("a:1")->member().incarnation() == 3);
}

TEST_CASE("a nonce of 0 is nobody's") {
  SchedulerState state;
  Membership members(&state);
  members.Add(Request(WORKER, 0));
  members.Add(Request(WORKER, 0));
  CHECK(members.FindActive(WORKER, 0) == nullptr);
  CHECK(members.CountActive(WORKER) == 2);
  members.Remove(1, MemberRecord::LEFT);
  CHECK(members.CountActive(WORKER) == 1);
}

TEST_CASE("a stored state has the members that it had") {
  SchedulerState state;
  Membership before(&state);
  before.Add(Request(SERVER, 1, "a:1"));
  before.Add(Request(WORKER, 2));
  before.Add(Request(WORKER, 3));
  before.Remove(2, MemberRecord::DEAD);
  Membership after(&state);
  CHECK(after.CountActive(SERVER) == 1);
  CHECK(after.CountActive(WORKER) == 1);
  CHECK(after.FindActive(WORKER, 2) == nullptr);
  CHECK(after.FindActive(WORKER, 3)->member().incarnation() == 3);
  CHECK(after.FindActiveServer("a:1") != nullptr);
  CHECK(after.Workers().live_size() == 1);
  CHECK(after.Workers().last_incarnation() == 3);
}

TEST_CASE("of those that are gone the newest are kept, and nobody who is active is forgotten") {
  SchedulerState state;
  Membership members(&state);
  members.Add(Request(SERVER, 1, "a:1"));
  for (uint64_t i = 2; i <= 201; ++i) {
    members.Add(Request(WORKER, i));
    members.Remove(i, MemberRecord::LEFT);
  }
  members.Add(Request(WORKER, 500));
  CHECK(state.members_size() == 66);
  CHECK(members.FindActive(1) != nullptr);
  CHECK(members.FindActive(WORKER, 500)->member().incarnation() == 202);
  CHECK(state.members(1).member().incarnation() == 138);
  Membership again(&state);
  again.Remove(202, MemberRecord::LEFT);
  CHECK(state.members_size() == 65);
}

}  // namespace
}  // namespace tidegate
