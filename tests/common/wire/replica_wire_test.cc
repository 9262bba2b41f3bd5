#include "common/wire/replica_wire.h"

#include <catch2/catch.hpp>
#include <functional>
#include <limits>

#include "tests/common/wire/replica_messages.h"

namespace tidegate::wire {
namespace {

using Proto = tidegate::ReplicaRequest;

absl::Status StatusOf(const Proto& m) { return ParseReplicaRequest(BytesOf(m.SerializeAsString())).status(); }

Proto Log() {
  Proto m;
  m.set_index(1);
  return m;
}

}  // namespace

TEST_CASE("requests of replication: protobuf's bytes, read and written again, stay the same") {
  RandomReplicaMessages messages(1);
  for (int i = 0; i < 2000; ++i) {
    Proto m;
    messages.Fill(&m);
    const std::string bytes = m.SerializeAsString();
    const auto parsed = ParseReplicaRequest(BytesOf(bytes));
    INFO(m.ShortDebugString() << parsed.status().ToString());
    REQUIRE(parsed.ok());
    const Pieces pieces = EncodeReplicaRequest(*parsed);
    REQUIRE(Flatten(pieces) == bytes);
    REQUIRE(TotalBytes(pieces) == bytes.size());
  }
}

TEST_CASE("values of a push and rows of a fill are payloads that view the original") {
  Proto m = Log();
  auto* table = m.mutable_push()->mutable_push()->add_tables();
  table->set_keys(std::string(80, 'k'));
  table->set_values(std::string(4000, 'v'));
  const std::string bytes = m.SerializeAsString();
  const auto push = ParseReplicaRequest(BytesOf(bytes));
  REQUIRE(push.ok());
  const Pieces pieces = EncodeReplicaRequest(*push);
  REQUIRE(pieces.size() == 2);
  CHECK(pieces[1].payload.data() == reinterpret_cast<const std::byte*>(bytes.data()) + bytes.find(std::string(4000, 'v')));

  m = Log();
  m.mutable_fill()->set_records(std::string(5000, 'r'));
  const std::string fill = m.SerializeAsString();
  const auto parsed = ParseReplicaRequest(BytesOf(fill));
  REQUIRE(parsed.ok());
  const Pieces one = EncodeReplicaRequest(*parsed);
  REQUIRE(one.size() == 1);
  CHECK(one[0].payload.size() == 5000);
  CHECK(one[0].payload.data() == reinterpret_cast<const std::byte*>(fill.data()) + fill.find(std::string(5000, 'r')));
}

TEST_CASE("a cut request is refused, or read as protobuf reads it") {
  int read = 0;
  for (uint64_t seed = 1; seed < 40; ++seed) {
    RandomReplicaMessages messages(seed);
    Proto m;
    messages.Fill(&m);
    const std::string bytes = m.SerializeAsString();
    for (size_t n = 0; n < bytes.size(); ++n) {
      const std::string cut = bytes.substr(0, n);
      const auto parsed = ParseReplicaRequest(BytesOf(cut));
      if (!parsed.ok()) continue;
      Proto proto;
      REQUIRE(proto.ParseFromString(cut));
      ++read;
    }
  }
  CHECK(read < 40);
}

TEST_CASE("a body named twice is merged, another one takes its place") {
  Proto first = Log(), second;
  first.mutable_push()->set_clock(7);
  first.mutable_push()->add_skip_shards(1);
  second.mutable_push()->add_skip_shards(5);
  second.mutable_push()->set_lr_scale(2);
  auto merged = ParseReplicaRequest(BytesOf(first.SerializeAsString() + second.SerializeAsString()));
  REQUIRE(merged.ok());
  const auto& push = std::get<PushRecord>(merged->body);
  CHECK(push.clock == 7);
  CHECK(push.lr_scale == 2);
  CHECK(push.skip_shards == absl::InlinedVector<ShardId, 4>{1, 5});

  Proto control;
  control.mutable_control()->mutable_sweep()->set_clock(3);
  const auto replaced = ParseReplicaRequest(BytesOf(first.SerializeAsString() + control.SerializeAsString()));
  REQUIRE(replaced.ok());
  CHECK(std::get<SweepRecord>(replaced->body).clock == 3);
}

TEST_CASE("requests that contradict themselves are refused, and say in what") {
  const auto refused = [](const char* why, const std::function<void(Proto*)>& spoil) {
    Proto m = Log();
    spoil(&m);
    const absl::Status status = StatusOf(m);
    INFO(why << ": " << status.ToString());
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK(std::string(status.message()).find(why) != std::string::npos);
  };
  refused("without a body", [](Proto*) {});
  refused("without a body", [](Proto* m) { m->mutable_control(); });
  refused("KeepAlive with an index", [](Proto* m) { m->mutable_keep_alive(); });
  refused("without an index", [](Proto* m) {
    m->set_index(0);
    m->mutable_fill();
  });
  refused("before log_start", [](Proto* m) {
    m->set_log_start(2);
    m->mutable_fill();
  });
  refused("sent_ms", [](Proto* m) {
    m->mutable_fill();
    m->set_sent_ms(~0ull);
  });
  refused("lr_scale", [](Proto* m) { m->mutable_push()->set_lr_scale(std::numeric_limits<float>::infinity()); });
  refused("ascending", [](Proto* m) {
    m->mutable_push()->add_skip_shards(4);
    m->mutable_push()->add_skip_shards(4);
  });
  refused("ended_shards", [](Proto* m) {
    m->mutable_push()->add_ended_shards(4);
    m->mutable_push()->add_ended_shards(3);
  });
  refused("skip_shards", [](Proto* m) {
    for (uint32_t i = 0; i <= 65536; ++i) m->mutable_push()->add_skip_shards(i);
  });
  refused("digests", [](Proto* m) { m->mutable_control()->mutable_digest()->add_shards(1); });
  refused("keys", [](Proto* m) { m->mutable_push()->mutable_push()->add_tables()->set_keys("odd"); });
  refused("counts", [](Proto* m) {
    auto* table = m->mutable_push()->mutable_push()->add_tables();
    table->set_keys(std::string(16, 'k'));
    table->set_counts(std::string(4, 'c'));
  });
}

TEST_CASE("digests may come unpacked, as protobuf allows") {
  // index 1; control { digest { shards: 5 digests: 1 } }
  const std::string bytes("\x38\x01\x5a\x0d\x1a\x0b\x08\x05\x11\x01\0\0\0\0\0\0\0", 17);
  const auto parsed = ParseReplicaRequest(BytesOf(bytes));
  REQUIRE(parsed.ok());
  CHECK(std::get<DigestRecord>(parsed->body).digests == std::vector<uint64_t>{1});
}

}  // namespace tidegate::wire
