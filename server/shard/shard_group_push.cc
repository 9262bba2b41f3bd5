// The pushes of a ShardGroup: admission, exactly once, application.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "server/shard/shard_group.h"

namespace tidegate {
namespace {

GradientBatch BatchOf(const wire::PushRequest& request, const KeySelection& selection, size_t table_index) {
  const wire::TableGradients& table = request.tables[table_index];
  GradientBatch batch;
  batch.keys = table.keys;
  batch.positions = selection.Of(table_index);
  batch.values = table.values;
  batch.value_type = WireDataType(request.value_type);
  batch.counts = table.counts;
  return batch;
}

size_t SelectedKeys(const PushCall& call) {
  size_t keys = 0;
  for (size_t t = 0; t < call.request.tables.size(); ++t) {
    keys += call.selection.Count(t, call.request.tables[t].keys.size());
  }
  return keys;
}

absl::Status WindowIsFull() {
  return absl::UnavailableError(
      "the replicas are behind: more than a window of pushes waits for their acknowledgement");
}

// Keeps positions that a strand chose itself alive as long as the call.
struct OwnedSelection {
  std::shared_ptr<const void> bytes;
  std::vector<std::vector<uint32_t>> positions;
};

}  // namespace

template <typename Call>
std::vector<ShardId> ShardGroup::SelectOwned(Call* call) {
  std::vector<ShardId> refused;
  std::fill(touched_.begin(), touched_.end(), 0);
  uint64_t foreign = 0;
  for (size_t t = 0; t < call->request.tables.size(); ++t) {
    const auto& table = call->request.tables[t];
    foreign += shard_map_.Touch(table.table, table.keys, call->selection.all,
                                call->selection.Of(t), touched_);
    shard_map_.CountRows(table.table, table.keys, call->selection.all, call->selection.Of(t), &next_counted_, shard_rows_);
  }
  if (foreign == 0) return refused;
  auto owned = std::make_shared<OwnedSelection>();
  owned->bytes = std::move(call->owner);
  for (size_t t = 0; t < call->request.tables.size(); ++t) {
    const auto& table = call->request.tables[t];
    std::vector<uint32_t>& positions = owned->positions.emplace_back();
    const size_t count = call->selection.Count(t, table.keys.size());
    for (size_t i = 0; i < count; ++i) {
      const uint32_t position =
          call->selection.all ? static_cast<uint32_t>(i) : call->selection.positions[t][i];
      const ShardId shard = shard_map_.ShardOf(table.table, table.keys[position]);
      if (shard_map_.Leads(shard)) {
        positions.push_back(position);
      } else {
        refused.push_back(shard);
      }
    }
  }
  std::sort(refused.begin(), refused.end());
  refused.erase(std::unique(refused.begin(), refused.end()), refused.end());
  call->selection.all = false;
  call->selection.positions.assign(owned->positions.begin(), owned->positions.end());
  call->owner = std::move(owned);
  return refused;
}
template std::vector<ShardId> ShardGroup::SelectOwned(PullCall*);
template std::vector<ShardId> ShardGroup::SelectOwned(PushCall*);

void ShardGroup::RefusePush(CallToken token, absl::Status status, ShardEffects* effects) {
  uint64_t ShardMetrics::*refusal = &ShardMetrics::pushes_refused_other;
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      refusal = &ShardMetrics::pushes_refused_routing;
      break;
    case absl::StatusCode::kResourceExhausted:
      refusal = &ShardMetrics::pushes_refused_memory;
      break;
    case absl::StatusCode::kFailedPrecondition:
      refusal = status.message().find("generation") == 0 ? &ShardMetrics::pushes_refused_generation
                                                         : &ShardMetrics::pushes_refused_rejoin;
      break;
    default:
      break;
  }
  ++(metrics_.*refusal);
  effects->pushes.push_back({token, std::move(status), {}, 0, refusal});
}

absl::Status ShardGroup::CheckMemory(const PushCall& call, uint64_t* needed_bytes) const {
  *needed_bytes = 0;
  const MemoryBudget* budget = options_.budget;
  if (budget == nullptr || budget->limit_bytes() == 0) return absl::OkStatus();
  // First as if every key were new: the keys are looked up only when that would not fit.
  for (bool look_up : {false, true}) {
    *needed_bytes = 0;
    for (size_t t = 0; t < call.request.tables.size(); ++t) {
      const wire::TableGradients& table = call.request.tables[t];
      const TableGroup& group = *tables_[table.table];
      uint64_t rows = call.selection.Count(t, table.keys.size());
      if (rows == 0) continue;
      if (look_up) rows = group.CountAbsent(table.keys, call.selection.Of(t));
      *needed_bytes += rows == 0 ? 0 : group.BytesForRows(rows);
    }
    // Strands that checked at the same time may have gone over: rows that are there still learn.
    if (*needed_bytes == 0 || budget->Allows(*needed_bytes)) return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      "push needs up to ", *needed_bytes, " bytes for new rows, ", budget->used_bytes(),
      " are used: --memory_limit_bytes=", budget->limit_bytes(),
      " is reached. Add servers, raise it, or let tables evict"));
}

uint64_t ShardGroup::Apply(const wire::PushRequest& request, const KeySelection& selection,
                           const UpdateArguments& arguments, std::span<const uint8_t> skip_shard,
                           ShardEffects* effects) {
  highest_clock_ = std::max(highest_clock_, arguments.clock);
  uint64_t skipped = 0, fresh = 0;
  for (size_t t = 0; t < request.tables.size(); ++t) {
    const wire::TableGradients& table = request.tables[t];
    const size_t keys = selection.Count(t, table.keys.size());
    if (keys == 0) continue;
    const GradientBatch batch = BatchOf(request, selection, t);
    BeforeWrite(table.table, batch);
    if (fills_open_ > 0) BeforeFilledWrite(table.table, batch, effects);
    const ApplyResult result = tables_[table.table]->Apply(batch, arguments, skip_shard);
    skipped += result.skipped;
    fresh += result.created + result.unadmitted;
  }
  if (fresh > 0) ReportBytes();  // it looks at every shard
  return skipped;
}

void ShardGroup::Push(PushCall call, ShardEffects* effects) {
  absl::Status status = CheckStamp(call.request.stamp);
  if (status.ok() && catalog_ == nullptr) {
    status = absl::UnavailableError("tables are not open yet");
  }
  if (!status.ok()) {
    RefusePush(call.token, std::move(status), effects);
  } else if (call.request.asks) {
    Ask(std::move(call), effects);
  } else if (options_.synchronous && call.request.stamp.incarnation != 0) {
    PushForClock(std::move(call), effects);
  } else {
    PushAtOnce(std::move(call), effects);
  }
}

// A worker's own pull at the clock waited for the others; where it asked another server than this one,
// their ticks are on the way here.
absl::Status ShardGroup::CheckAhead(const wire::PushRequest& request) const {
  if (!options_.staleness.has_value()) return absl::OkStatus();
  if (request.clock <= released_clock() + *options_.staleness + kPushAheadMax) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(absl::StrCat(
      "push of clock ", request.clock, " by worker ", request.stamp.incarnation, " while clock ",
      released_clock(), " is the last that all workers have ended: at most staleness (",
      *options_.staleness, ") + ", kPushAheadMax, " ahead"));
}

void ShardGroup::PushAtOnce(PushCall call, ShardEffects* effects) {
  const Incarnation worker = call.request.stamp.incarnation;
  const wire::PushRequest& request = call.request;
  PushDone done;
  done.token = call.token;
  done.refused_shards = SelectOwned(&call);
  std::span<ShardSession> session;
  size_t duplicates = 0;
  absl::Status status;
  if (worker != 0) status = CheckAhead(request);
  if (status.ok() && now_ < serves_from_) status = CheckServing(touched_);
  if (status.ok() && handovers_ > 0) status = CheckHandovers(touched_, /*writes=*/true);
  // No backup's acknowledgement is waited for: that none was promoted meanwhile is known by their grants alone.
  if (status.ok() && log_.any() && !log_.durable()) status = CheckGrants(nullptr);
  if (worker != 0 && status.ok()) {
    if (!sessions_.Has(worker) && sessions_.size() >= options_.max_workers) {
      status = absl::ResourceExhaustedError(
          absl::StrCat("this server has ", sessions_.size(), " sessions, the most allowed"));
    } else {
      session = sessions_.Of(worker);
      status = Sessions::FindDuplicates(session, request.sequence, request.oldest_unacked,
                                        touched_, skip_, &duplicates);
    }
  }
  const size_t touched = static_cast<size_t>(std::count(touched_.begin(), touched_.end(), 1));
  const bool all_duplicate = duplicates > 0 && duplicates == touched;
  uint64_t needed_bytes = 0;
  if (status.ok() && !all_duplicate && log_.any() && log_.WindowFull(touched_)) status = WindowIsFull();
  if (status.ok() && !all_duplicate && request.weight > 0) {
    status = CheckMemory(call, &needed_bytes);
  }
  if (!status.ok()) {
    RefusePush(call.token, std::move(status), effects);
    return;
  }
  if (duplicates > 0) ++metrics_.duplicate_pushes;
  if (all_duplicate) {
    done.duplicate_rows = SelectedKeys(call);
  } else {
    const Clock clock = worker != 0 ? request.clock : released_clock() + 1;
    if (duplicates == 0) std::fill(skip_.begin(), skip_.end(), 0);
    if (request.weight > 0) {
      UpdateArguments arguments;
      arguments.scale = static_cast<float>(1.0 / request.weight);
      arguments.lr_scale = LearningRateAt(clock);
      arguments.clock = clock;
      std::span<const uint8_t> skip;
      if (duplicates > 0) skip = skip_;
      done.duplicate_rows = Apply(request, call.selection, arguments, skip, effects);
      metrics_.pushed_rows += SelectedKeys(call) - done.duplicate_rows;
    }
    if (log_.any()) LogPush(call, clock, effects);
  }
  if (worker != 0) Sessions::MarkApplied(session, request.sequence, request.oldest_unacked, touched_, skip_);
  metrics_.duplicate_rows += done.duplicate_rows;
  FinishPush(std::move(done), touched_, effects);
}

void ShardGroup::PushForClock(PushCall call, ShardEffects* effects) {
  const CallToken token = call.token;
  const wire::PushRequest& request = call.request;
  absl::Status status;
  if (request.stamp.epoch < primary_epoch_) {
    status = absl::UnavailableError(absl::StrCat(
        "routing older: the push was split by the table of epoch ", request.stamp.epoch,
        ", shards have new primaries since ", primary_epoch_));
  } else if (now_ < serves_from_) {
    status = CheckServing(led_);
  }
  if (!status.ok()) {
    RefusePush(token, std::move(status), effects);
    return;
  }
  if (!LeadsAny()) {
    // Nothing of any clock is this strand's.
    applied_clock_ = std::max(applied_clock_, request.clock);
    PushDone done;
    done.token = token;
    done.refused_shards = SelectOwned(&call);
    effects->pushes.push_back(std::move(done));
    CutIfDue();
    return;
  }
  if (!clocks_.IsLive(request.stamp.incarnation)) {
    status = absl::UnavailableError(absl::StrCat("worker ", request.stamp.incarnation,
                                                 " has not said Hello to this server"));
  } else if (SyncAggregator::IsDuplicate(request.clock, applied_clock_) || IsDropped(request)) {
    PushDone done;
    done.token = token;
    done.duplicate_rows = SelectedKeys(call);
    ++metrics_.duplicate_pushes;
    metrics_.duplicate_rows += done.duplicate_rows;
    FinishPush(std::move(done), led_, effects);
    return;
  }
  if (status.ok() && log_.any() && log_.WindowFull(led_)) status = WindowIsFull();
  if (status.ok()) status = aggregator_.Check(request, applied_clock_);
  SyncAggregator::Held held;
  if (status.ok()) {
    held.refused_shards = SelectOwned(&call);
    status = CheckMemory(call, &held.reserved_bytes);
  }
  if (!status.ok()) {
    RefusePush(token, std::move(status), effects);
    return;
  }
  held.call = std::move(call);
  if (std::optional<CallToken> replaced = aggregator_.Add(std::move(held))) {
    RefusePush(*replaced, absl::AbortedError("replaced by a retry of the push"), effects);
  }
  ReportBytes();
  AfterClocks(applied_clock_, effects);
}

void ShardGroup::ApplyClock(const SyncAggregator::Contributions& batch, ShardEffects* effects) {
  // A shard that came with a later clock has this one already.
  bool skips = false;
  for (uint32_t local = 0; local < replicas_.size(); ++local) {
    skip_[local] = replicas_[local].led && replicas_[local].applied < batch.clock ? 0 : 1;
    skips = skips || (skip_[local] != 0 && replicas_[local].led);
  }
  const std::span<const uint8_t> skip = skips ? std::span<const uint8_t>(skip_) : std::span<const uint8_t>();
  for (const SyncAggregator::Held& held : batch.pushes) {
    const PushCall& call = held.call;
    if (!(call.request.weight > 0)) continue;
    for (size_t t = 0; t < call.request.tables.size(); ++t) {
      const wire::TableGradients& table = call.request.tables[t];
      const size_t keys = call.selection.Count(t, table.keys.size());
      if (keys == 0) continue;
      accumulators_[table.table]->Add(BatchOf(call.request, call.selection, t), *tables_[table.table], skip);
      metrics_.pushed_rows += keys;
    }
  }
  UpdateArguments arguments;
  if (batch.weight > 0) arguments.scale = static_cast<float>(1.0 / batch.weight);
  arguments.lr_scale = LearningRateAt(batch.clock);
  arguments.clock = batch.clock;
  if (batch.weight > 0) highest_clock_ = std::max(highest_clock_, batch.clock);
  std::vector<GradientBatch> sums(tables_.size());
  for (TableId id = 0; id < tables_.size(); ++id) {
    if (accumulators_[id]->size() == 0) continue;
    sums[id] = accumulators_[id]->Sum();
    BeforeWrite(id, sums[id]);
    if (fills_open_ > 0) BeforeFilledWrite(id, sums[id], effects);
    tables_[id]->Apply(sums[id], arguments);
  }
  for (uint32_t local = 0; local < replicas_.size(); ++local) {
    if (skip_[local] == 0) replicas_[local].applied = batch.clock;
  }
  if (log_.any()) LogClock(batch, sums, skip_, effects);
  for (const auto& accumulator : accumulators_) accumulator->Clear();
  applied_clock_ = batch.clock;
  ReportBytes();
  SweepCrossed(batch.clock - 1, batch.clock, skip, effects);
}

}  // namespace tidegate
