#include "cli/rolling_restart.h"

#include <catch2/catch.hpp>

namespace tidegate::cli {
namespace {

constexpr TimeMs kWaitMs = 10'000;

MemberStatus* AddServer(GetStatusResponse* status, Incarnation incarnation, const std::string& name) {
  MemberStatus* m = status->add_members();
  m->mutable_member()->set_role(SERVER);
  m->mutable_member()->set_incarnation(incarnation);
  m->mutable_member()->set_name(name);
  m->mutable_member()->set_address("host:" + std::to_string(incarnation));
  m->set_state("live");
  m->set_alive(true);
  m->set_shards(8);
  return m;
}
GetStatusResponse Running(int servers) {
  GetStatusResponse status;
  status.set_phase(TRAINING);
  status.set_replicas(2);
  status.set_settled(true);
  for (int i = 1; i <= servers; ++i) AddServer(&status, static_cast<Incarnation>(i), "node" + std::to_string(i));
  return status;
}
void Set(GetStatusResponse* status, Incarnation server, const std::string& state, bool alive) {
  for (MemberStatus& m : *status->mutable_members()) {
    if (m.member().incarnation() != server) continue;
    m.set_state(state);
    m.set_alive(alive);
  }
}
RollingRestart Planned(const GetStatusResponse& status, const std::vector<std::string>& servers = {}) {
  auto plan = RollingRestart::Plan(status, servers, kWaitMs);
  INFO(plan.status().message());
  REQUIRE(plan.ok());
  return *std::move(plan);
}
RollingRestart::Step Next(RollingRestart& plan, const GetStatusResponse& status, TimeMs now = 0) {
  auto step = plan.Next(status, now);
  INFO(step.status().message());
  REQUIRE(step.ok());
  return *std::move(step);
}
std::string Refusal(const GetStatusResponse& status, const std::vector<std::string>& servers = {}) {
  return std::string(RollingRestart::Plan(status, servers, kWaitMs).status().message());
}

}  // namespace

TEST_CASE("each server is drained, comes back, and has its copies, before the next one is drained") {
  GetStatusResponse status = Running(3);
  RollingRestart plan = Planned(status);
  for (Incarnation server = 1; server <= 3; ++server) {
    CHECK(plan.between_servers());
    CHECK(Next(plan, status).drain == server);
    plan.Draining(status, 0);
    CHECK_FALSE(plan.between_servers());
    Set(&status, server, "draining", true);
    status.set_settled(false);
    CHECK_THAT(Next(plan, status).say, Catch::Contains("holds 8 copies"));
    CHECK(Next(plan, status).say.empty());
    Set(&status, server, "left", false);
    status.set_settled(true);
    CHECK_THAT(Next(plan, status).say, Catch::Contains("has ended"));
    CHECK_FALSE(Next(plan, status).drain);
    AddServer(&status, server + 10, "node" + std::to_string(server));
    status.set_settled(false);
    CHECK_THAT(Next(plan, status).say, Catch::Contains("server " + std::to_string(server + 10)) && Catch::Contains("in its place"));
    CHECK(plan.restarted() == server);
    CHECK_FALSE(Next(plan, status).drain);
    CHECK_FALSE(Next(plan, status).done);
    status.set_settled(true);
  }
  CHECK(Next(plan, status).done);
}

TEST_CASE("a server under another name stands in the place of the one that left; an older one does not") {
  GetStatusResponse status = Running(3);
  RollingRestart plan = Planned(status, {"node2"});
  CHECK(Next(plan, status).drain == Incarnation{2});
  plan.Draining(status, 0);
  Set(&status, 2, "left", false);
  Next(plan, status);
  Next(plan, status);
  CHECK(plan.restarted() == 0);
  AddServer(&status, 7, "other");
  Next(plan, status);
  CHECK(plan.restarted() == 1);
  CHECK(Next(plan, status).done);
}

TEST_CASE("a server that died since its turn was planned is left alone") {
  GetStatusResponse status = Running(3);
  RollingRestart plan = Planned(status);
  Set(&status, 1, "dead", false);
  AddServer(&status, 4, "node1");
  CHECK(Next(plan, status).drain == Incarnation{2});
}

TEST_CASE("what takes too long is named, with what is left") {
  GetStatusResponse status = Running(3);
  RollingRestart plan = Planned(status);
  SECTION("shards do not settle") {
    status.set_settled(false);
    CHECK(plan.Next(status, 0).ok());
    CHECK(plan.Next(status, kWaitMs).ok());
    CHECK_THAT(std::string(plan.Next(status, kWaitMs + 1).status().message()), Catch::Contains("still being copied") && Catch::Contains("1, 2, 3"));
  }
  SECTION("it does not get empty") {
    Next(plan, status);
    plan.Draining(status, 5);
    CHECK(plan.Next(status, kWaitMs + 5).ok());
    CHECK_THAT(std::string(plan.Next(status, kWaitMs + 6).status().message()),
               Catch::Contains("server 1 (node1) at host:1 is not empty") && Catch::Contains("not restarted yet: 2, 3"));
  }
  SECTION("it does not come back") {
    Next(plan, status);
    plan.Draining(status, 0);
    Set(&status, 1, "left", false);
    Next(plan, status, 7);
    CHECK(plan.Next(status, kWaitMs + 7).ok());
    const absl::Status late = plan.Next(status, kWaitMs + 8).status();
    CHECK(absl::IsDeadlineExceeded(late));
    CHECK_THAT(std::string(late.message()), Catch::Contains("server 1 (node1) at host:1 ended and did not come back"));
  }
}

TEST_CASE("it ends with the job") {
  GetStatusResponse status = Running(3);
  RollingRestart plan = Planned(status);
  status.set_phase(FAILED);
  status.set_message("a reason");
  CHECK_THAT(std::string(plan.Next(status, 0).status().message()), Catch::Contains("the job ended") && Catch::Contains("a reason"));
}

TEST_CASE("restarts that cannot be are refused before anything is drained") {
  GetStatusResponse status = Running(3);
  CHECK_THAT(Refusal(status, {"node9"}), Catch::Contains("no server") && Catch::Contains("\"node9\""));
  AddServer(&status, 4, "node3");
  CHECK_THAT(Refusal(status, {"node3"}), Catch::Contains("more than one server"));
  CHECK(Refusal(status, {"host:3"}).empty());
  CHECK_THAT(Refusal(Running(1)), Catch::Contains("only one server lives"));
  status = Running(3);
  Set(&status, 1, "draining", true);
  Set(&status, 2, "dead", false);
  CHECK_THAT(Refusal(status), Catch::Contains("only one server lives"));
  status = Running(3);
  status.set_replicas(1);
  CHECK_THAT(Refusal(status), Catch::Contains("one copy"));
  status = Running(3);
  status.set_phase(STARTING);
  CHECK_THAT(Refusal(status), Catch::Contains("has not begun"));
  status.set_phase(FINISHED);
  CHECK_THAT(Refusal(status), Catch::Contains("has ended"));
}

TEST_CASE("a server named twice is restarted once, and the last one that lives not at all") {
  GetStatusResponse status = Running(2);
  RollingRestart plan = Planned(status, {"2", "node2"});
  CHECK(plan.left() == 1);
  Set(&status, 1, "dead", false);
  CHECK_THAT(std::string(plan.Next(status, 0).status().message()), Catch::Contains("the only one that lives"));
}

}  // namespace tidegate::cli
