#include "common/wire/shard_wire.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

#include "tests/common/wire/wire_messages.h"

namespace {
size_t largest_allocation = 0;
}  // namespace

// GCC takes free() of what operator new returned for a mistake: here the two are a pair.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
void* operator new(size_t bytes) {
  largest_allocation = std::max(largest_allocation, bytes);
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  largest_allocation = std::max(largest_allocation, bytes);
  return std::malloc(bytes);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

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

// Bytes that end where the page after them may not be read.
class GuardedBytes {
 public:
  explicit GuardedBytes(size_t size_max) : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    size_ = (size_max + page_ - 1) / page_ * page_;
    void* memory = mmap(nullptr, size_ + page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    memory_ = static_cast<char*>(memory);
    REQUIRE(mprotect(memory_ + size_, page_, PROT_NONE) == 0);
  }
  ~GuardedBytes() { munmap(memory_, size_ + page_); }
  Bytes Put(const std::string& bytes) {
    REQUIRE(bytes.size() <= size_);
    char* begin = memory_ + size_ - bytes.size();
    std::memcpy(begin, bytes.data(), bytes.size());
    return {reinterpret_cast<const std::byte*>(begin), bytes.size()};
  }

 private:
  const size_t page_;
  size_t size_;
  char* memory_;
};

// Whether the protocol allows what protobuf has read.
bool Allowed(const tidegate::PullRequest& m) {
  return std::all_of(m.tables().begin(), m.tables().end(),
                     [](const auto& t) { return t.keys().size() % 8 == 0; });
}
bool Allowed(const tidegate::PushRequest& m) {
  return std::all_of(m.tables().begin(), m.tables().end(), [](const auto& t) {
    return t.keys().size() % 8 == 0 &&
           (t.counts().empty() || t.counts().size() * 2 == t.keys().size());
  });
}
bool Allowed(const tidegate::PullResponse&) { return true; }
bool Allowed(const tidegate::ClockRequest& m) { return m.kind_case() != 0; }
bool Allowed(const tidegate::StreamRequest& m) { return m.body_case() != 0; }

// Cuts messages everywhere. Returns at how many cuts short of the whole they could be read.
template <typename Message, typename Parse, typename Encode>
int CutEverywhere(Parse parse, Encode encode) {
  int read = 0;
  for (uint64_t seed = 1; seed < 20; ++seed) {
    RandomMessages messages(seed);
    Message m;
    messages.Fill(&m);
    const std::string bytes = m.SerializeAsString();
    GuardedBytes guarded(bytes.size());
    for (size_t n = 0; n < bytes.size(); ++n) {
      const std::string cut = bytes.substr(0, n);
      Message proto;
      const bool expected = proto.ParseFromString(cut) && Allowed(proto);
      const auto parsed = parse(guarded.Put(cut));
      INFO("the first " << n << " of " << bytes.size() << " bytes of " << m.ShortDebugString());
      REQUIRE(parsed.ok() == expected);
      if (!expected) continue;
      ++read;
      REQUIRE(proto.ParseFromString(Flatten(encode(*parsed))));
      CHECK(proto.SerializeAsString() == Flatten(encode(*parsed)));
    }
  }
  return read;
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

TEST_CASE("a response in pieces says the same as in one, wherever it is cut") {
  Random random(9);
  int pulls = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    RandomMessages messages(seed);
    tidegate::StreamResponse m;
    messages.Fill(&m);
    const std::string bytes = m.SerializeAsString();
    for (const uint64_t piece_max : {1, 7, 400}) {
      const Fragments pieces = InPieces(BytesOf(bytes), piece_max, random);
      const auto parsed = ParseFragmentedStreamResponse(pieces);
      INFO(m.ShortDebugString());
      REQUIRE(parsed.ok());
      CHECK(Flatten(EncodeStreamResponse(parsed->call, parsed->body)) == bytes);
    }
    const size_t cut = random.Below(bytes.size());
    const auto part = ParseFragmentedStreamResponse(InPieces(BytesOf(bytes).first(cut), 5, random));
    CHECK(part.ok() == ParseStreamResponse(BytesOf(bytes).first(cut)).ok());
    pulls += m.has_pull();
  }
  CHECK(pulls > 50);
  CHECK(ParseFragmentedStreamResponse({}).status() == ParseStreamResponse({}).status());
}

TEST_CASE("values of a response in pieces stay where they are") {
  tidegate::StreamResponse m;
  m.mutable_pull()->add_tables()->set_values(std::string(100, 'v'));
  const std::string bytes = m.SerializeAsString();
  Fragments pieces;
  pieces.Add(BytesOf(bytes).first(30));
  pieces.Add(BytesOf(bytes).subspan(30));
  const auto parsed = ParseFragmentedStreamResponse(pieces);
  REQUIRE(parsed.ok());
  const Fragments& values = std::get<PullResponse>(parsed->body).tables[0].values;
  REQUIRE(values.pieces().size() == 2);
  CHECK(values.size() == 100);
  CHECK(values.pieces()[0].data() == BytesOf(bytes).last(100).data());
  CHECK(values.pieces()[1].data() == BytesOf(bytes).data() + 30);
}

TEST_CASE("fragments are read in runs of any size, copied only where they are cut") {
  const std::string text = "abcdefghij";
  Fragments pieces;
  for (const auto& [at, size] : {std::pair<size_t, size_t>{0, 4}, {4, 1}, {5, 0}, {5, 5}}) {
    pieces.Add(BytesOf(text).subspan(at, size));
  }
  CHECK(pieces.pieces().size() == 3);
  FragmentReader in(pieces.pieces());
  const auto take = [&](size_t n) { return StringOf({in.Take(n), n}); };
  CHECK(in.Take(3) == BytesOf(text).data());
  CHECK(take(3) == "def");
  CHECK(take(2) == "gh");
  CHECK(take(2) == "ij");
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
  const auto request = [](const auto& m) { return EncodeRequest(m); };
  const auto response = [](const auto& m) { return EncodeResponse(m); };
  CHECK(CutEverywhere<tidegate::PullRequest>(ParsePullRequest, request) > 50);
  CHECK(CutEverywhere<tidegate::PushRequest>(ParsePushRequest, request) > 50);
  CHECK(CutEverywhere<tidegate::PullResponse>(ParsePullResponse, response) > 20);
  CHECK(CutEverywhere<tidegate::ClockRequest>(ParseClockRequest, request) == 0);  // the kind comes last
  CHECK(CutEverywhere<tidegate::StreamRequest>(ParseStreamRequest, [](const auto& m) {
          return EncodeStreamRequest(m.call, m.body);
        }) == 0);  // the body comes last
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

TEST_CASE("a claimed length beyond the message is refused without an allocation of that size") {
  for (const uint64_t length : {uint64_t{1} << 20, uint64_t{1} << 31, uint64_t{1} << 62, ~uint64_t{0}}) {
    std::string varint;
    for (uint64_t rest = length; rest > 0; rest >>= 7) {
      varint += static_cast<char>((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    }
    const std::string keys = "\x12" + varint + "12345678";  // field 2 of a table
    const std::string pull = "\x32" + varint + keys;         // tables, as long
    const std::string inner = "\x32" + std::string(1, static_cast<char>(keys.size())) + keys;
    for (const std::string& bytes : {pull, inner}) {
      largest_allocation = 0;
      const absl::StatusCode code = ParsePullRequest(BytesOf(bytes)).status().code();
      const size_t largest = largest_allocation;
      CHECK(code == absl::StatusCode::kInvalidArgument);
      CHECK(largest > 0);  // the error's text: the counting works
      CHECK(largest < 1024);
    }
  }
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
