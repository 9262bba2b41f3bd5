#pragma once
// What one follower process needs of this server's log: the records of all strands, kept until they are
// acknowledged, and when to send what. After a broken stream everything that is not acknowledged goes out again,
// in each strand's order. A core without I/O: told the time, owns no stream; not thread-safe.
//
//   strand's record -> Append;  stream up -> Connected, then Next until it has nothing, also after each Take and
//   every few milliseconds;  answer -> Take -> what became acknowledged, until when the follower grants.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/types.h"
#include "common/wire/replica_wire.h"
#include "proto/replica_messages.pb.h"
#include "server/shard/shard_messages.h"

namespace tidegate {

class Outbox {
 public:
  struct Options {
    uint64_t generation = 0;
    Incarnation self = 0;
    Incarnation follower = 0;
    TimeMs grant_ms = 500;
    TimeMs retry_ms = 20;          // after a refusal
    TimeMs resend_ms = 5000;       // without progress of a strand's log: answers may be lost
    size_t window_bytes = 8 << 20; // sent and not acknowledged
  };
  struct Message {
    wire::ReplicaRequest request;
    std::shared_ptr<const void> owner;  // of what it views
  };
  struct Acknowledged {
    uint32_t lane = 0;
    uint64_t index = 0;  // and all before it
  };
  struct Outcome {
    std::vector<Acknowledged> acknowledged;
    TimeMs granted_until = 0;   // 0: the answer grants nothing
    std::vector<ShardId> diverged;
    Epoch newer_epoch = 0;      // of the follower's routing, where it is newer than ours
  };

  explicit Outbox(const Options& options) : options_(options) {}

  // Our newest routing's epoch, and the strands (a bit each) whose log the follower follows by it. The others'
  // records are dropped: whoever takes the log up again begins with its next record.
  void SetRouting(Epoch epoch, uint64_t lanes);
  // REQUIRES: record.index is one more than that of the lane's last.
  void Append(uint32_t lane, OutRecord record);

  void Connected(TimeMs now);
  void Disconnected() { connected_ = false; }
  // The next message to send now, if any.
  std::optional<Message> Next(TimeMs now);
  Outcome Take(const ReplicaResponse& response, TimeMs now);

  const Options& options() const { return options_; }
  size_t unacknowledged_bytes() const { return kept_bytes_; }
  size_t unacknowledged_records() const;

 private:
  struct Lane {
    std::deque<OutRecord> records;  // not acknowledged
    size_t next = 0;                // into records: to be sent next
    uint64_t log_start = 0;
    uint64_t last_index = 0;        // ever appended
    uint64_t sent_index = 0;        // ever sent
    bool dropped = true;            // the next record begins a log
    TimeMs paused_until = 0;
    TimeMs progress_ms = 0;         // first send after nothing was under way, or last acknowledgement
  };

  void Rewind(Lane* lane, size_t to);
  void Acknowledge(const ReplicaAck& ack, TimeMs now, Outcome* out);
  wire::ReplicaRequest Header(TimeMs now) const;

  const Options options_;
  Epoch epoch_ = 0;
  Epoch held_until_epoch_ = 0;  // refused as deposed: nothing is sent before our table is that new
  std::vector<Lane> lanes_;
  size_t turn_ = 0;             // of lanes_
  bool connected_ = false;
  std::optional<TimeMs> keep_alive_sent_;
  size_t kept_bytes_ = 0;
  size_t in_flight_bytes_ = 0;
};

}  // namespace tidegate
