// ShardGroup: what it does with the log of another server.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "server/shard/shard_group.h"

namespace tidegate {

absl::Status ShardGroup::ApplyRecord(Incarnation sender, Epoch epoch, const wire::Record& record,
                                     const KeySelection& selection, ShardEffects* effects) {
  if (epoch > epoch_) {
    return absl::UnavailableError(absl::StrCat("routing newer: the primary's epoch is ", epoch, ", this server's ",
                                               epoch_));
  }
  const bool needs_tables = !std::holds_alternative<wire::WorkersRecord>(record);
  if (catalog_ == nullptr && needs_tables) return absl::UnavailableError("tables are not open yet");
  absl::Status status;
  if (const auto* push = std::get_if<wire::PushRecord>(&record)) {
    status = Follow(sender, epoch, *push, selection, effects);
  } else if (const auto* sweep = std::get_if<wire::SweepRecord>(&record)) {
    status = Follow(sender, epoch, *sweep);
  } else if (const auto* workers = std::get_if<wire::WorkersRecord>(&record)) {
    status = Follow(sender, *workers, effects);
  } else if (const auto* digest = std::get_if<wire::DigestRecord>(&record)) {
    status = Follow(sender, epoch, *digest, effects);
  } else if (const auto* fill = std::get_if<wire::FillRecord>(&record)) {
    status = Follow(sender, epoch, *fill, effects);
  }
  if (status.ok()) ++metrics_.records_applied;
  if (!std::holds_alternative<wire::PushRecord>(record)) ReportBytes();  // Apply has
  return status;
}

ShardGroup::Standing ShardGroup::StandingOf(ShardId shard, Incarnation sender, Epoch epoch) const {
  if (shard >= leaders_.size()) return Standing::kIgnored;
  // A sender with our table knows that it leads the shard no more: what it sends is of before.
  if (leaders_[shard] != sender) return epoch < epoch_ ? Standing::kDeposed : Standing::kIgnored;
  const uint32_t local = shard_map_.LocalOf(shard);
  if (local == ShardMap::kNotLocal || !replicas_[local].begun) return Standing::kIgnored;
  return Standing::kFollowed;
}

namespace {

absl::Status Deposed(ShardId shard, Incarnation sender) {
  return absl::FailedPreconditionError(absl::StrCat("server ", sender, " leads shard ", shard, " no more"));
}

}  // namespace

absl::Status ShardGroup::SelectFollowed(Incarnation sender, Epoch epoch, const wire::PushRecord& record,
                                        const KeySelection& selection, std::vector<std::vector<uint32_t>>* kept) {
  std::fill(touched_.begin(), touched_.end(), 0);
  if (FollowsAll(sender, epoch, record, selection)) return CheckEnded(sender, epoch, record);
  std::fill(touched_.begin(), touched_.end(), 0);
  bool all = true;
  kept->resize(record.push.tables.size());
  for (size_t t = 0; t < record.push.tables.size(); ++t) {
    const wire::TableGradients& table = record.push.tables[t];
    const size_t count = selection.Count(t, table.keys.size());
    for (size_t i = 0; i < count; ++i) {
      const uint32_t position = selection.all ? static_cast<uint32_t>(i) : selection.positions[t][i];
      const ShardId shard = shard_map_.ShardOf(table.table, table.keys[position]);
      switch (StandingOf(shard, sender, epoch)) {
        case Standing::kDeposed:
          return Deposed(shard, sender);
        case Standing::kFollowed:
          touched_[shard_map_.LocalOf(shard)] = 1;
          (*kept)[t].push_back(position);
          break;
        case Standing::kIgnored:
          all = false;
          break;
      }
    }
  }
  if (all) kept->clear();
  return CheckEnded(sender, epoch, record);
}

// What is so for nearly every record: each key's shard is followed. Asked by shard, not by key.
bool ShardGroup::FollowsAll(Incarnation sender, Epoch epoch, const wire::PushRecord& record, const KeySelection& selection) {
  for (size_t t = 0; t < record.push.tables.size(); ++t) {
    const wire::TableGradients& table = record.push.tables[t];
    if (shard_map_.TouchReplicas(table.table, table.keys, selection.all, selection.Of(t), touched_) > 0) return false;
  }
  for (uint32_t local = 0; local < touched_.size(); ++local) {
    if (touched_[local] != 0 && StandingOf(shard_map_.shards()[local], sender, epoch) != Standing::kFollowed) return false;
  }
  return true;
}

absl::Status ShardGroup::CheckEnded(Incarnation sender, Epoch epoch, const wire::PushRecord& record) {
  for (const ShardId shard : record.ended_shards) {
    const Standing standing = StandingOf(shard, sender, epoch);
    if (standing == Standing::kDeposed) return Deposed(shard, sender);
    if (standing == Standing::kFollowed) touched_[shard_map_.LocalOf(shard)] = 1;
  }
  return absl::OkStatus();
}

absl::Status ShardGroup::Follow(Incarnation sender, Epoch epoch, const wire::PushRecord& record,
                                const KeySelection& selection, ShardEffects* effects) {
  if (!record.contributors.empty()) return FollowDecision(sender, epoch, record);
  std::vector<std::vector<uint32_t>> kept;
  if (absl::Status s = SelectFollowed(sender, epoch, record, selection, &kept); !s.ok()) return s;
  KeySelection owned = selection;
  if (!kept.empty()) {
    owned.all = false;
    owned.positions.assign(kept.begin(), kept.end());
  }
  const wire::PushRequest& push = record.push;
  const Incarnation worker = push.stamp.incarnation;
  std::fill(skip_.begin(), skip_.end(), 0);
  std::span<ShardSession> session;
  if (worker != 0) {
    session = sessions_.Of(worker);
    size_t duplicates = 0;
    const absl::Status window = Sessions::FindDuplicates(session, push.sequence, push.oldest_unacked, touched_,
                                                         skip_, &duplicates);
    for (uint32_t local = 0; local < touched_.size() && !window.ok(); ++local) {
      if (touched_[local] != 0) effects->diverged.push_back(shard_map_.shards()[local]);
    }
    if (!window.ok()) return absl::OkStatus();
  }
  for (const ShardId shard : record.skip_shards) {
    if (shard_map_.Has(shard)) skip_[shard_map_.LocalOf(shard)] = 1;
  }
  const bool ends_clock = worker == 0 && !record.ended_shards.empty();
  for (uint32_t local = 0; local < touched_.size() && ends_clock; ++local) {
    if (touched_[local] != 0 && replicas_[local].applied >= record.clock) skip_[local] = 1;
  }
  if (push.weight > 0) {
    UpdateArguments arguments;
    arguments.scale = static_cast<float>(1.0 / push.weight);
    arguments.lr_scale = record.lr_scale;
    arguments.clock = record.clock;
    Apply(push, owned, arguments, skip_, effects);
  }
  if (worker != 0) Sessions::MarkApplied(session, push.sequence, push.oldest_unacked, touched_, skip_);
  for (const ShardId shard : record.ended_shards) {
    const uint32_t local = shard_map_.LocalOf(shard);
    if (ends_clock && local != ShardMap::kNotLocal && touched_[local] != 0 && skip_[local] == 0) {
      replicas_[local].applied = record.clock;
    }
  }
  return absl::OkStatus();
}

absl::Status ShardGroup::Follow(Incarnation sender, Epoch epoch, const wire::SweepRecord& record) {
  for (const ShardId shard : record.shards) {
    if (StandingOf(shard, sender, epoch) == Standing::kDeposed) return Deposed(shard, sender);
  }
  for (const ShardId shard : record.shards) {
    if (StandingOf(shard, sender, epoch) != Standing::kFollowed) continue;
    tables_[record.table]->shard(shard_map_.LocalOf(shard)).Sweep(record.clock, nullptr);
  }
  return absl::OkStatus();
}

absl::Status ShardGroup::Follow(Incarnation sender, const wire::WorkersRecord& record, ShardEffects* effects) {
  const WorkerSet& set = record.workers;
  for (const Incarnation worker : sessions_.Workers()) {
    if (worker > set.last_incarnation()) continue;
    if (std::find(set.live().begin(), set.live().end(), worker) != set.live().end()) continue;
    for (uint32_t local = 0; local < replicas_.size(); ++local) {
      const ShardId shard = shard_map_.shards()[local];
      if (shard != ShardMap::kVacant && !replicas_[local].led && leaders_[shard] == sender) {
        sessions_.DropIn(worker, local);
      }
    }
  }
  // Whatever this server has heard itself: after a promotion they are refused.
  SetWorkers(set, effects);
  return absl::OkStatus();
}

absl::Status ShardGroup::Follow(Incarnation sender, Epoch epoch, const wire::DigestRecord& record,
                                ShardEffects* effects) {
  for (size_t i = 0; i < record.shards.size(); ++i) {
    const ShardId shard = record.shards[i];
    if (StandingOf(shard, sender, epoch) != Standing::kFollowed) {
      // The primary counts on a replica that has nothing.
      const bool missing = shard < leaders_.size() && leaders_[shard] == sender && shard_map_.Has(shard) &&
                           !replicas_[shard_map_.LocalOf(shard)].joining;
      if (missing) effects->diverged.push_back(shard);
      continue;
    }
    if (ShardDigest(shard) == record.digests[i]) continue;
    ++metrics_.digest_mismatches;
    effects->diverged.push_back(shard);
  }
  return absl::OkStatus();
}

absl::Status ShardGroup::Follow(Incarnation sender, Epoch epoch, const wire::FillRecord& record,
                                ShardEffects* effects) {
  if (record.shard >= leaders_.size()) return absl::OkStatus();
  if (leaders_[record.shard] != sender) {
    return epoch < epoch_ ? Deposed(record.shard, sender) : absl::OkStatus();
  }
  const uint32_t local = shard_map_.LocalOf(record.shard);
  if (local == ShardMap::kNotLocal) return absl::OkStatus();
  Replica& replica = replicas_[local];
  if (record.begins) {
    for (const auto& table : tables_) table->shard(local).Clear();
    sessions_.Load(local, record.header);
    if (options_.synchronous) replica.applied = record.header.clock();
    replica.decided = record.header.decided_clock();
    highest_clock_ = std::max({highest_clock_, record.header.highest_clock(), record.header.clock()});
    replica.begun = true;
  }
  // Without its beginning it is of a fill that was given up; the primary must not count on its end.
  if (!replica.begun && record.end) effects->diverged.push_back(record.shard);
  if (!replica.begun || record.records.empty()) return absl::OkStatus();
  const absl::Status loaded = tables_[record.table]->shard(local).LoadRows(record.records);
  if (!loaded.ok()) {
    TG_LOG(WARNING) << "a replica cannot be filled: " << loaded;
    effects->diverged.push_back(record.shard);
  }
  return absl::OkStatus();
}

}  // namespace tidegate
