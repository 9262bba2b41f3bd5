// The parser of replication's requests against protobuf's own: whatever it accepts protobuf accepts, with the
// same content.

#include <google/protobuf/stubs/logging.h>

#include "common/logging.h"
#include "common/wire/replica_wire.h"
#include "proto/replica_messages.pb.h"
#include "tests/common/wire/replica_messages.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tidegate::wire;
  const auto parsed = ParseReplicaRequest(std::as_bytes(std::span(data, size)));
  if (!parsed.ok()) return 0;
  const std::string encoded = Flatten(EncodeReplicaRequest(*parsed));
  tidegate::ReplicaRequest proto;
  TG_CHECK(proto.ParseFromString(encoded)) << "protobuf cannot read what was encoded";
  TG_CHECK(proto.ParseFromArray(data, static_cast<int>(size))) << "accepted what protobuf refuses";
  proto.DiscardUnknownFields();
  const std::string canonical = proto.SerializeAsString();
  const auto again = ParseReplicaRequest(BytesOf(canonical));
  TG_CHECK(again.ok()) << "refused what protobuf wrote: " << again.status().message();
  TG_CHECK(Flatten(EncodeReplicaRequest(*again)) == encoded) << "understood otherwise than protobuf";
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  google::protobuf::SetLogHandler(nullptr);
  std::vector<std::string> out;
  tidegate::wire::RandomReplicaMessages messages(1);
  for (int i = 0; i < 60; ++i) {
    tidegate::ReplicaRequest request;
    messages.Fill(&request);
    out.push_back(request.SerializeAsString());
  }
  return out;
}
