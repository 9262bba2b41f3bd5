// ShardGroup: what its followers are sent.

#include <algorithm>
#include <cstring>
#include <utility>

#include "server/shard/shard_group.h"

namespace tidegate {

// Of a record that holds a part of a message only.
struct RecordBytes {
  struct Table {
    std::vector<Key> keys;
    std::vector<std::byte> values;
    std::vector<uint32_t> counts;
  };
  std::vector<std::unique_ptr<Table>> tables;
  size_t size = 0;
};

namespace {

constexpr size_t kKeyBytes = sizeof(Key) + sizeof(uint32_t);  // and its count
constexpr size_t kRestBytes = 1 << 20;  // of a record, where the rest of a table goes at once

size_t BytesOf(const wire::PushRequest& push) {
  size_t bytes = 0;
  for (const wire::TableGradients& table : push.tables) {
    bytes += table.keys.bytes().size() + table.values.size() + table.counts.bytes().size();
  }
  return bytes;
}

}  // namespace

// ---- pushes ----------------------------------------------------------------

bool ShardGroup::SelectFor(const ReplicaLog::Follower& follower, TableId table, const GradientBatch& batch,
                           std::span<const uint8_t> skip, std::vector<uint32_t>* positions) const {
  const TableGroup& group = *tables_[table];
  const size_t count = batch.positions.empty() ? batch.keys.size() : batch.positions.size();
  for (size_t i = 0; i < count; ++i) {
    const uint32_t position = batch.positions.empty() ? static_cast<uint32_t>(i) : batch.positions[i];
    const Key key = batch.keys[position];
    const uint32_t local = group.LocalOfKey(key);
    const Follows follows = follower.follows[local];
    if (follows == Follows::kNot || skip[local] != 0) continue;
    if (follows == Follows::kFilling && !replicas_[local].fill->HasPassed(table, key)) continue;
    positions->push_back(position);
  }
  return !positions->empty();
}

void ShardGroup::AppendGradients(const ReplicaLog::Follower& follower, TableId table, const GradientBatch& batch,
                                 std::span<const uint8_t> skip, RecordBytes* bytes,
                                 wire::PushRecord* record) const {
  std::vector<uint32_t> positions;
  if (!SelectFor(follower, table, batch, skip, &positions)) return;
  RecordBytes::Table& copy = *bytes->tables.emplace_back(std::make_unique<RecordBytes::Table>());
  const size_t row = tables_[table]->layout().WireRowBytes(batch.value_type);
  copy.values.resize(positions.size() * row);
  for (size_t i = 0; i < positions.size(); ++i) {
    copy.keys.push_back(batch.keys[positions[i]]);
    if (!batch.counts.empty()) copy.counts.push_back(batch.counts[positions[i]]);
    std::memcpy(copy.values.data() + i * row, batch.values.data() + positions[i] * row, row);
  }
  wire::TableGradients& out = record->push.tables.emplace_back();
  out.table = table;
  out.keys = PackedSpan<Key>(copy.keys.data(), copy.keys.size());
  out.values = copy.values;
  out.counts = PackedSpan<uint32_t>(copy.counts.data(), copy.counts.size());
}

void ShardGroup::LogPush(const PushCall& call, Clock clock, ShardEffects* effects) {
  const wire::PushRequest& request = call.request;
  for (ReplicaLog::Follower& follower : log_.followers()) {
    if (!follower.active) continue;
    wire::PushRecord record;
    record.clock = clock;
    record.lr_scale = LearningRateAt(clock);
    bool any = false;
    bool whole = call.selection.all;
    for (uint32_t local = 0; local < replicas_.size(); ++local) {
      if (touched_[local] == 0) continue;
      const Follows follows = follower.follows[local];
      const ShardId shard = shard_map_.shards()[local];
      whole = whole && follows >= Follows::kFilled;
      if (skip_[local] != 0) {
        if (follows != Follows::kNot) record.skip_shards.push_back(shard);
        continue;
      }
      if (follows == Follows::kNot) continue;
      if (follows == Follows::kFilling) {
        if (!replicas_[local].fill->begun()) continue;
        // Its session must know the push, whichever of the keys are there already.
        if (request.stamp.incarnation != 0) record.ended_shards.push_back(shard);
      }
      any = true;
    }
    if (!any) continue;
    std::sort(record.skip_shards.begin(), record.skip_shards.end());
    std::sort(record.ended_shards.begin(), record.ended_shards.end());
    record.push = request;
    if (whole) {
      log_.Append(&follower, std::move(record), call.owner, BytesOf(request), effects);
      continue;
    }
    record.push.tables.clear();
    auto bytes = std::make_shared<RecordBytes>();
    for (size_t t = 0; t < request.tables.size(); ++t) {
      const wire::TableGradients& table = request.tables[t];
      if (call.selection.Count(t, table.keys.size()) == 0) continue;
      GradientBatch batch;
      batch.keys = table.keys;
      batch.positions = call.selection.Of(t);
      batch.values = table.values;
      batch.value_type = WireDataType(request.value_type);
      batch.counts = table.counts;
      AppendGradients(follower, table.table, batch, skip_, bytes.get(), &record);
    }
    record.skip_shards.clear();
    if (record.push.tables.empty() && record.ended_shards.empty() && request.stamp.incarnation == 0) continue;
    const size_t size = BytesOf(record.push);
    log_.Append(&follower, std::move(record), std::move(bytes), size, effects);
  }
}

// A shard's part of a clock is in one record: it is applied there as a whole.
void ShardGroup::LogClock(const SyncAggregator::Contributions& batch, std::span<const GradientBatch> sums,
                          std::span<const uint8_t> skip, ShardEffects* effects) {
  size_t total = 0;
  for (const GradientBatch& sum : sums) total += sum.values.size() + sum.keys.size() * kKeyBytes;
  if (total <= options_.clock_record_bytes) {
    LogClockOf(batch, sums, skip, effects);
    return;
  }
  std::vector<size_t> bytes(replicas_.size(), 0);
  for (TableId id = 0; id < sums.size(); ++id) {
    const size_t row = tables_[id]->layout().WireRowBytes(sums[id].value_type);
    for (size_t i = 0; i < sums[id].keys.size(); ++i) bytes[tables_[id]->LocalOfKey(sums[id].keys[i])] += row + kKeyBytes;
  }
  std::vector<uint8_t> others(replicas_.size(), 1);
  size_t size = 0;
  for (uint32_t local = 0; local < replicas_.size(); ++local) {
    if (skip[local] != 0) continue;
    if (size > 0 && size + bytes[local] > options_.clock_record_bytes) {
      LogClockOf(batch, sums, others, effects);
      std::fill(others.begin(), others.end(), 1);
      size = 0;
    }
    others[local] = 0;
    size += bytes[local];
  }
  LogClockOf(batch, sums, others, effects);
}

void ShardGroup::LogClockOf(const SyncAggregator::Contributions& batch, std::span<const GradientBatch> sums,
                            std::span<const uint8_t> skip, ShardEffects* effects) {
  for (ReplicaLog::Follower& follower : log_.followers()) {
    if (!follower.active) continue;
    wire::PushRecord record;
    record.clock = batch.clock;
    record.lr_scale = LearningRateAt(batch.clock);
    for (uint32_t local = 0; local < replicas_.size(); ++local) {
      const Follows follows = follower.follows[local];
      if (skip[local] != 0 || follows == Follows::kNot) continue;
      if (follows == Follows::kFilling && !replicas_[local].fill->begun()) continue;
      record.ended_shards.push_back(shard_map_.shards()[local]);
    }
    if (record.ended_shards.empty()) continue;
    std::sort(record.ended_shards.begin(), record.ended_shards.end());
    record.push.stamp.generation = options_.generation;
    record.push.clock = batch.clock;
    record.push.weight = batch.weight;
    auto bytes = std::make_shared<RecordBytes>();
    for (TableId id = 0; id < sums.size(); ++id) {
      if (!sums[id].keys.empty()) AppendGradients(follower, id, sums[id], skip, bytes.get(), &record);
    }
    const size_t size = BytesOf(record.push);
    log_.Append(&follower, std::move(record), std::move(bytes), size, effects);
  }
}

void ShardGroup::LogSweep(TableId table, Clock clock, std::span<const uint8_t> swept, ShardEffects* effects) {
  for (ReplicaLog::Follower& follower : log_.followers()) {
    if (!follower.active) continue;
    wire::SweepRecord record{table, clock, {}};
    for (uint32_t local = 0; local < replicas_.size(); ++local) {
      const Follows follows = follower.follows[local];
      if (swept[local] == 0 || follows == Follows::kNot) continue;
      if (follows == Follows::kFilling && !replicas_[local].fill->begun()) continue;
      record.shards.push_back(shard_map_.shards()[local]);
    }
    if (record.shards.empty()) continue;
    std::sort(record.shards.begin(), record.shards.end());
    const size_t size = record.shards.size() * sizeof(ShardId);
    log_.Append(&follower, std::move(record), nullptr, size, effects);
  }
}

void ShardGroup::LogWorkers(ReplicaLog::Follower* follower, ShardEffects* effects) {
  log_.Append(follower, wire::WorkersRecord{workers_}, nullptr, workers_.ByteSizeLong(), effects);
}

// ---- fills -----------------------------------------------------------------

ReplicaLog::Follower* ShardGroup::FollowerOf(Incarnation server) {
  for (ReplicaLog::Follower& follower : log_.followers()) {
    if (follower.server == server) return &follower;
  }
  return nullptr;
}

void ShardGroup::BeforeFilledWrite(TableId table, const GradientBatch& batch, ShardEffects* effects) {
  const TableGroup& group = *tables_[table];
  const size_t count = batch.positions.empty() ? batch.keys.size() : batch.positions.size();
  const auto is_sent = [&](uint32_t local) {
    const ShardFill* fill = replicas_[local].fill.get();
    return fill != nullptr && fill->begun() && fill->end_index == 0 && fill->table() == table;
  };
  bool any = false;
  for (uint32_t local = 0; local < replicas_.size(); ++local) {
    if (!is_sent(local)) continue;
    // When counters are halved depends on all that are there, at the follower too: send them first.
    while (!group.layout().admits_at_once() && is_sent(local) && group.shard(local).HasManyCounters(count)) {
      SendRows(local, kRestBytes, effects);
    }
    any = any || is_sent(local);
  }
  if (!any) return;
  for (size_t i = 0; i < count; ++i) {
    const Key key = batch.keys[batch.positions.empty() ? i : batch.positions[i]];
    const uint32_t local = group.LocalOfKey(key);
    if (is_sent(local) && !replicas_[local].fill->HasPassed(table, key)) replicas_[local].fill->Note(table, key);
  }
}

void ShardGroup::BeginFill(uint32_t local, ReplicaLog::Follower* follower, ShardEffects* effects) {
  wire::FillRecord record;
  record.shard = shard_map_.shards()[local];
  record.begins = true;
  record.header.set_shard(record.shard);
  record.header.set_shards(1u << shard_map_.log2_shards());
  record.header.set_clock(options_.synchronous ? replicas_[local].applied : released_clock());
  record.header.set_highest_clock(highest_clock_);
  record.header.set_decided_clock(replicas_[local].decided);
  sessions_.AppendRecords(local, &record.header);
  replicas_[local].fill->Begin();
  const size_t size = record.header.ByteSizeLong();
  log_.Append(follower, std::move(record), nullptr, size, effects);
}

// Of the table in work.
void ShardGroup::SendRows(uint32_t local, size_t bytes, ShardEffects* effects) {
  ShardFill& fill = *replicas_[local].fill;
  wire::FillRecord record;
  record.shard = shard_map_.shards()[local];
  record.table = fill.table();
  auto rows = std::make_shared<std::string>();
  fill.Take(tables_[fill.table()]->shard(local), bytes, rows.get());
  if (rows->empty()) return;
  record.records = std::as_bytes(std::span(*rows));
  const size_t size = rows->size();
  log_.Append(FollowerOf(fill.to()), std::move(record), std::move(rows), size, effects);
}

void ShardGroup::EndFill(uint32_t local, ReplicaLog::Follower* follower, ShardEffects* effects) {
  wire::FillRecord record;
  record.shard = shard_map_.shards()[local];
  record.end = true;
  replicas_[local].fill->end_index = log_.Append(follower, std::move(record), nullptr, 0, effects);
  follower->follows[local] = Follows::kFilled;
  --fills_open_;
}

bool ShardGroup::FillStep(size_t bytes, ShardEffects* effects) {
  constexpr size_t kStepMin = 1024;  // what a step without rows counts for
  for (uint32_t local = 0; local < replicas_.size() && fills_open_ > 0 && catalog_ != nullptr && bytes > 0; ++local) {
    ShardFill* fill = replicas_[local].fill.get();
    if (fill == nullptr || fill->end_index != 0) continue;
    ReplicaLog::Follower* follower = FollowerOf(fill->to());
    if (!fill->begun() && log_.HasRoom(*follower)) BeginFill(local, follower, effects);
    while (bytes > 0 && fill->table() < tables_.size() && log_.HasRoom(*follower)) {
      const size_t before = follower->unacked_bytes;
      SendRows(local, bytes, effects);
      bytes -= std::min(bytes, std::max(follower->unacked_bytes - before, kStepMin));
    }
    if (fill->begun() && fill->table() == tables_.size()) EndFill(local, follower, effects);
  }
  return fills_open_ > 0;
}

// ---- acknowledgements, grants, digests -------------------------------------

void ShardGroup::SetGrant(Incarnation backup, TimeMs until) { log_.SetGrant(backup, until); }

void ShardGroup::Acknowledged(Incarnation follower, uint64_t index, ShardEffects* effects) {
  log_.Acknowledged(follower, index, effects);
  const ReplicaLog::Follower* known = log_.Find(follower);
  if (known == nullptr) return;
  for (uint32_t local = 0; local < replicas_.size(); ++local) {
    ShardFill* fill = replicas_[local].fill.get();
    if (fill == nullptr || fill->to() != follower || fill->told) continue;
    if (fill->end_index == 0 || fill->end_index > known->acked) continue;
    fill->told = true;
    effects->in_sync.push_back({shard_map_.shards()[local], follower});
  }
  HandoverStep(effects);
}

void ShardGroup::AppendDigests(size_t shards, ShardEffects* effects) {
  if (!log_.any() || catalog_ == nullptr) return;
  for (size_t visited = 0; visited < replicas_.size() && shards > 0; ++visited) {
    const size_t local = next_digest_++ % replicas_.size();
    if (!replicas_[local].led) continue;
    --shards;
    const ShardId shard = shard_map_.shards()[local];
    std::optional<uint64_t> digest;
    for (ReplicaLog::Follower& follower : log_.followers()) {
      if (follower.follows[local] < Follows::kFilled) continue;
      if (!digest.has_value()) digest = ShardDigest(shard);
      log_.Append(&follower, wire::DigestRecord{{shard}, {*digest}}, nullptr, sizeof(*digest), effects);
    }
  }
}

}  // namespace tidegate
