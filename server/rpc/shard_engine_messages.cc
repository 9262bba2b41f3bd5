// Messages on their way through the strands: parsed, checked, split, answered.
#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/executor/trace.h"
#include "server/rpc/shard_engine.h"
#include "server/rpc/shard_engine_lane.h"
#include "server/shard/message_check.h"
#include "server/shard/strand_split.h"

namespace tidegate {
namespace {

const wire::Stamp& StampOf(const wire::Request& request) {
  return std::visit([](const auto& r) -> const wire::Stamp& { return r.stamp; }, request);
}

bool IsHello(const wire::Request& request) {
  const auto* clock = std::get_if<wire::ClockRequest>(&request);
  return clock != nullptr && clock->kind == wire::ClockRequest::Kind::kHello;
}

// For traces.
const char* NameOf(const wire::Request& request) {
  constexpr const char* kNames[] = {"pull", "push", "clock"};
  return std::holds_alternative<wire::PullRequest>(request)   ? kNames[0]
         : std::holds_alternative<wire::PushRequest>(request) ? kNames[1]
                                                              : kNames[2];
}
Clock ClockOf(const wire::Request& request) {
  if (const auto* pull = std::get_if<wire::PullRequest>(&request)) return pull->eval ? -1 : pull->clock;
  if (const auto* push = std::get_if<wire::PushRequest>(&request)) return push->clock;
  return std::get<wire::ClockRequest>(request).clock;
}

}  // namespace

absl::Status ShardEngine::Parse(ShardCall* call, MessageKind kind) {
  const wire::Bytes bytes = call->message.bytes;
  const auto take = [call](auto parsed) {
    if (parsed.ok()) call->request = *std::move(parsed);
    return parsed.status();
  };
  switch (kind) {
    case MessageKind::kPull:
      return take(wire::ParsePullRequest(bytes));
    case MessageKind::kPush:
      return take(wire::ParsePushRequest(bytes));
    case MessageKind::kClock:
      return take(wire::ParseClockRequest(bytes));
    case MessageKind::kStream: {
      auto parsed = wire::ParseStreamRequest(bytes);
      if (!parsed.ok()) return parsed.status();
      call->number = parsed->call;
      call->request = std::move(parsed->body);
      return absl::OkStatus();
    }
  }
  return absl::InternalError("unknown kind of message");
}

absl::Status ShardEngine::Check(ShardCall* call, const View& view) {
  if (call->message.bytes.size() > job_.message_limit_bytes) {
    std::lock_guard lock(mutex_);
    ++refused_.too_large;
    return absl::ResourceExhaustedError(absl::StrCat(
        "a message of ", call->message.bytes.size(), " bytes is above the job's limit of ",
        job_.message_limit_bytes, " (cluster.message_limit_bytes): send it in parts"));
  }
  if (std::holds_alternative<wire::ClockRequest>(call->request)) return absl::OkStatus();
  if (view.catalog == nullptr) return absl::UnavailableError("the job's tables are not open yet");
  if (auto* pull = std::get_if<wire::PullRequest>(&call->request)) {
    const absl::Status status = CheckPull(*pull, *view.catalog, job_.message_limit_bytes);
    if (!status.ok()) return status;
    for (const wire::TableKeys& table : pull->tables) {
      call->row_bytes.push_back(table.keys.size() * view.catalog->layout(table.table).WireRowBytes(
                                                          WireDataType(pull->value_type)));
    }
    return absl::OkStatus();
  }
  PushFault fault = PushFault::kNone;
  const absl::Status status =
      CheckPush(std::get<wire::PushRequest>(call->request), *view.catalog, &fault);
  if (status.ok()) return status;
  std::lock_guard lock(mutex_);
  if (fault == PushFault::kUnknownTable) ++refused_.unknown_table;
  if (fault == PushFault::kShape) ++refused_.shape;
  if (fault == PushFault::kNonFinite) ++refused_.non_finite;
  if (fault == PushFault::kHeader) ++refused_.header;
  return status;
}

void ShardEngine::Refuse(const std::shared_ptr<ShardCall>& call, const absl::Status& status) {
  if (std::holds_alternative<wire::PushRequest>(call->request)) {
    std::lock_guard lock(mutex_);
    ++refused_.pushes;
  }
  call->source->Answer(*call, status, {});
}

void ShardEngine::Handle(std::shared_ptr<ShardCall> call, MessageKind kind) {
  if (absl::Status status = Parse(call.get(), kind); !status.ok()) {
    {
      std::lock_guard lock(mutex_);
      ++refused_.malformed;
    }
    call->source->Answer(*call, status, {});
    return;
  }
  const auto current = view();
  if (current == nullptr) {
    Refuse(call, absl::UnavailableError("this server has not joined a job yet"));
    return;
  }
  if (absl::Status status = Check(call.get(), *current); !status.ok()) {
    Refuse(call, status);
    return;
  }
  const Epoch epoch = StampOf(call->request).epoch;
  if (epoch > current->epoch && options_.newer_epoch_seen) options_.newer_epoch_seen(epoch);
  if (const auto* pull = std::get_if<wire::PullRequest>(&call->request)) {
    call->tables = pull->tables.size();
  } else if (const auto* push = std::get_if<wire::PushRequest>(&call->request)) {
    call->tables = push->tables.size();
  }
  if (lanes_.size() > 1 && call->tables > 0) Split(call.get(), *current);
  Dispatch(call, LanesOf(*call));
}

void ShardEngine::Split(ShardCall* call, const View& view) const {
  const StrandMap map{lanes_.size(), view.lane_of_shard, view.log2_shards};
  if (const auto* pull = std::get_if<wire::PullRequest>(&call->request)) {
    SplitByStrand(map, pull->tables, &call->positions);
  } else {
    SplitByStrand(map, std::get<wire::PushRequest>(call->request).tables, &call->positions);
  }
}

uint64_t ShardEngine::all_lanes() const {
  return lanes_.size() == 64 ? ~uint64_t{0} : (uint64_t{1} << lanes_.size()) - 1;
}

uint64_t ShardEngine::LanesOf(const ShardCall& call) const {
  const uint64_t all = all_lanes();
  if (std::holds_alternative<wire::ClockRequest>(call.request)) return all;
  const auto* push = std::get_if<wire::PushRequest>(&call.request);
  if (push != nullptr && push->asks) {
    const auto current = view();
    return current->lane_of_shard.empty() ? 1 : uint64_t{1} << current->lane_of_shard[0];
  }
  // At staleness 0 a worker's push ends its clock everywhere.
  if (push != nullptr && job_.synchronous && push->stamp.incarnation != 0) return all;
  if (call.positions.empty()) return 1;
  uint64_t lanes = 0;
  for (size_t i = 0; i < call.positions.size(); ++i) {
    if (!call.positions[i].empty()) lanes |= uint64_t{1} << (i / call.tables);
  }
  return lanes == 0 ? 1 : lanes;
}

void ShardEngine::Dispatch(const std::shared_ptr<ShardCall>& call, uint64_t lanes) {
  {
    std::lock_guard lock(call->mutex);
    call->self = call;
    call->pending = lanes;
  }
  for (const auto& lane : lanes_) {
    if ((lanes & lane->bit()) == 0) continue;
    lane->strand.Run([this, call, lane = lane.get()] {
      const TraceSpan span(NameOf(call->request), ClockOf(call->request));
      Prepare(*lane);
      RunOn(*lane, call);
      Deliver(*lane);
    });
  }
}

KeySelection ShardEngine::SelectionOf(const ShardCall& call, const Lane& lane) const {
  KeySelection selection;
  selection.all = lanes_.size() == 1;
  for (size_t t = 0; t < call.tables && !selection.all; ++t) {
    selection.positions.push_back(call.positions[lane.index * call.tables + t]);
  }
  return selection;
}

void ShardEngine::RunOn(Lane& lane, const std::shared_ptr<ShardCall>& call) {
  bool cancelled, joining;
  {
    std::lock_guard lock(call->mutex);
    cancelled = call->cancelled;
    joining = call->joining;
  }
  if (joining) {  // also when cancelled: every strand or none
    const auto& hello = std::get<wire::ClockRequest>(call->request);
    lane.group->JoinAt(hello.stamp.incarnation, hello.order, call->min_clock, &lane.effects);
    FinishShare(lane, call.get());
  } else if (cancelled) {
    FinishShare(lane, call.get());
  } else if (const auto* pull = std::get_if<wire::PullRequest>(&call->request)) {
    lane.group->Pull({call->token(), *pull, SelectionOf(*call, lane), call}, &lane.effects);
  } else if (const auto* push = std::get_if<wire::PushRequest>(&call->request)) {
    lane.group->Push({call->token(), *push, SelectionOf(*call, lane), call}, &lane.effects);
  } else {
    lane.group->Announce(call->token(), std::get<wire::ClockRequest>(call->request), &lane.effects);
  }
}

std::span<std::byte> ShardEngine::RowsOf(CallToken token, size_t table_index) {
  ShardCall* call = ShardCall::Of(token);
  std::lock_guard lock(call->mutex);
  if (call->cancelled) return {};
  if (call->rows.empty()) {
    call->rows.reserve(call->row_bytes.size());
    for (size_t bytes : call->row_bytes) call->rows.emplace_back(bytes);
  }
  return call->rows[table_index].bytes();
}

void ShardEngine::Deliver(Lane& lane) {
  // What an answer sets off never comes back into this lane before it ends: the strand is taken.
  for (const PullDone& done : lane.effects.pulls) {
    ShardCall* call = ShardCall::Of(done.token);
    {
      std::lock_guard lock(call->mutex);
      if (call->status.ok()) call->status = done.status;
      if (call->status.ok() && done.valid_until != std::numeric_limits<TimeMs>::max() && NowMs() >= done.valid_until) {
        call->status = absl::UnavailableError("no grant: it ran out while the rows were read");
      }
      call->min_clock =
          call->has_min_clock ? std::min(call->min_clock, done.min_clock) : done.min_clock;
      call->has_min_clock = true;
      for (ShardId shard : done.refused_shards) call->refused_shards.push_back(shard);
    }
    FinishShare(lane, call);
  }
  for (const PushDone& done : lane.effects.pushes) {
    ShardCall* call = ShardCall::Of(done.token);
    {
      std::lock_guard lock(call->mutex);
      if (call->status.ok()) call->status = done.status;
      call->duplicate_rows += done.duplicate_rows;
      if (!done.contributors.empty()) call->contributors = done.contributors;
      call->closed = std::max(call->closed, done.closed);
      if (done.refusal != nullptr && !call->refused) {
        call->refused = true;
        lane.refusals.*done.refusal += 1;
      }
      for (ShardId shard : done.refused_shards) call->refused_shards.push_back(shard);
    }
    FinishShare(lane, call);
  }
  for (const ClockDone& done : lane.effects.clocks) {
    ShardCall* call = ShardCall::Of(done.token);
    {
      std::lock_guard lock(call->mutex);
      if (call->status.ok()) call->status = done.status;
      const bool highest = IsHello(call->request);
      if (!call->has_min_clock || (done.min_clock > call->min_clock) == highest) {
        call->min_clock = done.min_clock;
      }
      call->has_min_clock = true;
    }
    FinishShare(lane, call);
  }
  if (hooks_.record) {
    for (OutRecord& record : lane.effects.records) hooks_.record(static_cast<uint32_t>(lane.index), std::move(record));
    for (const ReplicaInSync& replica : lane.effects.in_sync) hooks_.in_sync(replica, lane.group->epoch());
    for (ShardId shard : lane.effects.diverged) hooks_.diverged(shard);
    for (ShardId shard : lane.effects.drained) hooks_.drained(shard, lane.group->epoch());
  }
  lane.effects.Clear();
}

void ShardEngine::FinishShare(const Lane& lane, ShardCall* call) {
  std::shared_ptr<ShardCall> held;
  bool join = false;
  {
    std::lock_guard lock(call->mutex);
    call->pending &= ~lane.bit();
    if (call->pending != 0) return;
    held = std::move(call->self);
    if (call->cancelled) return;
    join = IsHello(call->request) && call->status.ok() && !call->joining;
    call->joining = join || call->joining;
  }
  if (join) {
    Dispatch(held, LanesOf(*held));
  } else {
    Answer(*held);
  }
}

void ShardEngine::Answer(const ShardCall& call) {
  if (!call.status.ok()) {
    call.source->Answer(call, call.status, {});
    return;
  }
  const Epoch epoch = view()->epoch;
  if (const auto* pull = std::get_if<wire::PullRequest>(&call.request)) {
    wire::PullResponse response;
    response.epoch = epoch;
    response.min_clock = call.min_clock;
    for (ShardId shard : call.refused_shards) response.refused_shards.push_back(shard);
    for (size_t i = 0; i < pull->tables.size(); ++i) {
      wire::TableRows& rows = response.tables.emplace_back();
      rows.table = pull->tables[i].table;
      if (i < call.rows.size()) rows.values = wire::Bytes(call.rows[i].bytes());
    }
    call.source->Answer(call, std::move(response), call.rows);
  } else if (std::holds_alternative<wire::PushRequest>(call.request)) {
    wire::PushResponse response;
    response.epoch = epoch;
    for (ShardId shard : call.refused_shards) response.refused_shards.push_back(shard);
    response.duplicate_rows = call.duplicate_rows;
    response.contributors = call.contributors;
    response.closed = call.closed;
    call.source->Answer(call, std::move(response), {});
  } else {
    call.source->Answer(call, wire::ClockResponse{epoch, call.min_clock}, {});
  }
}

void ShardEngine::Cancel(const std::shared_ptr<ShardCall>& call) {
  uint64_t lanes;
  {
    std::lock_guard lock(call->mutex);
    call->cancelled = true;
    if (call->joining) return;
    lanes = call->pending;
  }
  for (const auto& lane : lanes_) {
    if ((lanes & lane->bit()) == 0) continue;
    lane->strand.Run([this, call, lane = lane.get()] {
      bool pending;
      {
        std::lock_guard lock(call->mutex);
        pending = (call->pending & lane->bit()) != 0;
      }
      if (!pending) return;
      Prepare(*lane);
      lane->group->Cancel(call->token());
      FinishShare(*lane, call.get());
      Deliver(*lane);
    });
  }
}

}  // namespace tidegate
