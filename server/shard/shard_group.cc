#include "server/shard/shard_group.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"

namespace tidegate {

ShardGroup::ShardGroup(const Options& options, RowSink* sink)
    : options_(options),
      sink_(sink),
      log_(options.durable, options.log_window_bytes, options.log_window_records),
      parked_(options.max_parked_per_worker) {}

ShardGroup::~ShardGroup() {
  if (options_.budget != nullptr) options_.budget->Add(-static_cast<int64_t>(reported_bytes_));
}

// ---- control ---------------------------------------------------------------

absl::Status ShardGroup::OpenTables(std::shared_ptr<const TableCatalog> catalog) {
  if (catalog_ != nullptr) {
    if (catalog_->SameSpecs(*catalog)) return absl::OkStatus();
    return absl::FailedPreconditionError("other tables are open already");
  }
  if (shard_map_.empty()) {
    return absl::FailedPreconditionError("tables cannot open before the routing table is known");
  }
  catalog_ = std::move(catalog);
  for (TableId id = 0; id < catalog_->size(); ++id) {
    const RowLayout* layout = &catalog_->layout(id);
    tables_.push_back(
        std::make_unique<TableGroup>(layout, shard_map_.log2_shards(), shard_map_.shards()));
    accumulators_.push_back(
        options_.synchronous ? std::make_unique<GradientAccumulator>(layout) : nullptr);
  }
  ReportBytes();
  return absl::OkStatus();
}

void ShardGroup::SetWorkers(const WorkerSet& workers, ShardEffects* effects) {
  const Clock before = released_clock();
  const bool newer = workers.version() > clocks_.set_version();
  const std::vector<Incarnation> removed = clocks_.SetWorkers(workers);
  auto rejoin = [](Incarnation worker) {
    return absl::FailedPreconditionError(
        absl::StrCat("rejoin: the scheduler has removed worker ", worker));
  };
  for (Incarnation worker : sessions_.Workers()) {
    if (clocks_.IsRemoved(worker)) sessions_.Drop(worker);
  }
  if (newer) workers_ = workers;
  for (ReplicaLog::Follower& follower : log_.followers()) {
    if (newer && follower.active) LogWorkers(&follower, effects);
  }
  for (Incarnation worker : removed) {
    for (const SyncAggregator::Held& held : aggregator_.Discard(worker)) {
      if (held.wanted) RefusePush(held.call.token, rejoin(worker), effects);
    }
    RefuseAsks(worker, rejoin(worker), effects);
  }
  auto gone = [this](const PullCall& call) {
    const Incarnation worker = call.request.stamp.incarnation;
    return worker != 0 && clocks_.IsRemoved(worker);
  };
  for (PullCall& call : parked_.TakeIf(gone)) {
    effects->pulls.push_back(
        {call.token, rejoin(call.request.stamp.incarnation), released_clock(), {}});
  }
  AfterClocks(before, effects);
}

void ShardGroup::Sweep(Clock clock, ShardEffects* effects) {
  for (TableId id = 0; id < tables_.size(); ++id) SweepTable(id, clock, {}, effects);
}

void ShardGroup::SweepTable(TableId id, Clock clock, std::span<const uint8_t> skip, ShardEffects* effects) {
  if (!catalog_->layout(id).evicts()) return;
  TableGroup& table = *tables_[id];
  if (cut_.open()) cut_.BeforeSweep(id);
  std::vector<uint8_t> swept(replicas_.size(), 0);
  for (uint32_t local = 0; local < replicas_.size(); ++local) {
    // One that is handed over is swept by its next primary, the next time.
    if (!replicas_[local].led || replicas_[local].handing_over || (!skip.empty() && skip[local] != 0)) continue;
    swept[local] = 1;
    metrics_.swept_rows += table.shard(local).Sweep(clock, nullptr);
  }
  if (log_.any()) LogSweep(id, clock, swept, effects);
  ReportBytes();
}

void ShardGroup::SweepCrossed(Clock before, Clock after, std::span<const uint8_t> skip, ShardEffects* effects) {
  for (TableId id = 0; id < tables_.size(); ++id) {
    const uint64_t every = catalog_->spec(id).eviction().sweep_every_clocks();
    if (every == 0) continue;
    const uint64_t ended_before = static_cast<uint64_t>(std::max<Clock>(before + 1, 0));
    const uint64_t ended_after = static_cast<uint64_t>(std::max<Clock>(after + 1, 0));
    if (ended_after / every > ended_before / every) SweepTable(id, after, skip, effects);
  }
}

// ---- checkpoints -----------------------------------------------------------

void ShardGroup::ArmCut(uint64_t number, Clock clock, uint64_t base) {
  cut_.Arm(number, clock, base);
  CutIfDue();
}

void ShardGroup::CutIfDue() {
  if (!cut_.DueAt(released_clock(), clocks_.AnyLive())) return;
  cut_.Begin(&tables_, shard_map_, sessions_, released_clock(), highest_clock_,
             options_.log_touched ? &touched_since_ : nullptr);
}

void ShardGroup::BeforeWrite(TableId id, const GradientBatch& batch) {
  if (cut_.open()) cut_.BeforeWrite(id, batch.keys, batch.positions);
}

void ShardGroup::Resume(Clock clock, float learning_rate_scale) {
  applied_clock_ = highest_clock_ = clock;
  for (Replica& replica : replicas_) replica.applied = replica.decided = clock;
  clocks_.StartAt(clock);
  learning_rate_scale_ = learning_rate_scale;
  ReportBytes();
}

// ---- clocks ----------------------------------------------------------------

Clock ShardGroup::released_clock() const {
  return options_.synchronous ? applied_clock_ : clocks_.Minimum();
}

// At staleness 0 a shard that was led elsewhere may have clocks that others here lack, with the contribution of a worker that
// is gone since: one that joins begins above them, or what it pushes would be passed over there.
Clock ShardGroup::JoinClock() const {
  Clock highest = released_clock();
  if (!options_.synchronous) return highest;
  for (const Replica& replica : replicas_) {
    if (replica.led) highest = std::max(highest, replica.applied);
  }
  return highest;
}

absl::Status ShardGroup::CheckStamp(const wire::Stamp& stamp) const {
  if (stamp.generation != options_.generation &&
      (stamp.generation != 0 || stamp.incarnation != 0)) {
    return absl::FailedPreconditionError(absl::StrCat("generation ", stamp.generation,
                                                      " of the sender is not the job's, ",
                                                      options_.generation));
  }
  if (stamp.incarnation != 0 && clocks_.IsRemoved(stamp.incarnation)) {
    return absl::FailedPreconditionError(
        absl::StrCat("rejoin: worker ", stamp.incarnation, " is not a member"));
  }
  if (clocks_.IsUnknown(stamp.incarnation)) {
    return absl::UnavailableError(absl::StrCat("worker ", stamp.incarnation,
                                               " is not known here yet: the scheduler's newest set of "
                                               "workers does not reach so far"));
  }
  if (stamp.epoch > epoch_) {
    return absl::UnavailableError(absl::StrCat("routing newer: the sender's epoch is ",
                                               stamp.epoch, ", this server's ", epoch_));
  }
  return absl::OkStatus();
}

void ShardGroup::Announce(CallToken token, const wire::ClockRequest& request,
                          ShardEffects* effects) {
  const Incarnation worker = request.stamp.incarnation;
  absl::Status status = CheckStamp(request.stamp);
  if (status.ok() && worker == 0) {
    status = absl::InvalidArgumentError("a clock announcement needs the worker's incarnation");
  }
  // Meant for a server that led then, at whose address this one may be: what that one had released is not known here.
  if (status.ok() && request.kind == wire::ClockRequest::Kind::kHello && request.stamp.epoch < primary_epoch_) {
    status = absl::UnavailableError(absl::StrCat("routing older: Hello by the table of epoch ", request.stamp.epoch,
                                                 ", shards have new primaries since ", primary_epoch_));
  }
  if (status.ok() && (request.clock < -kClockLimit ||
                      request.clock > std::min(kClockLimit, released_clock() + kClockJumpMax))) {
    status = absl::InvalidArgumentError(absl::StrCat("announcement of clock ", request.clock,
                                                     " while clock ", released_clock(),
                                                     " is released"));
  }
  if (status.ok()) status = CheckClosed(request);
  if (status.ok() && !clocks_.workers().contains(worker) &&
      clocks_.size() >= options_.max_workers) {
    status = absl::ResourceExhaustedError(
        absl::StrCat("this server counts ", clocks_.size(), " workers, the most allowed"));
  }
  if (!status.ok()) {
    effects->clocks.push_back({token, std::move(status), released_clock()});
    return;
  }
  Clock before = released_clock();
  if (clocks_.LeaveForHello(worker, request)) {
    DiscardHeld(worker, effects);
    AfterClocks(before, effects);
    before = released_clock();
  }
  if (clocks_.Awaits() && request.kind == wire::ClockRequest::Kind::kHello) {
    clocks_.Hear(worker, request.stamp.epoch);
    AfterClocks(before, effects);
    before = released_clock();
    if (clocks_.Awaits()) {
      effects->clocks.push_back(
          {token, absl::UnavailableError("takes over: not all workers have told this server how far they are"), before});
      return;
    }
  }
  if (clocks_.Announce(worker, request, JoinClock()) && !clocks_.IsLive(worker)) DiscardHeld(worker, effects);
  if (drops() && request.kind == wire::ClockRequest::Kind::kTick) TakeTick(request, effects);
  AfterClocks(before, effects);
  effects->clocks.push_back(
      {token, absl::OkStatus(), clocks_.AnswerTo(worker, request, released_clock())});
}

void ShardGroup::DiscardHeld(Incarnation worker, ShardEffects* effects) {
  for (const SyncAggregator::Held& held : aggregator_.Discard(worker)) {
    if (held.wanted) RefusePush(held.call.token, absl::AbortedError("the worker has parked"), effects);
  }
  RefuseAsks(worker, absl::AbortedError("the worker has parked"), effects);
}

void ShardGroup::JoinAt(Incarnation worker, uint64_t order, Clock clock, ShardEffects* effects) {
  const Clock before = released_clock();
  clocks_.JoinAt(worker, order, clock);
  AfterClocks(before, effects);
}

void ShardGroup::AfterClocks(Clock before, ShardEffects* effects) {
  if (!options_.synchronous) {
    if (released_clock() != before) {
      ReleaseParked(effects);
      SweepCrossed(before, released_clock(), {}, effects);
    }
    CutIfDue();
    return;
  }
  while (handovers_ == 0 && !clocks_.Awaits()) {
    std::optional<SyncAggregator::Contributions> batch = TakeNextClock(effects);
    if (!batch.has_value()) break;
    ApplyClock(*batch, effects);
    ++metrics_.clocks_applied;
    for (std::vector<SyncAggregator::Held>* pushes : {&batch->pushes, &batch->dropped}) {
      for (SyncAggregator::Held& held : *pushes) {
        if (!held.wanted) continue;
        FinishPush({held.call.token, absl::OkStatus(), std::move(held.refused_shards), 0}, led_, effects);
      }
    }
    if (drops()) AnswerAsks(effects);
    CutIfDue();
    ReleaseParked(effects);
  }
  CutIfDue();
}

void ShardGroup::ReleaseParked(ShardEffects* effects) {
  for (PullCall& call : parked_.TakeReleased(released_clock())) Release(std::move(call), effects);
}

// ---- pulls -----------------------------------------------------------------

void ShardGroup::Pull(PullCall call, ShardEffects* effects) {
  const wire::PullRequest& request = call.request;
  absl::Status status = CheckStamp(request.stamp);
  if (status.ok() && catalog_ == nullptr) {
    status = absl::UnavailableError("tables are not open yet");
  }
  const bool waits = !request.eval && request.stamp.incarnation != 0 &&
                     ParkedPulls::MustWait(request.bound, released_clock());
  if (status.ok() && !waits) {
    Release(std::move(call), effects);
    return;
  }
  const CallToken token = call.token;
  if (status.ok()) {
    absl::StatusOr<std::optional<CallToken>> replaced = parked_.Park(std::move(call));
    if (replaced.ok()) {
      ++metrics_.pulls_parked;
      if (!replaced->has_value()) return;
      ++metrics_.pulls_replaced;
      effects->pulls.push_back({**replaced, absl::AbortedError("replaced by a retry of the pull"),
                                released_clock(), {}});
      return;
    }
    status = replaced.status();
  }
  effects->pulls.push_back({token, std::move(status), released_clock(), {}});
}

void ShardGroup::Release(PullCall call, ShardEffects* effects) {
  const wire::PullRequest& request = call.request;
  const Clock released = released_clock();
  PullDone done;
  done.token = call.token;
  done.min_clock = released;
  const bool by_clock = !request.eval && request.stamp.incarnation != 0;
  const KeySelection asked = call.selection;
  done.refused_shards = SelectOwned(&call);
  if (log_.any() || now_ < serves_from_) {
    absl::Status status = CheckServing(touched_);
    if (status.ok()) status = CheckHandovers(touched_, /*writes=*/false);
    if (status.ok()) status = CheckGrants(&done.valid_until);
    if (!status.ok()) {
      effects->pulls.push_back({call.token, std::move(status), released, {}});
      return;
    }
  }
  UpdateArguments arguments;
  arguments.clock = by_clock ? request.clock : released + 1;
  arguments.lr_scale = LearningRateAt(arguments.clock);
  const DataType type = WireDataType(request.value_type);
  for (size_t t = 0; t < request.tables.size(); ++t) {
    const wire::TableKeys& table = request.tables[t];
    const size_t count = asked.Count(t, table.keys.size());
    if (count == 0) continue;
    const TableGroup& group = *tables_[table.table];
    const size_t row_bytes = group.layout().WireRowBytes(type);
    std::span<std::byte> rows = sink_->RowsOf(call.token, t);
    if (rows.empty()) continue;
    TG_CHECK_EQ(rows.size(), table.keys.size() * row_bytes);
    if (!done.refused_shards.empty()) {
      for (size_t i = 0; i < count; ++i) {
        const size_t row = asked.all ? i : asked.positions[t][i];
        std::memset(rows.data() + row * row_bytes, 0, row_bytes);
      }
    }
    const size_t owned = call.selection.Count(t, table.keys.size());
    if (owned == 0) continue;
    group.Gather(table.keys, call.selection.Of(t), type, arguments, rows.data());
    metrics_.pulled_rows += owned;
  }
  if (by_clock) {
    const Clock last = ShardMetrics::kStalenessBuckets - 1;
    const Clock staleness = request.clock - 1 > released ? request.clock - 1 - released : 0;
    ++metrics_.staleness[std::min(staleness, last)];
  }
  effects->pulls.push_back(std::move(done));
}

void ShardGroup::Cancel(CallToken token) {
  if (parked_.Cancel(token) || aggregator_.Cancel(token)) return;
  if (std::erase_if(asks_, [token](const auto& ask) { return ask.second == token; }) == 0) log_.Cancel(token);
}

// ---- state -----------------------------------------------------------------

uint64_t ShardGroup::rows() const {
  uint64_t rows = 0;
  for (TableId id = 0; id < tables_.size(); ++id) rows += this->rows(id);
  return rows;
}

uint64_t ShardGroup::rows(TableId table) const {
  uint64_t rows = 0;
  for (uint32_t local = 0; local < replicas_.size(); ++local) {
    if (replicas_[local].led) rows += tables_[table]->shard(local).rows();
  }
  return rows;
}

uint64_t ShardGroup::bytes() const {
  uint64_t bytes = 0;
  for (const auto& table : tables_) bytes += table->BytesUsed();
  return bytes;
}

void ShardGroup::AppendLoads(std::vector<ShardLoad>* loads) const {
  for (uint32_t local = 0; local < replicas_.size(); ++local) {
    if (!replicas_[local].led) continue;
    ShardLoad& load = loads->emplace_back();
    load.shard = shard_map_.shards()[local];
    load.rows_total = shard_rows_[local];
    for (const auto& table : tables_) load.bytes += table->shard(local).BytesUsed();
  }
}

void ShardGroup::ReportBytes() {
  if (options_.budget == nullptr) return;
  const uint64_t now = bytes() + aggregator_.reserved_bytes();
  options_.budget->Add(static_cast<int64_t>(now) - static_cast<int64_t>(reported_bytes_));
  reported_bytes_ = now;
}

uint64_t ShardGroup::ShardDigest(ShardId shard) const {
  const uint32_t local = shard_map_.LocalOf(shard);
  if (local == ShardMap::kNotLocal) return 0;
  uint64_t sum = 0;
  for (TableId id = 0; id < tables_.size(); ++id) {
    const uint64_t place = Mix64((static_cast<uint64_t>(id) << 32) | shard);
    sum += Mix64(tables_[id]->shard(local).Digest() ^ place);
  }
  return sum;
}

uint64_t ShardGroup::Digest() const {
  uint64_t sum = 0;
  for (uint32_t local = 0; local < replicas_.size(); ++local) {
    if (replicas_[local].led) sum += ShardDigest(shard_map_.shards()[local]);
  }
  return sum;
}

Clock ShardGroup::AppliedClock(ShardId shard) const {
  const uint32_t local = shard_map_.LocalOf(shard);
  return local == ShardMap::kNotLocal ? -1 : replicas_[local].applied;
}

std::vector<SessionRecord> ShardGroup::SessionsOf(ShardId shard) const {
  ShardFileHeader header;
  const uint32_t local = shard_map_.LocalOf(shard);
  if (local != ShardMap::kNotLocal) sessions_.AppendRecords(local, &header);
  return {header.sessions().begin(), header.sessions().end()};
}

}  // namespace tidegate
