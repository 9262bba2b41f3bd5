#include "scheduler/rpc/leadership.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <vector>

#include "tests/fakes/fake_etcd.h"

namespace tidegate {
namespace {

class FakeClock final : public ClockSource {
 public:
  TimeMs NowMs() const override { return now; }
  std::atomic<TimeMs> now{1000};
};

struct Candidate {
  Candidate(FakeEtcd* etcd, const ClockSource* clock, const std::string& address, TimeMs patience_ms = 60'000)
      : leadership(etcd, clock, {"/job/leader", address, 1, patience_ms}, [this](const std::string& leader) { heard.push_back(leader); }) {}
  // Gives up after having heard of a leader so often.
  absl::Status Campaign(size_t heard_max = 2) {
    heard.clear();
    return leadership.Campaign([this, heard_max] { return heard.size() >= heard_max; });
  }
  std::vector<std::string> heard;
  Leadership leadership;
};

template <typename F>
bool Within10s(F reached) {
  for (int i = 0; i < 2000 && !reached(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return reached();
}

TEST_CASE("one of two leads; the other hears of it, and leads once that one has resigned, by a newer revision") {
  FakeEtcd etcd;
  const FakeClock clock;
  Candidate a(&etcd, &clock, "a:1"), b(&etcd, &clock, "b:1");
  CHECK(absl::IsAborted(a.leadership.Leads()));
  REQUIRE(a.Campaign().ok());
  CHECK(a.leadership.Leads().ok());
  CHECK(absl::IsCancelled(b.Campaign()));
  CHECK(b.heard == std::vector<std::string>{"a:1", "a:1"});
  CHECK(absl::IsAborted(b.leadership.Leads()));
  a.leadership.Resign();
  CHECK(absl::IsAborted(a.leadership.Leads()));
  REQUIRE(b.Campaign().ok());
  CHECK(etcd.keys()["/job/leader"].value == "b:1");
  CHECK(b.leadership.revision() == etcd.keys()["/job/leader"].create_revision);
  CHECK(b.leadership.revision() > a.leadership.revision());
}

TEST_CASE("the lead ends by the leader's own clock, for good, though etcd would renew the lease") {
  FakeEtcd etcd;
  FakeClock clock;
  Candidate a(&etcd, &clock, "a:1");
  REQUIRE(a.Campaign().ok());
  clock.now += 999;
  CHECK(a.leadership.Leads().ok());
  clock.now += 1000;  // as after a long stop of the process
  const absl::Status lost = a.leadership.Leads();
  CHECK(absl::IsAborted(lost));
  CHECK_THAT(std::string(lost.message()), Catch::Contains("--leader_ttl_s"));
  clock.now -= 1999;
  CHECK(absl::IsAborted(a.leadership.Leads()));
  REQUIRE(a.Campaign().ok());
  CHECK(a.leadership.Leads().ok());
}

TEST_CASE("keep-alives lengthen the lead, and a lease that is gone ends it") {
  FakeEtcd etcd;
  FakeClock clock;
  Candidate a(&etcd, &clock, "a:1");
  REQUIRE(a.Campaign().ok());
  for (int i = 0; i < 5; ++i) {
    clock.now += 900;
    // The third from now on was asked for after that, and the one before it has been counted.
    const size_t before = etcd.keep_alives();
    REQUIRE(Within10s([&] { return etcd.keep_alives() >= before + 3; }));
  }
  CHECK(a.leadership.Leads().ok());
  etcd.EndLeases();
  CHECK(Within10s([&] { return !a.leadership.Leads().ok(); }));
  CHECK_THAT(std::string(a.leadership.Leads().message()), Catch::Contains("does not know the lease"));
}

TEST_CASE("a campaign whose answer was lost leaves no key behind that would lock all out") {
  FakeEtcd etcd;
  const FakeClock clock;
  Candidate a(&etcd, &clock, "a:1");
  etcd.SetFault(FakeEtcd::Fault::NO_ANSWER);
  std::atomic<int> looks{0};
  CHECK(absl::IsCancelled(a.leadership.Campaign([&] { return ++looks > 3; })));
  etcd.SetFault(FakeEtcd::Fault::NONE);
  REQUIRE(a.Campaign().ok());
}

TEST_CASE("an etcd that is away is waited for, and given up with its error") {
  FakeEtcd etcd;
  const RealClock clock;
  Candidate a(&etcd, &clock, "a:1", 300);
  etcd.SetFault(FakeEtcd::Fault::AWAY);
  const absl::Status away = a.Campaign();
  CHECK(absl::IsUnavailable(away));
  CHECK_THAT(std::string(away.message()), Catch::Contains("--etcd_timeout_s") && Catch::Contains("etcd at fake: away"));
  etcd.SetFault(FakeEtcd::Fault::NONE);
  CHECK(a.Campaign().ok());
}

}  // namespace
}  // namespace tidegate
