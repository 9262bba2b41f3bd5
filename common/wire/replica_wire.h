#pragma once
// The messages of replication (proto/replica_messages.proto) on raw bytes: parsed in place, and written as
// small fields around big buffers that are not copied; byte-compatible with protobuf's own encoding. As
// common/wire/shard_wire.h, whose rules hold here too: what comes from outside is checked before it is used,
// INVALID_ARGUMENT names the field, and a parsed view points into its bytes. Thread-safe: free functions.

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/types.h"
#include "common/wire/shard_wire.h"
#include "proto/checkpoint.pb.h"
#include "proto/cluster.pb.h"

namespace tidegate::wire {

struct KeepAlive {};
struct PushRecord {
  Clock clock = 0;
  float lr_scale = 1;
  absl::InlinedVector<ShardId, 4> skip_shards;  // ascending
  std::vector<ShardId> ended_shards;  // staleness 0: `clock` is applied in these; ascending
  PushRequest push;
  std::vector<Incarnation> contributors;  // drop_slowest: whose pushes of `clock` count; nothing else is in the record
};
struct SweepRecord {
  TableId table = 0;
  Clock clock = 0;
  std::vector<ShardId> shards;
};
struct WorkersRecord {
  WorkerSet workers;
};
struct DigestRecord {
  std::vector<ShardId> shards;
  std::vector<uint64_t> digests;
};
struct FillRecord {
  ShardId shard = 0;
  bool begins = false;
  ShardFileHeader header;  // where it begins
  TableId table = 0;
  bool end = false;
  Bytes records;
};
// What a log holds; KeepAlive is none of it.
using Record = std::variant<KeepAlive, PushRecord, SweepRecord, WorkersRecord, DigestRecord, FillRecord>;

struct ReplicaRequest {
  uint64_t generation = 0;
  Epoch epoch = 0;
  Incarnation sender = 0;
  Incarnation receiver = 0;
  TimeMs sent_ms = 0;
  uint32_t lane = 0;
  uint64_t index = 0;      // 0: a KeepAlive
  uint64_t log_start = 0;
  Record body;
};

// INVALID_ARGUMENT also: no body, an index without a log entry or the reverse, skip_shards or ended_shards not
// ascending, an lr_scale that is not finite, digests of another number than shards. Tables and widths are the server's to check.
absl::StatusOr<ReplicaRequest> ParseReplicaRequest(Bytes bytes);
// Keys, values, counts and a fill's records are payloads, viewed.
Pieces EncodeReplicaRequest(const ReplicaRequest& request);

}  // namespace tidegate::wire
