#pragma once
// A follower's side of one primary process's log. The records of each of the primary's strands are taken once and in
// order, handed to this server's own strands, and acknowledged when all of them have applied theirs. A record that is
// refused by one strand may have been applied by another: it comes again, and StrandLog keeps it from being
// applied there twice. Cores without I/O; not thread-safe.
//
//   message -> Inbox::Receive -> answer, and with `dispatch`: the record goes to its strands, in this order;
//   in each strand:  StrandLog::Look -> ShardGroup::ApplyRecord -> StrandLog::Done;
//   then Inbox::Finished -> answer. A strand that the record does not concern is finished at once (not in `strands`).

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "common/types.h"
#include "common/wire/replica_wire.h"
#include "proto/replica_messages.pb.h"
#include "server/replication/grants.h"
#include "server/shard/strand_split.h"

namespace tidegate {

// What an own strand has applied of the logs that it follows.
class StrandLog {
 public:
  enum class Verdict { kApply, kDuplicate, kBlocked };
  struct Position {
    Incarnation sender = 0;
    uint32_t lane = 0;
    uint64_t index = 0;
    uint64_t log_start = 0;
  };
  // kBlocked: one before it was refused here and has to come again first.
  Verdict Look(const Position& at);
  void Done(const Position& at, bool applied);

 private:
  struct Lane {
    uint64_t applied = 0;
    uint64_t refused = 0;  // 0: none
  };
  Lane& At(const Position& at);
  absl::flat_hash_map<Incarnation, std::vector<Lane>> lanes_;
};

// Which of this server's strands a record concerns (a bit each), and which keys of it are whose.
struct RecordSplit {
  uint64_t strands = 0;
  std::vector<std::vector<uint32_t>> positions;  // [strand * tables + table], of a push
  size_t tables = 0;
};
// A push without ended shards goes to the strands that have keys of it, everything else to all.
RecordSplit SplitRecord(const wire::Record& record, const StrandMap& map);

class Inbox {
 public:
  static constexpr uint32_t kLanesMax = 64;

  // What the process knows when a message comes.
  struct Now {
    Epoch epoch = 0;           // of the own routing
    bool sender_leads = true;  // by it, the sender is primary of a shard that is followed here
    TimeMs now = 0;
  };
  // Names a record that was handed to strands.
  struct Ticket {
    uint32_t lane = 0;
    uint64_t index = 0;
    uint64_t round = 0;
    bool everywhere = false;  // a strand may have refused it before: it goes to all, also where it says nothing
  };
  struct Received {
    bool dispatch = false;  // then call Dispatched with the ticket, at once
    Ticket ticket;
    std::optional<ReplicaResponse> answer;
    Epoch newer_epoch = 0;  // the sender's table is newer: fetch it
  };

  explicit Inbox(Incarnation sender) : sender_(sender) {}

  Received Receive(const wire::ReplicaRequest& request, const Now& now, GivenGrants* grants);
  // The record went to these strands (a bit each); none: it is finished.
  std::optional<ReplicaResponse> Dispatched(const Ticket& ticket, uint64_t strands, Epoch epoch);
  // A strand has done its share, or refused it.
  std::optional<ReplicaResponse> Finished(const Ticket& ticket, int strand, const absl::Status& status,
                                          std::span<const ShardId> diverged, Epoch epoch);

  Incarnation sender() const { return sender_; }
  uint64_t acknowledged(uint32_t lane) const { return lane < lanes_.size() ? lanes_[lane].acknowledged : 0; }

 private:
  struct Pending {
    uint64_t index = 0;
    uint64_t strands = 0;   // that have not finished
    bool dispatched = false;
    absl::Status status;
  };
  struct Lane {
    uint64_t log_start = 0;
    uint64_t expected = 1;
    uint64_t acknowledged = 0;
    uint64_t round = 0;         // of what is pending: others were given up
    uint64_t refused_to = 0;    // records up to here may stand refused in a strand
    bool gap_told = false;      // the sender knows that `expected` has to come
    std::deque<Pending> pending;
  };

  std::optional<ReplicaResponse> Settle(uint32_t lane, Epoch epoch);
  ReplicaResponse Refuse(uint32_t lane, const absl::Status& status, Epoch epoch);
  Pending* Find(const Ticket& ticket);

  const Incarnation sender_;
  std::vector<Lane> lanes_;
  std::vector<ShardId> diverged_;  // told with the next answer
};

// Puts a later answer into an earlier one that was not sent yet. False: they cannot be one.
bool MergeAnswer(const ReplicaResponse& later, ReplicaResponse* earlier);

}  // namespace tidegate
