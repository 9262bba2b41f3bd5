#pragma once
// The data plane's messages (proto/shard_messages.proto) on raw bytes: parsed in place, and written as
// small header fields around big buffers that are not copied. Byte-compatible with protobuf's own
// encoding in both directions (tests compare). No gRPC here: rpc folders turn slices into spans.
//
// Everything from outside is checked before it is used: INVALID_ARGUMENT names the field. A parsed
// view points into the bytes it was parsed from and is valid as long as they are.
// Thread-safe: free functions over spans.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/packed_span.h"
#include "common/types.h"
#include "common/wire/fragments.h"

namespace tidegate::wire {

struct Stamp {
  uint64_t generation = 0;
  Epoch epoch = 0;
  Incarnation incarnation = 0;
};
enum class ValueType : uint8_t { kFloat32 = 0, kBfloat16 = 1 };
inline size_t SizeOf(ValueType t) { return t == ValueType::kFloat32 ? 4 : 2; }

struct TableKeys {
  TableId table = 0;
  PackedSpan<Key> keys;
};
struct PullRequest {
  Stamp stamp;
  Clock clock = 0;
  Clock bound = 0;
  bool eval = false;
  ValueType value_type = ValueType::kFloat32;
  absl::InlinedVector<TableKeys, 4> tables;
};
struct TableRows {
  TableId table = 0;
  Fragments values;
};
struct PullResponse {
  Epoch epoch = 0;
  Clock min_clock = 0;
  absl::InlinedVector<uint32_t, 4> refused_shards;
  absl::InlinedVector<TableRows, 4> tables;
};
struct TableGradients {
  TableId table = 0;
  PackedSpan<Key> keys;
  Bytes values;
  PackedSpan<uint32_t> counts;  // empty: 1 each
};
struct PushRequest {
  Stamp stamp;
  Sequence sequence = 0;
  Sequence oldest_unacked = 0;
  Clock clock = 0;
  double weight = 0;
  uint32_t part = 0;
  uint32_t parts = 1;
  ValueType value_type = ValueType::kFloat32;
  absl::InlinedVector<TableGradients, 4> tables;
  bool asks = false;  // who takes part in `clock`
};
struct PushResponse {
  Epoch epoch = 0;
  absl::InlinedVector<uint32_t, 4> refused_shards;
  uint64_t duplicate_rows = 0;
  std::vector<Incarnation> contributors;  // to one that asks
  Clock closed = 0;
};
struct ClosedClock {
  Clock clock = 0;
  std::vector<Incarnation> contributors;
};
struct ClockRequest {
  enum class Kind { kHello, kTick, kPark };
  Stamp stamp;
  uint64_t order = 0;
  Kind kind = Kind::kHello;
  Clock clock = 0;  // of a tick
  std::vector<ClosedClock> closed;
};
struct ClockResponse {
  Epoch epoch = 0;
  Clock min_clock = 0;
};

using Request = std::variant<PullRequest, PushRequest, ClockRequest>;
using Response = std::variant<absl::Status, PullResponse, PushResponse, ClockResponse>;
struct StreamRequest {
  uint64_t call = 0;
  Request body;
};
struct StreamResponse {
  uint64_t call = 0;
  Response body;  // absl::Status: not OK
};

// Lengths of keys and counts are checked against each other here; widths need the tables' specs and
// are checked by the server.
absl::StatusOr<PullRequest> ParsePullRequest(Bytes bytes);
absl::StatusOr<PushRequest> ParsePushRequest(Bytes bytes);
// Into one that is read already: a field named twice, as protobuf has it.
absl::Status MergePushRequest(Bytes bytes, PushRequest* out);
absl::StatusOr<ClockRequest> ParseClockRequest(Bytes bytes);
absl::StatusOr<StreamRequest> ParseStreamRequest(Bytes bytes);
absl::StatusOr<PullResponse> ParsePullResponse(Bytes bytes);
absl::StatusOr<PushResponse> ParsePushResponse(Bytes bytes);
absl::StatusOr<ClockResponse> ParseClockResponse(Bytes bytes);
absl::StatusOr<StreamResponse> ParseStreamResponse(Bytes bytes);
// As its transport left it; the values of rows stay where they are.
absl::StatusOr<StreamResponse> ParseFragmentedStreamResponse(const Fragments& message);
// The call number of a stream message whose body does not parse, so that it can be answered; 0 if
// there is none to be found.
uint64_t CallOf(Bytes bytes);

// Limits on what one message may list; more is refused.
inline constexpr size_t kTablesMax = 4096;
inline constexpr size_t kRefusedShardsMax = 65536;
inline constexpr size_t kContributorsMax = 65536;
inline constexpr size_t kClosedClocksMax = 64;

// A message as pieces to send in order: `head` (owned), then `payload` (borrowed: the caller keeps it
// alive until the message is sent, or hands it over as a refcounted slice).
struct Piece {
  std::string head;
  Bytes payload;
};
using Pieces = absl::InlinedVector<Piece, 8>;

// Encode the message alone (unary) or inside a stream message with a call number. Payloads of the
// pieces are the keys, values and counts that the message's spans view, in field order.
Pieces EncodeRequest(const Request& request);
Pieces EncodePush(const PushRequest& request);
Pieces EncodeStreamRequest(uint64_t call, const Request& request);
// For a Status, EncodeResponse is not defined: a unary error is the RPC's own status.
Pieces EncodeResponse(const Response& response);
Pieces EncodeStreamResponse(uint64_t call, const Response& response);

size_t TotalBytes(const Pieces& pieces);
// One contiguous copy (tests, the simulation).
std::string Flatten(const Pieces& pieces);

}  // namespace tidegate::wire
