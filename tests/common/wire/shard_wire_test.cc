#include "common/wire/shard_wire.h"

#include <catch2/catch.hpp>
#include <limits>

#include "tests/common/wire/wire_messages.h"

namespace tidegate::wire {
namespace {

constexpr int kRounds = 400;

// parse(protobuf's bytes), encoded by ours, must be protobuf's bytes again: nothing is lost or added,
// and protobuf reads what we write.
template <typename Message, typename Parse, typename Encode>
void RoundTrips(uint64_t seed, Parse parse, Encode encode) {
  RandomMessages messages(seed);
  for (int i = 0; i < kRounds; ++i) {
    Message m;
    messages.Fill(&m);
    const std::string bytes = m.SerializeAsString();
    auto parsed = parse(BytesOf(bytes));
    INFO(m.ShortDebugString());
    REQUIRE(parsed.ok());
    const Pieces pieces = encode(*parsed);
    REQUIRE(Flatten(pieces) == bytes);
    REQUIRE(TotalBytes(pieces) == bytes.size());
  }
}

std::string Serialized(uint64_t seed) {
  RandomMessages messages(seed);
  tidegate::StreamRequest m;
  messages.Fill(&m);
  return m.SerializeAsString();
}

}  // namespace

TEST_CASE("every message round trips through protobuf's own encoding, byte for byte") {
  const auto request = [](const auto& m) { return EncodeRequest(m); };
  const auto response = [](const auto& m) { return EncodeResponse(m); };
  RoundTrips<tidegate::PullRequest>(1, ParsePullRequest, request);
  RoundTrips<tidegate::PushRequest>(2, ParsePushRequest, request);
  RoundTrips<tidegate::ClockRequest>(3, ParseClockRequest, request);
  RoundTrips<tidegate::PullResponse>(4, ParsePullResponse, response);
  RoundTrips<tidegate::PushResponse>(5, ParsePushResponse, response);
  RoundTrips<tidegate::ClockResponse>(6, ParseClockResponse, response);
  RoundTrips<tidegate::StreamRequest>(
      7, ParseStreamRequest, [](const auto& m) { return EncodeStreamRequest(m.call, m.body); });
  RoundTrips<tidegate::StreamResponse>(
      8, ParseStreamResponse, [](const auto& m) { return EncodeStreamResponse(m.call, m.body); });
}

TEST_CASE("a parsed push views the bytes it came from") {
  tidegate::PushRequest m;
  auto* t = m.add_tables();
  t->set_table(3);
  t->set_keys(std::string(16, 'k'));
  t->set_values("values");
  const std::string bytes = m.SerializeAsString();
  auto parsed = ParsePushRequest(BytesOf(bytes));
  REQUIRE(parsed.ok());
  const auto* at = reinterpret_cast<const char*>(parsed->tables[0].values.data());
  CHECK(at >= bytes.data());
  CHECK(at + 6 <= bytes.data() + bytes.size());
  CHECK(StringOf(parsed->tables[0].values) == "values");
  CHECK(parsed->tables[0].keys.size() == 2);
}

TEST_CASE("big buffers are not copied by the encoder") {
  const std::vector<Key> keys = {1, 2, 3};
  const std::string values(12, 'v');
  PushRequest m;
  m.tables.push_back({1, PackedSpan<Key>(keys.data(), keys.size()), BytesOf(values), {}});
  const Pieces pieces = EncodeStreamRequest(7, m);
  REQUIRE(pieces.size() == 2);
  CHECK(static_cast<const void*>(pieces[0].payload.data()) == keys.data());
  CHECK(static_cast<const void*>(pieces[1].payload.data()) == values.data());
}

TEST_CASE("the clocks' extremes survive") {
  for (Clock c : {Clock{-1}, Clock{0}, kNoBound, std::numeric_limits<Clock>::max()}) {
    PullRequest m;
    m.clock = c;
    m.bound = kNoBound;
    const std::string bytes = Flatten(EncodeRequest(m));
    tidegate::PullRequest proto;
    REQUIRE(proto.ParseFromString(bytes));
    CHECK(proto.clock() == c);
    CHECK(proto.bound() == kNoBound);
    CHECK(ParsePullRequest(BytesOf(bytes))->clock == c);
  }
}

TEST_CASE("unknown fields and groups are skipped") {
  const std::string known = Serialized(3);
  std::string unknown;
  unknown += std::string("\x98\x06\x05", 3);              // field 99, varint
  unknown += std::string("\x9a\x06\x02", 3) + "ab";       // field 99, bytes
  unknown += std::string("\x9b\x06\x08\x01\x9c\x06", 6);  // field 99, group with a varint
  unknown += std::string("\x9d\x06", 2) + "1234";         // field 99, fixed32
  const std::string all = unknown + known + unknown;
  auto with = ParseStreamRequest(BytesOf(all));
  REQUIRE(with.ok());
  CHECK(Flatten(EncodeStreamRequest(with->call, with->body)) == known);
}

TEST_CASE("fields in another order and scattered parts of a body are merged as protobuf does") {
  tidegate::StreamRequest a, b;
  a.set_call(5);
  a.mutable_pull()->set_clock(4);
  a.mutable_pull()->add_tables()->set_table(1);
  b.mutable_pull()->set_bound(3);
  b.mutable_pull()->add_tables()->set_table(2);
  const std::string bytes = b.SerializeAsString() + a.SerializeAsString();
  tidegate::StreamRequest merged;
  REQUIRE(merged.ParseFromString(bytes));
  auto parsed = ParseStreamRequest(BytesOf(bytes));
  REQUIRE(parsed.ok());
  CHECK(Flatten(EncodeStreamRequest(parsed->call, parsed->body)) == merged.SerializeAsString());
}

TEST_CASE("refused shards may come unpacked") {
  const std::string bytes("\x18\x05\x18\x06", 4);  // field 3, twice
  auto parsed = ParsePullResponse(BytesOf(bytes));
  REQUIRE(parsed.ok());
  CHECK(parsed->refused_shards == absl::InlinedVector<uint32_t, 4>{5, 6});
}

TEST_CASE("every truncation of a message is refused or ends at a field, never read past") {
  for (uint64_t seed = 1; seed < 20; ++seed) {
    const std::string bytes = Serialized(seed);
    for (size_t n = 0; n < bytes.size(); ++n) {
      const std::string cut(bytes.data(), n);  // own allocation: ASan sees a read beyond
      tidegate::StreamRequest proto;
      const bool protobuf_reads = proto.ParseFromString(cut);
      if (ParseStreamRequest(BytesOf(cut)).ok()) CHECK(protobuf_reads);
    }
  }
}

TEST_CASE("mismatched lengths are refused with both numbers") {
  tidegate::PushRequest m;
  auto* t = m.add_tables();
  t->set_keys(std::string(16, 'k'));
  t->set_counts(std::string(12, 'c'));
  auto parsed = ParsePushRequest(BytesOf(m.SerializeAsString()));
  CHECK(parsed.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(parsed.status().message() == "table 0: 3 counts for 2 keys");
  t->set_keys(std::string(15, 'k'));
  parsed = ParsePushRequest(BytesOf(m.SerializeAsString()));
  CHECK(parsed.status().message() == "keys of 15 bytes: must be a multiple of 8");
}

TEST_CASE("a claimed length beyond the message is refused without an allocation") {
  // tables, length 2^62
  const std::string bytes("\x32\x80\x80\x80\x80\x80\x80\x80\x80\x40", 10);
  CHECK(ParsePullRequest(BytesOf(bytes)).status().code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("a message of empty tables cannot make memory grow without bound") {
  std::string bytes;
  for (size_t i = 0; i <= kTablesMax; ++i) bytes += std::string("\x32\x00", 2);
  CHECK(!ParsePullRequest(BytesOf(bytes)).ok());
}

TEST_CASE("values that the protocol does not know are refused") {
  CHECK(!ParsePullRequest(BytesOf(std::string("\x20\x02", 2))).ok());  // mode 2
  CHECK(!ParsePullRequest(BytesOf(std::string("\x28\x02", 2))).ok());  // wire_type 2
  CHECK(!ParseClockRequest(BytesOf(std::string("\x10\x02", 2))).ok());  // no kind
  CHECK(!ParseStreamRequest(BytesOf(std::string("\x08\x02", 2))).ok());  // no body
  CHECK(!ParseStreamResponse(BytesOf(std::string("\x08\x02", 2))).ok());
}

TEST_CASE("an error's text is made valid for a string field, its code kept") {
  const std::string bytes =
      Flatten(EncodeStreamResponse(9, absl::NotFoundError("bad \xff byte")));
  tidegate::StreamResponse proto;
  REQUIRE(proto.ParseFromString(bytes));
  CHECK(proto.error() == "bad ? byte");
  CHECK(proto.code() == 5);
  auto parsed = ParseStreamResponse(BytesOf(bytes));
  REQUIRE(parsed.ok());
  CHECK(std::get<absl::Status>(parsed->body).code() == absl::StatusCode::kNotFound);
}

TEST_CASE("the call number of a broken request is still found") {
  std::string bytes("\x08\x07\x1a\x02\x4a\x09", 6);  // call 7, push with a truncated table
  CHECK(!ParseStreamRequest(BytesOf(bytes)).ok());
  CHECK(CallOf(BytesOf(bytes)) == 7);
  CHECK(CallOf(BytesOf(std::string("\xff", 1))) == 0);
}

TEST_CASE("a guest that leaves parts out sends one part") {
  CHECK(ParsePushRequest(BytesOf(std::string()))->parts == 1);
}

}  // namespace tidegate::wire
