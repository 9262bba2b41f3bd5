#include "common/rpc/member_link.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/fakes/fake_scheduler.h"

namespace tidegate {
namespace {

// What the callbacks said, in order.
class Recorder {
 public:
  MemberLink::Callbacks Callbacks() {
    MemberLink::Callbacks callbacks;
    callbacks.routing = [this](const RoutingTable& t) { Add("routing " + std::to_string(t.epoch())); };
    callbacks.workers = [this](const WorkerSet& w) { Add("workers " + std::to_string(w.version())); };
    callbacks.phase = [this](Phase phase, const std::string& message) {
      Add("phase " + Phase_Name(phase) + message);
    };
    callbacks.rejoin = [this] { Add("rejoin"); };
    callbacks.run_command =
        [this](const Command& c) -> absl::StatusOr<std::vector<CheckpointFile>> {
      Add("command " + std::to_string(c.id()));
      if (c.id() == 2) return absl::InternalError("disk full");
      CheckpointFile file;
      file.set_name("f" + std::to_string(c.id()));
      return std::vector<CheckpointFile>{file};
    };
    return callbacks;
  }
  void Add(std::string what) {
    std::lock_guard lock(mutex_);
    said_.push_back(std::move(what));
  }
  int Count(const std::string& what) {
    std::lock_guard lock(mutex_);
    return static_cast<int>(std::count(said_.begin(), said_.end(), what));
  }
  bool WaitFor(const std::string& what) {
    for (int i = 0; i < 2000; ++i) {
      if (Count(what) > 0) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> said_;
};

MemberLink::Options ServerAt(const std::string& scheduler, int join_timeout_s = 20) {
  MemberLink::Options options;
  options.scheduler = scheduler;
  options.role = SERVER;
  options.address = "127.0.0.1:7";
  options.join_timeout_s = join_timeout_s;
  return options;
}

Command NumberedSweep(uint64_t id) {
  Command command;
  command.set_id(id);
  command.mutable_sweep()->set_clock(static_cast<int64_t>(id));
  return command;
}

}  // namespace

TEST_CASE("news of the scheduler reach the callbacks, each once") {
  FakeScheduler scheduler;
  Recorder recorder;
  MemberLink link(ServerAt(scheduler.address()), recorder.Callbacks());
  REQUIRE(link.Join().ok());
  CHECK(link.membership().incarnation == 1);
  CHECK(link.membership().generation == 9);
  link.Start();
  scheduler.Update([](auto& s) { s.routing.set_epoch(4); });
  CHECK(recorder.WaitFor("routing 4"));
  scheduler.Update([](auto& s) {
    s.workers.set_version(2);
    s.phase = TRAINING;
  });
  CHECK(recorder.WaitFor("workers 2"));
  CHECK(recorder.WaitFor("phase TRAINING"));
  const uint64_t seen = [&] {
    uint64_t n = 0;
    scheduler.Update([&](auto& s) { n = s.heartbeats; });
    return n;
  }();
  REQUIRE(scheduler.WaitUntil([&](const auto& s) {
    return s.heartbeats > seen + 3 && s.last_heartbeat.routing_epoch() == 4 &&
           s.last_heartbeat.worker_set_version() == 2;
  }));
  CHECK(recorder.Count("routing 4") == 1);
  CHECK(recorder.Count("workers 2") == 1);
  CHECK(recorder.Count("phase TRAINING") == 1);
}

TEST_CASE("the newest probe is said in every heartbeat until another incarnation begins") {
  FakeScheduler scheduler;
  Recorder recorder;
  MemberLink link(ServerAt(scheduler.address()), recorder.Callbacks());
  REQUIRE(link.Join().ok());
  link.Start();
  const auto says = [&](uint64_t probe) {
    uint64_t before = 0;
    scheduler.Update([&](auto& s) { before = s.heartbeats; });
    return scheduler.WaitUntil([&](const auto& s) { return s.heartbeats > before + 2 && s.last_heartbeat.seen_probe() == probe; });
  };
  CHECK(says(0));
  scheduler.Update([](auto& s) { s.probe = 7; });
  CHECK(says(7));
  scheduler.Update([](auto& s) { s.probe = 3; });
  CHECK(says(7));
  link.Stop();
  REQUIRE(link.Join().ok());
  link.Start();
  CHECK(says(3));
}

TEST_CASE("a command runs once and its result is sent until it was taken") {
  FakeScheduler scheduler;
  Recorder recorder;
  MemberLink link(ServerAt(scheduler.address()), recorder.Callbacks());
  REQUIRE(link.Join().ok());
  link.Start();
  scheduler.Update([](auto& s) { s.commands = {NumberedSweep(1), NumberedSweep(2)}; });
  REQUIRE(scheduler.WaitUntil([](const auto& s) { return s.results.size() >= 2; }));
  scheduler.Update([](auto& s) {
    CHECK(s.results[0].id() == 1);
    CHECK(s.results[0].code() == 0);
    CHECK(s.results[0].files(0).name() == "f1");
    for (const auto& r : s.results) {
      if (r.id() != 2) continue;
      CHECK(r.code() == 13);
      CHECK(r.error() == "disk full");
    }
  });
  // A scheduler that lost the results asks again: they are sent again, not done again.
  scheduler.Update([](auto& s) { s.results.clear(); });
  const auto heartbeat = [&] {
    uint64_t n = 0;
    scheduler.Update([&](auto& s) { n = s.heartbeats; });
    return n;
  };
  const uint64_t before = heartbeat();
  REQUIRE(scheduler.WaitUntil([&](const auto& s) { return s.heartbeats > before + 2; }));
  CHECK(recorder.Count("command 1") == 1);
  CHECK(recorder.Count("command 2") == 1);
  scheduler.Update([](auto& s) {
    CHECK(s.results.empty());  // taken results are not repeated
    CHECK(s.last_heartbeat.last_command() == 2);
  });
}

TEST_CASE("heartbeats go on after a scheduler's restart, and its older term is ignored") {
  FakeScheduler scheduler;
  Recorder recorder;
  scheduler.Update([](auto& s) { s.term = 5; });
  MemberLink link(ServerAt(scheduler.address()), recorder.Callbacks());
  REQUIRE(link.Join().ok());
  link.Start();
  REQUIRE(scheduler.WaitUntil([](const auto& s) { return s.heartbeats > 1; }));
  scheduler.Stop();
  scheduler.Update([](auto& s) {
    s.term = 4;  // a deposed one
    s.routing.set_epoch(3);
  });
  scheduler.Restart();
  const auto beats = [&] {
    uint64_t n = 0;
    scheduler.Update([&](auto& s) { n = s.heartbeats; });
    return n;
  };
  const uint64_t before = beats();
  REQUIRE(scheduler.WaitUntil([&](const auto& s) { return s.heartbeats > before + 2; }));
  CHECK(recorder.Count("routing 3") == 0);
  scheduler.Update([](auto& s) { s.term = 6; });
  CHECK(recorder.WaitFor("routing 3"));
  CHECK(scheduler.WaitUntil([](const auto& s) { return s.last_heartbeat.seen_term() == 6; }));
}

TEST_CASE("a member that is told to rejoin gets a new incarnation by joining again") {
  FakeScheduler scheduler;
  Recorder recorder;
  MemberLink link(ServerAt(scheduler.address()), recorder.Callbacks());
  REQUIRE(link.Join().ok());
  link.Start();
  scheduler.Update([](auto& s) { s.rejoin = true; });
  REQUIRE(recorder.WaitFor("rejoin"));
  link.Stop();
  scheduler.Update([](auto& s) { s.rejoin = false; });
  REQUIRE(link.Join().ok());
  CHECK(link.membership().incarnation == 2);
  link.Start();
  CHECK(scheduler.WaitUntil([](const auto& s) { return s.last_heartbeat.incarnation() == 2; }));
}

TEST_CASE("a member whose scheduler runs another job now joins that, though its terms count from 1") {
  FakeScheduler scheduler;
  scheduler.Update([](auto& s) { s.term = 5; });
  Recorder recorder;
  MemberLink link(ServerAt(scheduler.address()), recorder.Callbacks());
  REQUIRE(link.Join().ok());
  link.Start();
  REQUIRE(scheduler.WaitUntil([](const auto& s) { return s.last_heartbeat.generation() == 9; }));
  scheduler.Update([](auto& s) {
    s.term = 1;
    s.generation = s.heartbeat_generation = 10;
  });
  REQUIRE(recorder.WaitFor("rejoin"));
  link.Stop();
  REQUIRE(link.Join().ok());
  CHECK(link.membership().generation == 10);
  link.Start();
  CHECK(scheduler.WaitUntil([](const auto& s) { return s.last_heartbeat.generation() == 10; }));
}

TEST_CASE("joining waits for a scheduler, and gives up with the reason") {
  std::string address;
  {
    FakeScheduler gone;
    address = gone.address();
  }
  Recorder recorder;
  MemberLink link(ServerAt(address, 0), recorder.Callbacks());
  const absl::Status status = link.Join();
  CHECK(absl::IsDeadlineExceeded(status));
  CHECK(std::string(status.message()).find(address) != std::string::npos);
  CHECK(std::string(status.message()).find("--join_timeout=0") != std::string::npos);

  MemberLink patient(ServerAt(address), recorder.Callbacks());
  std::thread later;
  std::unique_ptr<FakeScheduler> scheduler;
  later = std::thread([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    scheduler = std::make_unique<FakeScheduler>(address);
  });
  CHECK(patient.Join().ok());
  later.join();
}

TEST_CASE("a refusal ends joining at once, cancelling too") {
  FakeScheduler scheduler;
  scheduler.Update([](auto& s) {
    s.join_answer = grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "another config");
  });
  Recorder recorder;
  MemberLink link(ServerAt(scheduler.address()), recorder.Callbacks());
  CHECK(link.Join().message() == "another config");

  scheduler.Update([](auto& s) {
    s.join_answer = grpc::Status(grpc::StatusCode::UNAVAILABLE, "not yet");
  });
  std::thread canceller([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    link.Cancel();
  });
  CHECK(absl::IsCancelled(link.Join()));
  canceller.join();
}

TEST_CASE("work calls outlive a scheduler's restart and end with Stop") {
  FakeScheduler scheduler;
  Recorder recorder;
  MemberLink::Options options = ServerAt(scheduler.address());
  options.role = WORKER;
  MemberLink link(options, recorder.Callbacks());
  REQUIRE(link.Join().ok());
  link.Start();
  scheduler.Stop();
  absl::StatusOr<AcquireWorkResponse> work;
  std::thread asking([&] { work = link.AcquireWork({}); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  scheduler.Update([](auto& s) { s.work.emplace_back().mutable_announce(); });
  scheduler.Restart();
  asking.join();
  REQUIRE(work.ok());
  CHECK(work->has_announce());
  REQUIRE(link.DeclareTables({TableSpec()}).ok());
  scheduler.Stop();
  std::thread blocked([&] { work = link.AcquireWork({}); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  link.Stop();
  blocked.join();
  CHECK(absl::IsCancelled(work.status()));
}

TEST_CASE("a scheduler that stays away is given up, with the reason for everybody who waits") {
  FakeScheduler scheduler;
  Recorder recorder;
  MemberLink::Callbacks callbacks = recorder.Callbacks();
  callbacks.lost = [&](const std::string& why) {
    recorder.Add(why.find("--scheduler_timeout=1") != std::string::npos ? "lost" : why);
  };
  MemberLink::Options options = ServerAt(scheduler.address());
  options.scheduler_timeout_s = 1;
  MemberLink link(options, callbacks);
  REQUIRE(link.Join().ok());
  link.Start();
  REQUIRE(scheduler.WaitUntil([](const auto& s) { return s.heartbeats > 1; }));
  CHECK(recorder.Count("lost") == 0);
  scheduler.Stop();
  const absl::Status blocked = link.AcquireWork({}).status();
  CHECK(absl::IsAborted(blocked));
  CHECK(std::string(blocked.message()).find(scheduler.address()) != std::string::npos);
  CHECK(recorder.WaitFor("lost"));
  CHECK(absl::IsAborted(link.DeclareTables({TableSpec()})));
  scheduler.Restart();
  link.Stop();
  CHECK(recorder.Count("lost") == 1);
}

TEST_CASE("a fatal error and a farewell reach the scheduler") {
  FakeScheduler scheduler;
  Recorder recorder;
  MemberLink link(ServerAt(scheduler.address()), recorder.Callbacks());
  REQUIRE(link.Join().ok());
  SECTION("before heartbeats") { link.ReportFatalError("bad model"); }
  SECTION("with heartbeats") {
    link.Start();
    link.ReportFatalError("bad model");
  }
  scheduler.Update([](auto& s) { CHECK(s.fatal_error == "bad model"); });
  CHECK(link.Leave("done").ok());
  scheduler.Update([](auto& s) { CHECK(s.leaves == std::vector<std::string>{"done"}); });
}

TEST_CASE("of several schedulers a member finds the one that leads, by the list or by what a standby says") {
  FakeScheduler leader, standby;
  standby.Update([&](auto& s) { s.standby = true; });
  SECTION("by the list") {}
  SECTION("by what a standby says") {
    standby.Update([&](auto& s) { s.leader = leader.address(); });
  }
  SECTION("past what a standby says wrongly") {
    standby.Update([&](auto& s) { s.leader = "127.0.0.1:1"; });
  }
  Recorder recorder;
  MemberLink link(ServerAt(standby.address() + "," + leader.address()), recorder.Callbacks());
  REQUIRE(link.Join().ok());
  link.Start();
  CHECK(leader.WaitUntil([](const auto& s) { return s.joins.size() == 1 && s.heartbeats > 2; }));
}

TEST_CASE("a member that was given only a standby's address goes to the leader that it names") {
  FakeScheduler leader, standby;
  standby.Update([&](auto& s) {
    s.standby = true;
    s.leader = leader.address();
  });
  Recorder recorder;
  MemberLink link(ServerAt(standby.address()), recorder.Callbacks());
  const absl::Status joined = link.Join();
  INFO(joined.message());
  REQUIRE(joined.ok());
  CHECK(leader.WaitUntil([](const auto& s) { return s.joins.size() == 1; }));
}

TEST_CASE("where the leader is gone or hangs, heartbeats and work that waits there go to the next one") {
  FakeScheduler first, second;
  Recorder recorder;
  MemberLink::Options options = ServerAt(first.address() + "," + second.address());
  options.role = WORKER;
  MemberLink link(options, recorder.Callbacks());
  REQUIRE(link.Join().ok());
  link.Start();
  CHECK(first.WaitUntil([](const auto& s) { return s.heartbeats > 1; }));
  first.Update([](auto& s) { s.interval_ms = 60'000; });
  absl::StatusOr<AcquireWorkResponse> work;
  std::thread asking([&] { work = link.AcquireWork({}); });
  second.Update([](auto& s) {
    s.term = 2;
    s.work.emplace_back().mutable_announce();
  });
  const bool gone = GENERATE(true, false);
  if (gone) {
    first.Stop();
  } else {
    first.Update([](auto& s) { s.frozen = true; });
  }
  CHECK(second.WaitUntil([](const auto& s) { return s.heartbeats > 2; }));
  asking.join();
  CHECK(work.ok());
  CHECK(second.WaitUntil([](const auto& s) { return s.work.empty(); }));
  // What the old one still says is of an older term.
  first.Update([](auto& s) { s.frozen = false; });
}

}  // namespace tidegate
