#include "server/replication/inbox.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace tidegate {

// ---- StrandLog -------------------------------------------------------------

StrandLog::Lane& StrandLog::At(const Position& at) {
  std::vector<Lane>& lanes = lanes_[at.sender];
  if (at.lane >= lanes.size()) lanes.resize(at.lane + 1);
  Lane& lane = lanes[at.lane];
  if (lane.refused < at.log_start) lane.refused = 0;  // of a log that is over
  return lane;
}

StrandLog::Verdict StrandLog::Look(const Position& at) {
  const Lane& lane = At(at);
  if (at.index <= lane.applied) return Verdict::kDuplicate;
  return lane.refused != 0 && at.index > lane.refused ? Verdict::kBlocked : Verdict::kApply;
}

void StrandLog::Done(const Position& at, bool applied) {
  Lane& lane = At(at);
  if (!applied) {
    lane.refused = at.index;
    return;
  }
  lane.applied = std::max(lane.applied, at.index);
  if (lane.refused == at.index) lane.refused = 0;
}

// ---- SplitRecord -----------------------------------------------------------

RecordSplit SplitRecord(const wire::Record& record, const StrandMap& map) {
  RecordSplit out;
  const uint64_t all = map.strands == 64 ? ~uint64_t{0} : (uint64_t{1} << map.strands) - 1;
  const auto* push = std::get_if<wire::PushRecord>(&record);
  if (push == nullptr) {
    out.strands = all;
    return out;
  }
  out.tables = push->push.tables.size();
  out.strands = SplitByStrand(map, push->push.tables, &out.positions);
  if (!push->ended_shards.empty() || !push->contributors.empty()) out.strands = all;
  return out;
}

// ---- Inbox -----------------------------------------------------------------

ReplicaResponse Inbox::Refuse(uint32_t lane_index, const absl::Status& status, Epoch epoch) {
  Lane& lane = lanes_[lane_index];
  lane.gap_told = true;
  ReplicaResponse out;
  out.set_epoch(epoch);
  // What the sender cannot cure by another table is tried again: once the scheduler has taken this copy out of the
  // set that may be promoted, the record can be passed over.
  const bool deposed = status.code() == absl::StatusCode::kFailedPrecondition;
  const bool gap = status.code() == absl::StatusCode::kOutOfRange;
  out.set_code(static_cast<uint32_t>(deposed || gap ? status.code() : absl::StatusCode::kUnavailable));
  out.set_error(std::string(status.message()));
  out.set_lane(lane_index);
  out.set_expected(lane.expected);
  return out;
}

Inbox::Received Inbox::Receive(const wire::ReplicaRequest& request, const Now& now, GivenGrants* grants) {
  Received out;
  if (request.epoch > now.epoch) out.newer_epoch = request.epoch;
  ReplicaResponse answer;
  answer.set_epoch(now.epoch);
  answer.set_sent_ms(static_cast<uint64_t>(request.sent_ms));
  if (request.index == 0) {
    answer.set_grant(grants->Give(sender_, request.epoch, now.now));
    for (uint32_t i = 0; i < lanes_.size(); ++i) {  // an earlier answer may be lost
      if (lanes_[i].acknowledged == 0) continue;
      ReplicaAck* ack = answer.add_acks();
      ack->set_lane(i);
      ack->set_index(lanes_[i].acknowledged);
    }
    out.answer = std::move(answer);
    return out;
  }
  if (request.lane >= kLanesMax) {
    answer.set_code(static_cast<uint32_t>(absl::StatusCode::kUnavailable));
    answer.set_error(absl::StrCat("lane ", request.lane, ": a server has at most ", kLanesMax));
    out.answer = std::move(answer);
    return out;
  }
  if (request.lane >= lanes_.size()) lanes_.resize(request.lane + 1);
  Lane& lane = lanes_[request.lane];
  const uint64_t log_start = std::max<uint64_t>(request.log_start, 1);
  if (log_start < lane.log_start) return out;  // late: that log is over
  if (log_start > lane.log_start) {
    lane.log_start = log_start;
    lane.expected = std::max(lane.expected, log_start);
    lane.acknowledged = std::max(lane.acknowledged, log_start - 1);
    lane.gap_told = false;
    if (lane.expected == log_start) {
      lane.pending.clear();
      ++lane.round;
    }
  }
  if (request.index < lane.expected) {  // again
    if (request.index > lane.acknowledged) return out;  // its strands are at it
    ReplicaAck* ack = answer.add_acks();
    ack->set_lane(request.lane);
    ack->set_index(lane.acknowledged);
    out.answer = std::move(answer);
    return out;
  }
  if (request.index > lane.expected) {
    if (!lane.gap_told) {
      out.answer = Refuse(request.lane, absl::OutOfRangeError(absl::StrCat("record ", lane.expected, " comes first")), now.epoch);
    }
    return out;
  }
  if (request.epoch > now.epoch) {
    out.answer = Refuse(request.lane, absl::UnavailableError("the sender's routing is newer"), now.epoch);
    return out;
  }
  if (request.epoch < now.epoch && !now.sender_leads) {
    out.answer = Refuse(request.lane, absl::FailedPreconditionError("the sender leads no shard that is followed here"), now.epoch);
    return out;
  }
  lane.gap_told = false;
  ++lane.expected;
  lane.pending.push_back({request.index, 0, false, absl::OkStatus()});
  out.dispatch = true;
  out.ticket = {request.lane, request.index, lane.round, request.index <= lane.refused_to};
  return out;
}

Inbox::Pending* Inbox::Find(const Ticket& ticket) {
  Lane& lane = lanes_[ticket.lane];
  if (lane.round != ticket.round) return nullptr;
  for (Pending& pending : lane.pending) {
    if (pending.index == ticket.index) return &pending;
  }
  return nullptr;
}

std::optional<ReplicaResponse> Inbox::Dispatched(const Ticket& ticket, uint64_t strands, Epoch epoch) {
  Pending* pending = Find(ticket);
  if (pending == nullptr) return std::nullopt;
  pending->strands = strands;
  pending->dispatched = true;
  return Settle(ticket.lane, epoch);
}

std::optional<ReplicaResponse> Inbox::Finished(const Ticket& ticket, int strand, const absl::Status& status,
                                               std::span<const ShardId> diverged, Epoch epoch) {
  diverged_.insert(diverged_.end(), diverged.begin(), diverged.end());
  Pending* pending = Find(ticket);
  if (pending == nullptr) return std::nullopt;
  pending->strands &= ~(uint64_t{1} << strand);
  if (pending->status.ok()) pending->status = status;
  return Settle(ticket.lane, epoch);
}

std::optional<ReplicaResponse> Inbox::Settle(uint32_t lane_index, Epoch epoch) {
  Lane& lane = lanes_[lane_index];
  const uint64_t before = lane.acknowledged;
  std::optional<ReplicaResponse> out;
  while (!lane.pending.empty() && lane.pending.front().dispatched && lane.pending.front().strands == 0) {
    const Pending& front = lane.pending.front();
    if (!front.status.ok()) {
      const absl::Status status = front.status;
      lane.expected = front.index;
      lane.refused_to = std::max(lane.refused_to, lane.pending.back().index);
      lane.pending.clear();
      ++lane.round;
      out = Refuse(lane_index, status, epoch);
      break;
    }
    lane.acknowledged = front.index;
    lane.pending.pop_front();
  }
  if (lane.acknowledged == before && !out) return std::nullopt;
  if (!out) {
    out.emplace();
    out->set_epoch(epoch);
  }
  if (lane.acknowledged > before) {
    ReplicaAck* ack = out->add_acks();
    ack->set_lane(lane_index);
    ack->set_index(lane.acknowledged);
  }
  for (ShardId shard : std::exchange(diverged_, {})) out->add_diverged(shard);
  return out;
}

bool MergeAnswer(const ReplicaResponse& later, ReplicaResponse* earlier) {
  if (later.code() != 0 || earlier->code() != 0) return false;
  earlier->set_epoch(std::max(earlier->epoch(), later.epoch()));
  // A grant speaks of its own request.
  if (later.grant() && (!earlier->grant() || later.sent_ms() > earlier->sent_ms())) {
    earlier->set_grant(true);
    earlier->set_sent_ms(later.sent_ms());
  } else if (!earlier->grant()) {
    earlier->set_sent_ms(std::max(earlier->sent_ms(), later.sent_ms()));
  }
  for (const ReplicaAck& ack : later.acks()) {
    auto* acks = earlier->mutable_acks();
    const auto same = std::find_if(acks->begin(), acks->end(), [&](const ReplicaAck& a) { return a.lane() == ack.lane(); });
    if (same == acks->end()) {
      *earlier->add_acks() = ack;
    } else {
      same->set_index(std::max(same->index(), ack.index()));
    }
  }
  for (ShardId shard : later.diverged()) earlier->add_diverged(shard);
  return true;
}

}  // namespace tidegate
