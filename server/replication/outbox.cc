#include "server/replication/outbox.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "common/logging.h"

namespace tidegate {

size_t Outbox::unacknowledged_records() const {
  size_t total = 0;
  for (const Lane& lane : lanes_) total += lane.records.size();
  return total;
}

void Outbox::SetRouting(Epoch epoch, uint64_t lanes) {
  epoch_ = std::max(epoch_, epoch);
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if ((lanes >> i & 1) != 0) continue;
    Lane& lane = lanes_[i];
    Rewind(&lane, 0);
    for (const OutRecord& record : lane.records) kept_bytes_ -= record.bytes;
    lane.records.clear();
    lane.dropped = true;
  }
}

void Outbox::Append(uint32_t lane_index, OutRecord record) {
  if (lane_index >= lanes_.size()) lanes_.resize(lane_index + 1);
  Lane& lane = lanes_[lane_index];
  TG_CHECK(record.index > lane.last_index && (lane.dropped || record.index == lane.last_index + 1))
      << "record " << record.index << " after " << lane.last_index;
  if (std::exchange(lane.dropped, false)) lane.log_start = record.index;
  lane.last_index = record.index;
  kept_bytes_ += record.bytes;
  lane.records.push_back(std::move(record));
}

void Outbox::Connected(TimeMs) {
  connected_ = true;
  keep_alive_sent_.reset();
  for (Lane& lane : lanes_) {
    Rewind(&lane, 0);
    lane.paused_until = 0;
  }
}

// Records from `to` on are to be sent (again).
void Outbox::Rewind(Lane* lane, size_t to) {
  for (; lane->next > to; --lane->next) in_flight_bytes_ -= lane->records[lane->next - 1].bytes;
}

wire::ReplicaRequest Outbox::Header(TimeMs now) const {
  wire::ReplicaRequest request;
  request.generation = options_.generation;
  request.epoch = epoch_;
  request.sender = options_.self;
  request.receiver = options_.follower;
  request.sent_ms = now;
  return request;
}

std::optional<Outbox::Message> Outbox::Next(TimeMs now) {
  if (!connected_) return std::nullopt;
  if (!keep_alive_sent_ || now - *keep_alive_sent_ >= options_.grant_ms / 4) {
    keep_alive_sent_ = now;
    return Message{Header(now), nullptr};
  }
  if (epoch_ < held_until_epoch_) return std::nullopt;
  for (size_t tried = 0; tried < lanes_.size(); ++tried) {
    const size_t index = turn_++ % lanes_.size();
    Lane& lane = lanes_[index];
    if (lane.next > 0 && now - lane.progress_ms >= options_.resend_ms) Rewind(&lane, 0);
    if (lane.next == lane.records.size() || now < lane.paused_until) continue;
    // One larger than the window goes alone.
    if (in_flight_bytes_ > 0 && in_flight_bytes_ + lane.records[lane.next].bytes > options_.window_bytes) continue;
    if (lane.next == 0) lane.progress_ms = now;
    const OutRecord& record = lane.records[lane.next++];
    lane.sent_index = std::max(lane.sent_index, record.index);
    in_flight_bytes_ += record.bytes;
    Message message{Header(now), record.owner};
    // A strand may know a newer table than this outbox was told of.
    message.request.epoch = std::max(message.request.epoch, record.epoch);
    message.request.lane = static_cast<uint32_t>(index);
    message.request.index = record.index;
    message.request.log_start = lane.log_start;
    message.request.body = record.body;
    return message;
  }
  return std::nullopt;
}

void Outbox::Acknowledge(const ReplicaAck& ack, TimeMs now, Outcome* out) {
  if (ack.lane() >= lanes_.size()) return;
  Lane& lane = lanes_[ack.lane()];
  bool progress = false;
  const uint64_t index = std::min(ack.index(), lane.sent_index);  // also what an earlier stream took
  while (!lane.records.empty() && lane.records.front().index <= index) {
    const size_t bytes = lane.records.front().bytes;
    kept_bytes_ -= bytes;
    if (lane.next > 0) {
      --lane.next;
      in_flight_bytes_ -= bytes;
    }
    lane.records.pop_front();
    progress = true;
  }
  if (!progress) return;
  lane.progress_ms = now;
  const uint64_t before_first = lane.records.empty() ? lane.last_index : lane.records.front().index - 1;
  out->acknowledged.push_back({ack.lane(), before_first});
}

Outbox::Outcome Outbox::Take(const ReplicaResponse& response, TimeMs now) {
  Outcome out;
  for (const ReplicaAck& ack : response.acks()) Acknowledge(ack, now, &out);
  out.diverged.assign(response.diverged().begin(), response.diverged().end());
  if (response.epoch() > epoch_) out.newer_epoch = response.epoch();
  if (response.grant() && response.sent_ms() <= static_cast<uint64_t>(now)) {
    out.granted_until = static_cast<TimeMs>(response.sent_ms()) + options_.grant_ms;
  }
  if (response.code() == 0 || response.lane() >= lanes_.size()) return out;
  Lane& lane = lanes_[response.lane()];
  const auto code = static_cast<absl::StatusCode>(response.code());
  if (code == absl::StatusCode::kOutOfRange) {
    if (lane.records.empty()) return out;
    const uint64_t first = lane.records.front().index;
    const uint64_t to = response.expected() <= first ? 0 : response.expected() - first;
    Rewind(&lane, static_cast<size_t>(std::min<uint64_t>(to, lane.next)));
    return out;
  }
  Rewind(&lane, 0);
  lane.paused_until = now + options_.retry_ms;
  if (code == absl::StatusCode::kFailedPrecondition) held_until_epoch_ = std::max(held_until_epoch_, response.epoch());
  return out;
}

}  // namespace tidegate
