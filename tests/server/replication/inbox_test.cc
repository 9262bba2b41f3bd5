#include "server/replication/inbox.h"

#include <catch2/catch.hpp>

#include "common/stable_hash.h"

namespace tidegate {
namespace {

constexpr Incarnation kPrimary = 3;
using Code = absl::StatusCode;

wire::ReplicaRequest Request(uint32_t lane, uint64_t index, Epoch epoch = 5, uint64_t log_start = 1) {
  wire::ReplicaRequest request;
  request.sender = kPrimary;
  request.epoch = epoch;
  request.sent_ms = 100;
  request.lane = lane;
  request.index = index;
  request.log_start = log_start;
  if (index != 0) request.body = wire::SweepRecord{};
  return request;
}

struct Follower {
  Follower() : inbox(kPrimary), grants(400) {}
  Inbox::Received Receive(const wire::ReplicaRequest& request) { return inbox.Receive(request, now, &grants); }
  // Receives a record that goes to both strands.
  Inbox::Ticket Begin(uint32_t lane, uint64_t index) {
    const auto received = Receive(Request(lane, index));
    REQUIRE(received.dispatch);
    CHECK(!inbox.Dispatched(received.ticket, 3, now.epoch));
    return received.ticket;
  }
  std::optional<ReplicaResponse> End(const Inbox::Ticket& ticket, int strand, absl::Status status = absl::OkStatus()) {
    return inbox.Finished(ticket, strand, status, {}, now.epoch);
  }
  Inbox inbox;
  GivenGrants grants;
  Inbox::Now now{5, true, 1000};
};

void CheckAck(const std::optional<ReplicaResponse>& response, uint32_t lane, uint64_t index) {
  REQUIRE(response.has_value());
  CHECK(response->code() == 0);
  REQUIRE(response->acks_size() == 1);
  CHECK(response->acks(0).lane() == lane);
  CHECK(response->acks(0).index() == index);
}
void CheckRefused(const std::optional<ReplicaResponse>& response, Code code, uint64_t expected) {
  REQUIRE(response.has_value());
  CHECK(response->code() == static_cast<uint32_t>(code));
  CHECK(response->expected() == expected);
}

}  // namespace

TEST_CASE("a record is acknowledged when all its strands and all records before it are done") {
  Follower f;
  const auto one = f.Begin(0, 1), two = f.Begin(0, 2);
  CHECK(!f.End(two, 0));
  CHECK(!f.End(two, 1));
  CHECK(!f.End(one, 1));
  CheckAck(f.End(one, 0), 0, 2);
}

TEST_CASE("a record without strands is done at once") {
  Follower f;
  const auto received = f.Receive(Request(2, 1));
  REQUIRE(received.dispatch);
  CheckAck(f.inbox.Dispatched(received.ticket, 0, 5), 2, 1);
}

TEST_CASE("a record that comes again is acknowledged again, or left alone while its strands are at it") {
  Follower f;
  const auto one = f.Begin(0, 1);
  auto again = f.Receive(Request(0, 1));
  CHECK(!again.dispatch);
  CHECK(!again.answer);
  f.End(one, 0);
  f.End(one, 1);
  again = f.Receive(Request(0, 1));
  CHECK(!again.dispatch);
  CheckAck(again.answer, 0, 1);
}

TEST_CASE("a gap is told once, until what is missing has come") {
  Follower f;
  CheckRefused(f.Receive(Request(0, 2)).answer, Code::kOutOfRange, 1);
  CHECK(!f.Receive(Request(0, 3)).answer);
  f.Begin(0, 1);
  CheckRefused(f.Receive(Request(0, 3)).answer, Code::kOutOfRange, 2);
}

TEST_CASE("lanes do not wait for each other") {
  Follower f;
  f.Begin(0, 1);
  const auto other = f.Begin(5, 1);
  f.End(other, 0);
  CheckAck(f.End(other, 1), 5, 1);
}

TEST_CASE("a sender with a newer table waits until ours is as new") {
  Follower f;
  const auto received = f.Receive(Request(0, 1, 6));
  CHECK(received.newer_epoch == 6);
  CHECK(!received.dispatch);
  CheckRefused(received.answer, Code::kUnavailable, 1);
  f.now.epoch = 6;
  CHECK(f.Receive(Request(0, 1, 6)).dispatch);
}

TEST_CASE("a sender with an older table that leads nothing here any more is refused as deposed") {
  Follower f;
  f.now = {7, false, 1000};
  const auto received = f.Receive(Request(0, 1, 6));
  CheckRefused(received.answer, Code::kFailedPrecondition, 1);
  CHECK(received.answer->epoch() == 7);
  // With our table it knows: what is left of its log is taken, so that it can be over.
  CHECK(f.Receive(Request(0, 1, 7)).dispatch);
}

TEST_CASE("a keep-alive is answered at once, with the grant and all that is acknowledged") {
  Follower f;
  const auto one = f.Begin(1, 1);
  f.End(one, 0);
  f.End(one, 1);
  f.grants.TakeRouting(nullptr, [] {
    RoutingTable table;
    table.set_epoch(5);
    table.set_shards(1);
    table.add_primary(kPrimary);
    table.add_servers()->set_incarnation(kPrimary);
    return *Routing::FromProto(table);
  }(), 4);
  auto received = f.Receive(Request(0, 0));
  CheckAck(received.answer, 1, 1);
  CHECK(received.answer->grant());
  CHECK(received.answer->sent_ms() == 100);
  received = f.Receive(Request(0, 0, 4));
  CHECK(!received.answer->grant());
}

TEST_CASE("a refused record comes again, with all after it, to every strand; nothing of it was acknowledged") {
  Follower f;
  const auto one = f.Begin(0, 1), two = f.Begin(0, 2);
  f.End(one, 0);
  CheckRefused(f.End(one, 1, absl::UnavailableError("not yet")), Code::kUnavailable, 1);
  CHECK(!f.End(two, 0));  // of the round before: counts no more
  CHECK(!f.End(two, 1));
  CHECK(!f.Receive(Request(0, 3)).answer);  // the sender knows
  const auto again = f.Receive(Request(0, 1));
  REQUIRE(again.dispatch);
  CHECK(again.ticket.everywhere);
  f.inbox.Dispatched(again.ticket, 1, 5);
  CheckAck(f.End(again.ticket, 0), 0, 1);
  CHECK(f.Begin(0, 2).everywhere);
  CHECK(!f.Begin(0, 3).everywhere);
}

TEST_CASE("whatever the reason, a refusal that another table does not cure is tried again") {
  Follower f;
  const auto one = f.Begin(0, 1);
  f.End(one, 0);
  CheckRefused(f.End(one, 1, absl::InvalidArgumentError("no sense")), Code::kUnavailable, 1);
}

TEST_CASE("diverged shards are told with the next answer") {
  Follower f;
  const auto one = f.Begin(0, 1);
  const std::vector<ShardId> diverged = {8};
  CHECK(!f.inbox.Finished(one, 0, absl::OkStatus(), diverged, 5));
  const auto answer = f.End(one, 1);
  CheckAck(answer, 0, 1);
  REQUIRE(answer->diverged_size() == 1);
  CHECK(answer->diverged(0) == 8);
}

TEST_CASE("a log that begins later takes the place of the one before, whose late messages mean nothing") {
  Follower f;
  const auto one = f.Begin(0, 1);
  const auto received = f.Receive(Request(0, 7, 5, 7));
  REQUIRE(received.dispatch);
  CHECK(!f.End(one, 0));
  CHECK(!f.End(one, 1));
  CheckAck(f.inbox.Dispatched(received.ticket, 0, 5), 0, 7);
  const auto late = f.Receive(Request(0, 2));
  CHECK(!late.dispatch);
  CHECK(!late.answer);
}

TEST_CASE("a lane beyond what a server can have is refused") {
  Follower f;
  const auto received = f.Receive(Request(Inbox::kLanesMax, 1));
  CHECK(!received.dispatch);
  CheckRefused(received.answer, Code::kUnavailable, 0);
}

TEST_CASE("a strand applies a record once, and none after one that it refused") {
  StrandLog log;
  using Verdict = StrandLog::Verdict;
  const auto at = [](uint64_t index, uint64_t log_start = 1, uint32_t lane = 0) {
    return StrandLog::Position{kPrimary, lane, index, log_start};
  };
  CHECK(log.Look(at(2)) == Verdict::kApply);  // 1 had nothing for this strand
  log.Done(at(2), true);
  CHECK(log.Look(at(2)) == Verdict::kDuplicate);
  log.Done(at(3), false);
  CHECK(log.Look(at(4)) == Verdict::kBlocked);
  CHECK(log.Look(at(4, 1, 1)) == Verdict::kApply);  // another lane
  CHECK(log.Look(at(2)) == Verdict::kDuplicate);
  CHECK(log.Look(at(3)) == Verdict::kApply);
  log.Done(at(3), true);
  CHECK(log.Look(at(4)) == Verdict::kApply);
  log.Done(at(4), false);
  CHECK(log.Look(at(9, 9)) == Verdict::kApply);  // that log is over
}

TEST_CASE("a push goes to the strands of its keys, or to all where it ends a clock; the rest to all") {
  constexpr int kLog2 = 4;
  std::vector<uint8_t> strand_of_shard(16, 0);
  const std::vector<Key> keys = {1, 2, 3, 4, 5, 6, 7, 8};
  const ShardId second = ShardOfHash(PlacementHash(0, keys[2]), kLog2);
  strand_of_shard[second] = 2;
  wire::PushRecord push;
  push.push.tables.push_back({0, PackedSpan<Key>(&keys[2], 1), {}, {}});
  RecordSplit split = SplitRecord(push, {3, strand_of_shard, kLog2});
  CHECK(split.strands == 4);
  CHECK(split.positions[2] == std::vector<uint32_t>{0});
  push.ended_shards = {second};
  CHECK(SplitRecord(push, {3, strand_of_shard, kLog2}).strands == 7);
  CHECK(SplitRecord(wire::SweepRecord{}, {3, strand_of_shard, kLog2}).strands == 7);
  CHECK(SplitRecord(wire::FillRecord{}, {64, strand_of_shard, kLog2}).strands == ~uint64_t{0});
}

TEST_CASE("answers that wait become one, but for refusals") {
  ReplicaResponse first, second, refusal;
  first.add_acks()->set_index(4);
  second.add_acks()->set_index(6);
  ReplicaAck* other = second.add_acks();
  other->set_lane(1);
  other->set_index(2);
  second.set_grant(true);
  second.set_sent_ms(50);
  first.set_sent_ms(70);
  REQUIRE(MergeAnswer(second, &first));
  REQUIRE(first.acks_size() == 2);
  CHECK(first.acks(0).index() == 6);
  CHECK(first.grant());
  CHECK(first.sent_ms() == 50);  // of the request that was granted
  refusal.set_code(14);
  CHECK(!MergeAnswer(refusal, &first));
  CHECK(!MergeAnswer(first, &refusal));
}

}  // namespace tidegate
