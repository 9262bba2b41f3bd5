#include "scheduler/store/etcd_store.h"

#include <catch2/catch.hpp>

#include <random>

#include "scheduler/store/etcd_address.h"
#include "scheduler/store/etcd_compaction.h"
#include "scheduler/store/state_codec.h"
#include "tests/fakes/fake_etcd.h"

namespace tidegate {
namespace {

constexpr char kLeader[] = "/job/leader";

struct Scheduler {
  explicit Scheduler(FakeEtcd* etcd)
      : lease(etcd->GrantLease(3)->id), store(etcd, "/job", {kLeader, *etcd->PutNew(kLeader, "a:1", lease)}, "etcd://e:1/job") {}
  int64_t lease;
  EtcdStore store;
};

SchedulerState StateOfTerm(uint64_t term) {
  SchedulerState state;
  state.set_format(1);
  state.set_term(term);
  return state;
}

TEST_CASE("what a leader stored is what the next one loads; nothing stored is an empty state") {
  FakeEtcd etcd;
  Scheduler first(&etcd);
  CHECK(first.store.Load()->format() == 0);
  REQUIRE(first.store.Store(StateOfTerm(1)).ok());
  REQUIRE(first.store.Store(StateOfTerm(2)).ok());
  etcd.EndLeases();
  Scheduler second(&etcd);
  CHECK(second.store.Load()->term() == 2);
  REQUIRE(second.store.Store(StateOfTerm(3)).ok());
  CHECK(second.store.Load()->term() == 3);
}

TEST_CASE("a deposed leader changes nothing, whether another leads or none") {
  FakeEtcd etcd;
  Scheduler first(&etcd);
  REQUIRE(first.store.Load().ok());
  REQUIRE(first.store.Store(StateOfTerm(1)).ok());
  etcd.EndLeases();
  CHECK(absl::IsAborted(first.store.Store(StateOfTerm(7))));
  Scheduler second(&etcd);
  CHECK(absl::IsAborted(first.store.Store(StateOfTerm(8))));
  CHECK(second.store.Load()->term() == 1);
  REQUIRE(second.store.Store(StateOfTerm(2)).ok());
  CHECK(absl::IsAborted(first.store.Store(StateOfTerm(9))));
  CHECK(second.store.Load()->term() == 2);
}

TEST_CASE("who never led writes nothing, also while nobody leads") {
  FakeEtcd etcd;
  EtcdStore store(&etcd, "/job", {kLeader, 0}, "etcd://e:1/job");
  CHECK(store.Load()->format() == 0);
  CHECK(absl::IsAborted(store.Store(StateOfTerm(1))));
  CHECK(etcd.keys().empty());
}

TEST_CASE("a write whose answer was lost does not stop the next one") {
  FakeEtcd etcd;
  Scheduler leader(&etcd);
  REQUIRE(leader.store.Load().ok());
  etcd.SetFault(FakeEtcd::Fault::NO_ANSWER);
  CHECK(absl::IsDeadlineExceeded(leader.store.Store(StateOfTerm(1))));
  CHECK(absl::IsDeadlineExceeded(leader.store.Store(StateOfTerm(2))));
  etcd.SetFault(FakeEtcd::Fault::AWAY);
  const absl::Status away = leader.store.Store(StateOfTerm(3));
  CHECK(absl::IsUnavailable(away));
  CHECK_THAT(std::string(away.message()), Catch::Contains("etcd://e:1/job/state") && Catch::Contains("bytes"));
  etcd.SetFault(FakeEtcd::Fault::NONE);
  REQUIRE(leader.store.Store(StateOfTerm(4)).ok());
  CHECK(leader.store.Load()->term() == 4);
}

TEST_CASE("a value that is damaged, of another version or of something else is refused by its key") {
  const std::string good = CompressState(StateOfTerm(5));
  CHECK(DecompressState(good, "k")->term() == 5);
  for (size_t i = 0; i < good.size(); ++i) {
    CHECK(absl::IsDataLoss(DecompressState(good.substr(0, i), "k").status()));
    std::string flipped = good;
    flipped[i] = static_cast<char>(flipped[i] ^ 4);
    const auto state = DecompressState(flipped, "k");
    CHECK((!state.ok() || state->term() == 5));
  }
  CHECK(absl::IsDataLoss(DecompressState(good + "x", "k").status()));
  CHECK(absl::IsDataLoss(DecompressState("something else's value", "k").status()));
  std::string newer = good;
  newer[7] = '2';
  const absl::Status refused = DecompressState(newer, "k").status();
  CHECK(absl::IsFailedPrecondition(refused));
  CHECK_THAT(std::string(refused.message()), Catch::StartsWith("k: written by another version"));
}

TEST_CASE("65,536 shards with three replicas on 1,000 servers, and 10,000 workers, fit into one request of etcd's") {
  std::mt19937 random(1);
  SchedulerState state = StateOfTerm(9);
  RoutingTable* routing = state.mutable_routing();
  routing->set_shards(65536);
  routing->set_backup_slots(2);
  for (int shard = 0; shard < 65536; ++shard) {
    routing->add_primary(1 + random() % 1000);
    for (int i = 0; i < 2; ++i) routing->add_backups(1 + random() % 1000);
    routing->add_joining(random() % 20 == 0 ? 1 + random() % 1000 : 0);
    routing->add_shard_epoch(1 + random() % 5000);
  }
  for (uint64_t i = 1; i <= 11000; ++i) {
    MemberRecord* record = state.add_members();
    record->mutable_member()->set_incarnation(i);
    record->mutable_member()->set_role(i <= 1000 ? SERVER : WORKER);
    record->mutable_member()->set_name("node-" + std::to_string(i % 500) + ":" + std::to_string(random() % 65536));
    if (i <= 1000) record->mutable_member()->set_address("node-" + std::to_string(i % 500) + ":" + std::to_string(random() % 65536));
    if (i <= 1000) *routing->add_servers() = record->member();
    record->set_nonce((uint64_t{random()} << 32) | random());
  }
  const size_t bytes = CompressState(state).size();
  INFO(bytes);
  CHECK(bytes < (1500 << 10) * 3 / 4);
}

TEST_CASE("history is compacted to the revision of a turn ago, and an etcd that was away costs a turn") {
  FakeEtcd etcd;
  Scheduler leader(&etcd);
  EtcdCompaction compaction(&etcd, 1000);
  REQUIRE(leader.store.Load().ok());
  const auto store = [&](uint64_t term) { REQUIRE(leader.store.Store(StateOfTerm(term)).ok()); };
  CHECK(compaction.Tick(5).ok());
  const int64_t first = *etcd.Revision();
  store(1);
  CHECK(compaction.Tick(1004).ok());
  CHECK(etcd.compactions.empty());
  CHECK(compaction.Tick(1005).ok());
  CHECK(etcd.compactions == std::vector<int64_t>{first});
  const int64_t second = *etcd.Revision();
  store(2);
  etcd.SetFault(FakeEtcd::Fault::AWAY);
  CHECK(absl::IsUnavailable(compaction.Tick(2005)));
  etcd.SetFault(FakeEtcd::Fault::NONE);
  CHECK(compaction.Tick(2006).ok());
  CHECK(compaction.Tick(3005).ok());
  CHECK(etcd.compactions == std::vector<int64_t>{first, second});
  EtcdCompaction never(&etcd, 0);
  for (TimeMs now : {1, 1'000'000, 2'000'000}) CHECK(never.Tick(now).ok());
  CHECK(etcd.compactions.size() == 2);
}

TEST_CASE("an address of etcd is endpoints and a prefix; anything else is refused with its text") {
  CHECK(IsEtcdAddress("etcd://a:1"));
  CHECK_FALSE(IsEtcdAddress("/shared/state"));
  CHECK_FALSE(IsEtcdAddress("etcd"));
  const auto plain = ParseEtcdAddress("etcd://a:1");
  REQUIRE(plain.ok());
  CHECK(plain->endpoints == std::vector<std::string>{"a:1"});
  CHECK(plain->prefix == "/tidegate");
  const auto full = ParseEtcdAddress("etcd://a:1,[::1]:2/team/job-1.x");
  REQUIRE(full.ok());
  CHECK(full->endpoints == std::vector<std::string>{"a:1", "[::1]:2"});
  CHECK(full->prefix == "/team/job-1.x");
  CHECK(full->Url() == "etcd://a:1,[::1]:2/team/job-1.x");
  for (const char* text : {"etcd://", "etcd:///p", "etcd://a", "etcd://a:0", "etcd://a:1,", "etcd://a:1,a:1", "etcd://a:1/",
                           "etcd://a:1/p/", "etcd://a:1//p", "etcd://a:1/p q", "etcd://a:1?x=1", "etcd://me:pw@a:1", "http://a:1",
                           "ETCD://a:1", "://a:1", "etcd:/a:1", "etcd:a:1"}) {
    INFO(text);
    CHECK(IsEtcdAddress(text));
    const absl::Status refused = ParseEtcdAddress(text).status();
    CHECK(absl::IsInvalidArgument(refused));
    CHECK_THAT(std::string(refused.message()), Catch::Contains(std::string("--state=") + text));
  }
}

}  // namespace
}  // namespace tidegate
