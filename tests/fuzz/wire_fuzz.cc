// The wire parser against protobuf's own: whatever ours accepts protobuf accepts, with the same content.

#include <google/protobuf/stubs/logging.h>

#include <algorithm>

#include "common/logging.h"
#include "common/wire/shard_wire.h"
#include "proto/shard_messages.pb.h"
#include "tests/common/wire/wire_messages.h"
#include "tests/fuzz/fuzz_target.h"

namespace tidegate::wire {
namespace {

// Ours refuses more (lengths, unknown kinds), so only what it accepts is compared: read and written
// again by protobuf, without unknown fields, it must mean the same.
template <typename Proto, typename Parse, typename Encode>
void Compare(const std::string& bytes, Parse parse, Encode encode) {
  const auto parsed = parse(BytesOf(bytes));
  if (!parsed.ok()) return;
  const std::string encoded = encode(*parsed);
  Proto proto;
  TG_CHECK(proto.ParseFromString(encoded)) << "protobuf cannot read what was encoded";
  if (!proto.ParseFromString(bytes)) {
    // Only where a string is no UTF-8, which ours mends.
    TG_CHECK(std::any_of(bytes.begin(), bytes.end(), [](char c) { return c & 0x80; }))
        << "accepted what protobuf refuses";
    return;
  }
  proto.DiscardUnknownFields();
  const std::string canonical = proto.SerializeAsString();
  const auto again = parse(BytesOf(canonical));
  TG_CHECK(again.ok()) << "refused what protobuf wrote";
  TG_CHECK(encode(*again) == encoded) << "understood otherwise than protobuf";
}

// In pieces of 1 to 16 bytes, as the bytes themselves say.
void CompareInPieces(Bytes bytes) {
  Fragments pieces;
  for (Bytes rest = bytes; !rest.empty();) {
    const size_t size = std::min(rest.size(), 1 + (static_cast<size_t>(rest[0]) & 15));
    pieces.Add(rest.first(size));
    rest = rest.subspan(size);
  }
  const auto one = ParseStreamResponse(bytes);
  const auto several = ParseFragmentedStreamResponse(pieces);
  TG_CHECK(one.status() == several.status()) << "pieces make a difference";
  if (!one.ok()) return;
  TG_CHECK(Flatten(EncodeStreamResponse(one->call, one->body)) ==
           Flatten(EncodeStreamResponse(several->call, several->body)))
      << "pieces were understood otherwise";
}

}  // namespace
}  // namespace tidegate::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tidegate::wire;
  const Bytes bytes = std::as_bytes(std::span(data, size));
  const std::string copy(reinterpret_cast<const char*>(data), size);
  Compare<tidegate::StreamRequest>(copy, ParseStreamRequest, [](const StreamRequest& m) {
    return Flatten(EncodeStreamRequest(m.call, m.body));
  });
  Compare<tidegate::StreamResponse>(copy, ParseStreamResponse, [](const StreamResponse& m) {
    return Flatten(EncodeStreamResponse(m.call, m.body));
  });
  CompareInPieces(bytes);
  (void)CallOf(bytes);
  (void)ParsePullRequest(bytes);
  (void)ParsePushRequest(bytes);
  (void)ParseClockRequest(bytes);
  (void)ParsePullResponse(bytes);
  (void)ParsePushResponse(bytes);
  (void)ParseClockResponse(bytes);
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  google::protobuf::SetLogHandler(nullptr);  // it would log each string that is no UTF-8
  std::vector<std::string> out;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    tidegate::wire::RandomMessages messages(seed);
    tidegate::StreamRequest request;
    messages.Fill(&request);
    out.push_back(request.SerializeAsString());
    tidegate::StreamResponse response;
    messages.Fill(&response);
    out.push_back(response.SerializeAsString());
  }
  return out;
}
