#include "server/replication/outbox.h"

#include <catch2/catch.hpp>

#include "absl/status/status.h"

namespace tidegate {
namespace {

constexpr Incarnation kSelf = 3, kFollower = 4;

Outbox::Options Settings() {
  Outbox::Options options;
  options.generation = 9;
  options.self = kSelf;
  options.follower = kFollower;
  options.grant_ms = 400;
  options.window_bytes = 1000;
  return options;
}

OutRecord Record(uint64_t index, size_t bytes = 100) {
  OutRecord record;
  record.follower = kFollower;
  record.index = index;
  record.body = wire::SweepRecord{0, static_cast<Clock>(index), {}};
  record.bytes = bytes;
  return record;
}

// "lane:index" of what is sent now, keep-alives left out.
std::vector<std::string> SentNow(Outbox& box, TimeMs now) {
  std::vector<std::string> out;
  while (auto message = box.Next(now)) {
    const wire::ReplicaRequest& r = message->request;
    if (r.index != 0) out.push_back(std::to_string(r.lane) + ":" + std::to_string(r.index));
  }
  return out;
}
using Sent = std::vector<std::string>;

ReplicaResponse Ack(uint32_t lane, uint64_t index) {
  ReplicaResponse response;
  ReplicaAck* ack = response.add_acks();
  ack->set_lane(lane);
  ack->set_index(index);
  return response;
}
ReplicaResponse Refusal(absl::StatusCode code, uint32_t lane, Epoch epoch, uint64_t expected = 0) {
  ReplicaResponse response;
  response.set_code(static_cast<uint32_t>(code));
  response.set_lane(lane);
  response.set_epoch(epoch);
  response.set_expected(expected);
  return response;
}

struct Box : Outbox {
  Box() : Outbox(Settings()) {
    SetRouting(5, ~uint64_t{0});
    Connected(0);
  }
};

}  // namespace

TEST_CASE("a record goes out with the epoch that it follows from, where the outbox does not know it yet") {
  Box box;
  REQUIRE(box.Next(0)->request.index == 0);  // a keep-alive
  OutRecord record = Record(1);
  record.epoch = 7;
  box.Append(0, record);
  CHECK(box.Next(1)->request.epoch == 7);
  box.Append(0, Record(2));
  CHECK(box.Next(1)->request.epoch == 5);
}

TEST_CASE("an outbox sends nothing before its stream is up, then each record once, by lane in order") {
  Outbox box(Settings());
  box.SetRouting(5, ~uint64_t{0});
  for (uint64_t i = 1; i <= 3; ++i) box.Append(0, Record(i));
  box.Append(2, Record(1));
  CHECK(!box.Next(10).has_value());
  box.Connected(10);
  const auto first = box.Next(10);
  REQUIRE(first.has_value());
  CHECK(first->request.index == 0);  // a keep-alive: grants come at once
  CHECK(first->request.sent_ms == 10);
  CHECK(first->request.epoch == 5);
  CHECK(first->request.sender == kSelf);
  CHECK(first->request.receiver == kFollower);
  CHECK(first->request.generation == 9);
  CHECK(SentNow(box, 10) == Sent{"0:1", "2:1", "0:2", "0:3"});
  CHECK(SentNow(box, 11).empty());
}

TEST_CASE("a keep-alive goes every quarter of a grant") {
  Box box;
  CHECK(box.Next(0).has_value());
  CHECK(!box.Next(99).has_value());
  CHECK(box.Next(100).has_value());
  CHECK(!box.Next(101).has_value());
}

TEST_CASE("acknowledgements are cumulative, told once, and free what they cover") {
  Box box;
  for (uint64_t i = 1; i <= 4; ++i) box.Append(1, Record(i));
  SentNow(box, 0);
  CHECK(box.unacknowledged_bytes() == 400);
  auto outcome = box.Take(Ack(1, 3), 5);
  REQUIRE(outcome.acknowledged.size() == 1);
  CHECK(outcome.acknowledged[0].lane == 1);
  CHECK(outcome.acknowledged[0].index == 3);
  CHECK(box.unacknowledged_bytes() == 100);
  CHECK(box.Take(Ack(1, 3), 5).acknowledged.empty());
  CHECK(box.Take(Ack(1, 2), 5).acknowledged.empty());
  CHECK(box.Take(Ack(7, 2), 5).acknowledged.empty());
}

TEST_CASE("an acknowledgement of what was never sent acknowledges only what was") {
  Box box;
  for (uint64_t i = 1; i <= 20; ++i) box.Append(0, Record(i));
  CHECK(SentNow(box, 0).size() == 10);  // the window
  const auto outcome = box.Take(Ack(0, 20), 1);
  REQUIRE(outcome.acknowledged.size() == 1);
  CHECK(outcome.acknowledged[0].index == 10);
}

TEST_CASE("the window bounds what is under way; a record above it goes alone") {
  Box box;
  box.Append(0, Record(1, 600));
  box.Append(0, Record(2, 600));
  box.Append(0, Record(3, 5000));
  CHECK(SentNow(box, 0) == Sent{"0:1"});
  box.Take(Ack(0, 1), 1);
  CHECK(SentNow(box, 1) == Sent{"0:2"});
  box.Take(Ack(0, 2), 2);
  CHECK(SentNow(box, 2) == Sent{"0:3"});
}

TEST_CASE("a new stream carries again what is not acknowledged") {
  Box box;
  for (uint64_t i = 1; i <= 3; ++i) box.Append(0, Record(i));
  SentNow(box, 0);
  box.Take(Ack(0, 1), 1);
  box.Disconnected();
  box.Append(0, Record(4));
  CHECK(!box.Next(500).has_value());
  box.Connected(500);
  CHECK(SentNow(box, 500) == Sent{"0:2", "0:3", "0:4"});
  // An answer to the old stream still counts.
  CHECK(box.Take(Ack(0, 3), 501).acknowledged.size() == 1);
  CHECK(box.unacknowledged_records() == 1);
}

TEST_CASE("a gap is filled from where the follower expects") {
  Box box;
  for (uint64_t i = 1; i <= 4; ++i) box.Append(0, Record(i));
  SentNow(box, 0);
  box.Take(Refusal(absl::StatusCode::kOutOfRange, 0, 5, 3), 1);
  CHECK(SentNow(box, 1) == Sent{"0:3", "0:4"});
  box.Take(Refusal(absl::StatusCode::kOutOfRange, 0, 5, 0), 2);  // nonsense: from the first
  CHECK(SentNow(box, 2) == Sent{"0:1", "0:2", "0:3", "0:4"});
  box.Take(Refusal(absl::StatusCode::kOutOfRange, 0, 5, 77), 3);
  CHECK(SentNow(box, 3).empty());
}

TEST_CASE("UNAVAILABLE: again after a little while, the other lanes meanwhile") {
  Box box;
  box.Append(0, Record(1));
  box.Append(1, Record(1));
  SentNow(box, 0);
  box.Take(Refusal(absl::StatusCode::kUnavailable, 0, 5), 1);
  box.Append(1, Record(2));
  CHECK(SentNow(box, 1) == Sent{"1:2"});
  CHECK(SentNow(box, 20).empty());
  CHECK(SentNow(box, 21) == Sent{"0:1"});
}

TEST_CASE("a deposed primary sends no records until its table is as new as that of the one that refused it") {
  Box box;
  box.Append(0, Record(1));
  SentNow(box, 0);
  const auto outcome = box.Take(Refusal(absl::StatusCode::kFailedPrecondition, 0, 7), 1);
  CHECK(outcome.newer_epoch == 7);
  CHECK(SentNow(box, 1000).empty());
  box.SetRouting(6, ~uint64_t{0});
  CHECK(SentNow(box, 1000).empty());
  box.SetRouting(7, ~uint64_t{0});
  CHECK(SentNow(box, 1000) == Sent{"0:1"});
}

TEST_CASE("without progress a log is sent again: answers may be lost") {
  Box box;
  box.Append(0, Record(1));
  box.Append(0, Record(2));
  SentNow(box, 0);
  CHECK(SentNow(box, 4999).empty());
  CHECK(SentNow(box, 5000) == Sent{"0:1", "0:2"});
  box.Take(Ack(0, 1), 9000);
  CHECK(SentNow(box, 13999).empty());
  CHECK(SentNow(box, 14000) == Sent{"0:2"});
}

TEST_CASE("a follower that left the routing costs nothing, and comes back to a log that begins later") {
  Box box;
  box.Append(0, Record(1));
  box.Append(0, Record(2));
  box.Append(1, Record(1));
  SentNow(box, 0);
  box.SetRouting(6, 2);
  CHECK(box.unacknowledged_bytes() == 100);
  CHECK(SentNow(box, 1).empty());
  box.Append(0, Record(3));
  const auto again = box.Next(2);
  REQUIRE(again.has_value());
  CHECK(again->request.index == 3);
  CHECK(again->request.log_start == 3);
  // An acknowledgement of the log that is over takes nothing of the new one away.
  CHECK(box.Take(Ack(0, 2), 3).acknowledged.empty());
  CHECK(box.unacknowledged_bytes() == 200);
}

TEST_CASE("a grant runs from when the request was sent, and never from the future") {
  Box box;
  ReplicaResponse response;
  response.set_sent_ms(70);
  CHECK(box.Take(response, 90).granted_until == 0);
  response.set_grant(true);
  CHECK(box.Take(response, 90).granted_until == 470);
  response.set_sent_ms(91);
  CHECK(box.Take(response, 90).granted_until == 0);
}

TEST_CASE("what the follower says of diverged shards is passed on") {
  Box box;
  ReplicaResponse response;
  response.add_diverged(11);
  CHECK(box.Take(response, 1).diverged == std::vector<ShardId>{11});
}

}  // namespace tidegate
