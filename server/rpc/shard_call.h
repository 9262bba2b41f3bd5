#pragma once
// One message of the data plane on its way through a server: the bytes it came as, the request parsed in
// place, its split over the strands, the rows of its answer, and what the strands have answered so far.

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "common/rpc/byte_buffer.h"
#include "common/wire/shard_wire.h"
#include "server/shard/shard_messages.h"

namespace tidegate {

class ShardCall;

// Where answers go: a stream or a unary call. Called from any thread, no lock held; must not block.
class CallSource {
 public:
  virtual ~CallSource() = default;
  // Once for each call, unless it was cancelled. `rows` are the payloads of a PullResponse, in order.
  virtual void Answer(const ShardCall& call, const wire::Response& response,
                      std::span<const SliceBuffer> rows) = 0;
};

enum class MessageKind { kPull, kPush, kClock, kStream };

// Made by the service, filled in by ShardEngine. `self` holds it while strands work on it; its address is
// its CallToken.
class ShardCall {
 public:
  ShardCall(std::shared_ptr<CallSource> call_source, OwnedBytes call_message)
      : source(std::move(call_source)), message(std::move(call_message)) {}

  static ShardCall* Of(CallToken token) { return reinterpret_cast<ShardCall*>(token); }
  CallToken token() const { return reinterpret_cast<CallToken>(this); }

  std::shared_ptr<CallSource> source;
  const OwnedBytes message;
  uint64_t number = 0;  // of a stream's message
  wire::Request request;
  std::vector<std::vector<uint32_t>> positions;  // [strand * tables + table]; empty with one strand
  size_t tables = 0;
  std::vector<size_t> row_bytes;                 // of the answer, by table of a pull

  // --- under mutex ---
  std::mutex mutex;
  std::shared_ptr<ShardCall> self;
  uint64_t pending = 0;      // bit per strand
  bool cancelled = false;    // nobody waits for the answer
  bool joining = false;      // second phase of a Hello: JoinAt
  absl::Status status;
  Clock min_clock = 0;
  bool has_min_clock = false;
  absl::InlinedVector<ShardId, 4> refused_shards;
  uint64_t duplicate_rows = 0;
  std::vector<Incarnation> contributors;  // to one that asks
  Clock closed = 0;
  bool refused = false;      // a push that a strand refused whole
  std::vector<SliceBuffer> rows;
};

}  // namespace tidegate
