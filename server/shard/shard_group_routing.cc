// ShardGroup: which shards are here, who leads and who follows them.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/shard/shard_group.h"

namespace tidegate {

absl::Status ShardGroup::SetRouting(const Routing& routing, std::span<const ShardId> shards, TimeMs serves_from,
                                    ShardEffects* effects) {
  if (routing.epoch() <= epoch_ && epoch_ != 0) return absl::OkStatus();
  if (catalog_ == nullptr) {
    ForgetShards(routing.log2_shards());
  } else if (routing.log2_shards() != shard_map_.log2_shards()) {
    return absl::FailedPreconditionError(absl::StrCat("routing of epoch ", routing.epoch(), " has ",
                                                      routing.shards(), " shards, the job has ",
                                                      1u << shard_map_.log2_shards()));
  }
  if (absl::Status s = CheckLed(routing, shards); !s.ok()) return s;
  const Clock before = released_clock();
  const bool first = epoch_ == 0;
  const bool new_primaries = routing.primary_epoch() > primary_epoch_;
  std::vector<uint8_t> left(replicas_.size(), 0);
  std::vector<uint8_t> gained;  // by local index, led from now on
  epoch_ = routing.epoch();
  primary_epoch_ = routing.primary_epoch();
  log_.SetEpoch(epoch_);
  ChangeShards(routing, shards, first ? 0 : serves_from, &left, &gained);
  const bool any_left = std::find(left.begin(), left.end(), 1) != left.end();
  if (any_left) {
    cut_.GiveUp();
    log_.FailHeld(left, absl::UnavailableError("moved: a shard of the push has left this server"), effects);
    RefuseMoved(effects);
  }
  if (new_primaries || any_left) {
    for (const SyncAggregator::Held& held : aggregator_.DiscardAll()) {
      if (!held.wanted) continue;
      RefusePush(held.call.token, absl::UnavailableError("moved: shards have new primaries"), effects);
    }
    RefuseAsks(std::nullopt, absl::UnavailableError("moved: shards have new primaries"), effects);
  }
  for (uint32_t local = 0; local < left.size(); ++local) {
    const ShardId shard = shard_map_.shards()[local];
    if (shard != ShardMap::kVacant && !std::binary_search(shards.begin(), shards.end(), shard)) RemoveReplica(local);
  }
  if (options_.self != 0) {
    ChangeFollowers(routing);
    leaders_.resize(routing.shards());
    for (ShardId shard = 0; shard < routing.shards(); ++shard) leaders_[shard] = routing.PrimaryOf(shard);
  }
  std::vector<Incarnation> followed;
  for (const ReplicaLog::Follower& follower : log_.followers()) {
    if (follower.active) followed.push_back(follower.server);
  }
  log_.Settle(effects);
  // One that is new, or follows a shard that was led elsewhere, may have heard of fewer removals than this server,
  // whose sessions it is to have.
  for (ReplicaLog::Follower& follower : log_.followers()) {
    bool fresh = std::find(followed.begin(), followed.end(), follower.server) == followed.end();
    for (uint32_t local = 0; local < gained.size(); ++local) {
      fresh = fresh || (gained[local] != 0 && follower.follows[local] != Follows::kNot);
    }
    if (fresh && follower.active && workers_.version() > 0) LogWorkers(&follower, effects);
  }
  // Where the process begins to lead, a strand of it that leads nothing yet waits too: pushes and clocks come to all.
  const bool leads = LeadsSomewhere(routing);
  const bool promoted = std::find(gained.begin(), gained.end(), 1) != gained.end();
  if ((promoted || (leads && !leads_somewhere_)) && catalog_ != nullptr) {
    // A worker announces itself anew by each table of new primaries, and by no other.
    clocks_.AwaitAll(std::max<Epoch>(primary_epoch_, 1), routing.worker_set_version(), !leads_somewhere_, highest_clock_);
  }
  leads_somewhere_ = leads;
  UpdateAppliedClock();
  ReportBytes();
  if (released_clock() != before) ReleaseParked(effects);
  if (ChangeHandovers(routing, effects) && options_.synchronous) AfterClocks(released_clock(), effects);
  return absl::OkStatus();
}

// Rows of a shard come with a fill, or with the tables.
absl::Status ShardGroup::CheckLed(const Routing& routing, std::span<const ShardId> shards) const {
  if (catalog_ == nullptr) return absl::OkStatus();
  for (const ShardId shard : shards) {
    if (options_.self != 0 && routing.PrimaryOf(shard) != options_.self) continue;
    const uint32_t local = shard_map_.LocalOf(shard);
    if (local != ShardMap::kNotLocal && (replicas_[local].led || replicas_[local].begun)) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("routing of epoch ", routing.epoch(), " gives this server shard ", shard,
                     " after tables were opened, and it has no copy of it"));
  }
  return absl::OkStatus();
}

void ShardGroup::StopTouchLog(uint32_t local) {
  if (local < touched_since_.size()) touched_since_[local] = 0;
  for (const auto& table : tables_) table->shard(local).StopTouchLog();
}

bool ShardGroup::LeadsSomewhere(const Routing& routing) const {
  return std::any_of(routing.servers().begin(), routing.servers().end(),
                     [this](const Routing::Server& server) { return server.incarnation == options_.self; });
}

void ShardGroup::ChangeShards(const Routing& routing, std::span<const ShardId> shards, TimeMs serves_from,
                              std::vector<uint8_t>* left, std::vector<uint8_t>* gained) {
  const auto leads = [&](ShardId shard) {
    return options_.self == 0 || routing.PrimaryOf(shard) == options_.self;
  };
  // Those that leave stay until what waits for them is answered.
  for (uint32_t local = 0; local < left->size(); ++local) {
    const ShardId shard = shard_map_.shards()[local];
    if (shard == ShardMap::kVacant || !replicas_[local].led) continue;
    (*left)[local] = std::binary_search(shards.begin(), shards.end(), shard) && leads(shard) ? 0 : 1;
    if ((*left)[local] != 0) StopTouchLog(local);
  }
  for (const ShardId shard : shards) {
    const bool fresh = !shard_map_.Has(shard);
    if (fresh) AddReplica(shard);
    const uint32_t local = shard_map_.LocalOf(shard);
    Replica& replica = replicas_[local];
    const bool was_led = replica.led;
    replica.led = leads(shard);
    shard_map_.SetLed(shard, replica.led);
    if (replica.led && !was_led) {
      replica.begun = true;
      replica.serves_from = serves_from;
      serves_from_ = std::max(serves_from_, serves_from);
      for (Incarnation worker : sessions_.Workers()) {
        if (clocks_.IsRemoved(worker)) sessions_.DropIn(worker, local);
      }
      gained->resize(replicas_.size());
      (*gained)[local] = 1;
    }
    if (!replica.led) {
      // Empty at the start, and in sync; later only what the primary fills is, and what was in sync with a primary
      // that had drained its log before another one led.
      const bool same_primary = !fresh && !was_led && leaders_[shard] == routing.PrimaryOf(shard);
      if (routing.JoiningOf(shard) == options_.self) {
        replica.begun = replica.begun && same_primary && replica.joining;
        replica.joining = true;
      } else {
        const bool equal = same_primary || (routing.WasHandedOver(shard) && (!was_led || replica.drained));
        replica.begun = fresh ? catalog_ == nullptr : replica.begun && equal;
        replica.joining = false;
      }
    }
    sessions_.SetFollowed(local, !replica.led);
    led_[local] = replica.led ? 1 : 0;
  }
  for (uint32_t local = 0; local < left->size(); ++local) {
    if ((*left)[local] == 0) continue;
    replicas_[local].led = false;
    led_[local] = 0;
    shard_map_.SetLed(shard_map_.shards()[local], false);
  }
}

// Before there are tables: nothing is known of any shard.
void ShardGroup::ForgetShards(int log2_shards) {
  shard_map_.Reset(log2_shards, {});
  replicas_.clear();
  for (auto* by_local : {&touched_, &skip_, &led_}) by_local->clear();
  shard_rows_.clear();
  sessions_.SetShards(0);
  log_.Resize(0);
}

void ShardGroup::AddReplica(ShardId shard) {
  const uint32_t local = shard_map_.Add(shard);
  if (local == replicas_.size()) {
    replicas_.emplace_back();
    touched_.push_back(0);
    skip_.push_back(0);
    led_.push_back(0);
    shard_rows_.push_back(0);
    sessions_.SetShards(replicas_.size());
    log_.Resize(replicas_.size());
  }
  replicas_[local] = Replica();
  shard_rows_[local] = 0;
  sessions_.Clear(local);
  for (const auto& table : tables_) table->AddShard(local, shard);
}

void ShardGroup::RemoveReplica(uint32_t local) {
  const ShardId shard = shard_map_.shards()[local];
  for (const auto& table : tables_) table->RemoveShard(shard);
  sessions_.SetFollowed(local, false);
  sessions_.Clear(local);
  shard_map_.Remove(shard);
  replicas_[local] = Replica();
}

// As the table says; a fill that goes on is left alone.
void ShardGroup::ChangeFollowers(const Routing& routing) {
  fills_open_ = 0;
  for (uint32_t local = 0; local < replicas_.size(); ++local) {
    const ShardId shard = shard_map_.shards()[local];
    Replica& replica = replicas_[local];
    const Incarnation joining = replica.led ? routing.JoiningOf(shard) : 0;
    const Follows joined = joining == 0 ? Follows::kNot : log_.Get(joining, local);
    for (ReplicaLog::Follower& follower : log_.followers()) follower.follows[local] = Follows::kNot;
    if (!replica.led) {
      replica.fill = nullptr;
      continue;
    }
    for (Incarnation backup : routing.BackupsOf(shard)) log_.Set(backup, local, Follows::kBackup);
    const bool goes_on = replica.fill != nullptr && replica.fill->to() == joining &&
                         (joined == Follows::kFilling || joined == Follows::kFilled);
    if (!goes_on) replica.fill = joining == 0 ? nullptr : std::make_unique<ShardFill>(joining);
    if (joining == 0) continue;
    log_.Set(joining, local, goes_on ? joined : Follows::kFilling);
    if (replica.fill->end_index == 0) ++fills_open_;
  }
}

void ShardGroup::RefuseMoved(ShardEffects* effects) {
  auto moved = [this](const PullCall& call) {
    for (size_t t = 0; t < call.request.tables.size(); ++t) {
      const wire::TableKeys& table = call.request.tables[t];
      if (shard_map_.Touch(table.table, table.keys, call.selection.all, call.selection.Of(t),
                           touched_) > 0) {
        return true;
      }
    }
    return false;
  };
  for (PullCall& call : parked_.TakeIf(moved)) {
    effects->pulls.push_back(
        {call.token, absl::UnavailableError("moved: a shard of the pull has left this server"),
         released_clock(), {}});
  }
}

// Without a led shard it stays the highest known.
void ShardGroup::UpdateAppliedClock() {
  if (!options_.synchronous) return;
  bool any = false;
  Clock lowest = 0;
  for (const Replica& replica : replicas_) {
    if (!replica.led) continue;
    lowest = any ? std::min(lowest, replica.applied) : replica.applied;
    any = true;
  }
  if (any) applied_clock_ = lowest;
}

// ---- serving ---------------------------------------------------------------

absl::Status ShardGroup::CheckServing(std::span<const uint8_t> touched) const {
  if (now_ >= serves_from_) return absl::OkStatus();
  for (uint32_t local = 0; local < touched.size(); ++local) {
    if (touched[local] == 0 || replicas_[local].serves_from <= now_) continue;
    return absl::UnavailableError(absl::StrCat("takes over: shard ", shard_map_.shards()[local], " is served from ",
                                               replicas_[local].serves_from - now_, " ms on"));
  }
  return absl::OkStatus();
}

absl::Status ShardGroup::CheckGrants(TimeMs* valid_until) {
  if (!log_.any()) return absl::OkStatus();
  Incarnation missing = 0;
  const TimeMs until = log_.GrantedUntil(touched_, &missing);
  if (valid_until != nullptr) *valid_until = until;
  if (until > now_) return absl::OkStatus();
  if (valid_until != nullptr) ++metrics_.pulls_without_grant;
  return absl::UnavailableError(absl::StrCat("no grant: backup ", missing, " has not been heard for long enough"));
}

}  // namespace tidegate
