#include "common/routing_table.h"

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"

namespace tidegate {
namespace {

constexpr uint32_t kBackupSlotsMax = 15;

const Routing::Server* Find(const std::vector<Routing::Server>& sorted, Incarnation incarnation) {
  const auto it = std::lower_bound(sorted.begin(), sorted.end(), incarnation,
                                   [](const Routing::Server& a, Incarnation b) { return a.incarnation < b; });
  return it == sorted.end() || it->incarnation != incarnation ? nullptr : &*it;
}

absl::Status CheckLength(const char* what, int length, uint32_t shards) {
  if (length == 0 || static_cast<uint32_t>(length) == shards) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("routing table names ", length, " ", what, " for ", shards, " shards"));
}

}  // namespace

absl::StatusOr<Routing> Routing::FromProto(const RoutingTable& table) {
  const uint32_t shards = table.shards();
  if (!std::has_single_bit(shards) || shards > 65536) {
    return absl::InvalidArgumentError(
        absl::StrCat("routing table with ", shards, " shards: must be a power of two up to 65536"));
  }
  if (static_cast<uint32_t>(table.primary_size()) != shards) {
    return absl::InvalidArgumentError(absl::StrCat("routing table names ", table.primary_size(),
                                                   " primaries for ", shards, " shards"));
  }
  const uint32_t slots = table.backup_slots();
  if (slots > kBackupSlotsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("routing table with ", slots, " backup slots: at most ", kBackupSlotsMax));
  }
  if (static_cast<uint64_t>(table.backups_size()) != uint64_t{shards} * slots) {
    return absl::InvalidArgumentError(absl::StrCat("routing table names ", table.backups_size(), " backups for ",
                                                   shards, " shards of ", slots, " slots"));
  }
  if (absl::Status s = CheckLength("joining replicas", table.joining_size(), shards); !s.ok()) return s;
  if (absl::Status s = CheckLength("shard epochs", table.shard_epoch_size(), shards); !s.ok()) return s;
  if (absl::Status s = CheckLength("successors", table.successor_size(), shards); !s.ok()) return s;
  if (absl::Status s = CheckLength("drained epochs", table.drained_epoch_size(), shards); !s.ok()) return s;

  Routing out;
  out.epoch_ = table.epoch();
  out.log2_shards_ = std::countr_zero(shards);
  out.primary_epoch_ = table.primary_epoch();
  out.worker_set_version_ = table.worker_set_version();
  for (const Member& m : table.servers()) out.members_.push_back({m.incarnation(), m.address()});
  std::sort(out.members_.begin(), out.members_.end(),
            [](const Server& a, const Server& b) { return a.incarnation < b.incarnation; });
  const auto unknown = [](const char* what, Incarnation server) {
    return absl::InvalidArgumentError(
        absl::StrCat("routing table names ", what, " ", server, " that is no server of it"));
  };
  std::vector<bool> leads(out.members_.size());
  for (Incarnation primary : table.primary()) {
    const Server* server = Find(out.members_, primary);
    if (server == nullptr) return unknown("primary", primary);
    leads[static_cast<size_t>(server - out.members_.data())] = true;
  }
  for (size_t i = 0; i < leads.size(); ++i) {
    if (leads[i]) out.servers_.push_back(out.members_[i]);
  }
  out.server_of_shard_.reserve(shards);
  if (slots > 0) out.backups_begin_.push_back(0);
  for (uint32_t shard = 0; shard < shards; ++shard) {
    const Incarnation primary = table.primary(static_cast<int>(shard));
    out.server_of_shard_.push_back(static_cast<uint32_t>(Find(out.servers_, primary) - out.servers_.data()));
    std::vector<Incarnation> holders = {primary};
    const auto add = [&](const char* what, Incarnation server) -> absl::Status {
      if (Find(out.members_, server) == nullptr) return unknown(what, server);
      if (std::find(holders.begin(), holders.end(), server) != holders.end()) {
        return absl::InvalidArgumentError(
            absl::StrCat("routing table names server ", server, " twice for shard ", shard));
      }
      holders.push_back(server);
      return absl::OkStatus();
    };
    for (uint32_t slot = 0; slot < slots; ++slot) {
      const Incarnation backup = table.backups(static_cast<int>(shard * slots + slot));
      if (backup == 0) continue;
      if (absl::Status s = add("backup", backup); !s.ok()) return s;
      out.backups_.push_back(backup);
    }
    if (slots > 0) out.backups_begin_.push_back(static_cast<uint32_t>(out.backups_.size()));
    const Incarnation joining = table.joining_size() > 0 ? table.joining(static_cast<int>(shard)) : 0;
    if (joining != 0) {
      if (absl::Status s = add("joining replica", joining); !s.ok()) return s;
    }
    const Incarnation successor = table.successor_size() > 0 ? table.successor(static_cast<int>(shard)) : 0;
    if (successor != 0 && (successor == primary || successor == joining ||
                           std::find(holders.begin(), holders.end(), successor) == holders.end())) {
      return absl::InvalidArgumentError(absl::StrCat("routing table names server ", successor, " as successor for shard ",
                                                     shard, ", which is none of its backups"));
    }
    if (successor != 0 && joining != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("routing table names a successor for shard ", shard, ", which server ", joining, " joins"));
    }
    const Epoch led_since = table.shard_epoch_size() > 0 ? table.shard_epoch(static_cast<int>(shard)) : 0;
    if (table.drained_epoch_size() > 0 && table.drained_epoch(static_cast<int>(shard)) > led_since) {
      return absl::InvalidArgumentError(absl::StrCat("routing table says that shard ", shard, " was drained in epoch ",
                                                     table.drained_epoch(static_cast<int>(shard)),
                                                     ", but its primary leads since ", led_since));
    }
  }
  out.joining_.assign(table.joining().begin(), table.joining().end());
  out.successor_.assign(table.successor().begin(), table.successor().end());
  out.shard_epoch_.assign(table.shard_epoch().begin(), table.shard_epoch().end());
  out.drained_epoch_.assign(table.drained_epoch().begin(), table.drained_epoch().end());
  return out;
}

std::vector<ShardId> Routing::ShardsOf(Incarnation incarnation) const {
  std::vector<ShardId> out;
  for (ShardId s = 0; s < shards(); ++s) {
    if (PrimaryOf(s) == incarnation) out.push_back(s);
  }
  return out;
}

std::span<const Incarnation> Routing::BackupsOf(ShardId shard) const {
  if (backups_begin_.empty()) return {};
  return std::span(backups_).subspan(backups_begin_[shard], backups_begin_[shard + 1] - backups_begin_[shard]);
}

Incarnation Routing::JoiningOf(ShardId shard) const { return joining_.empty() ? 0 : joining_[shard]; }

Incarnation Routing::SuccessorOf(ShardId shard) const { return successor_.empty() ? 0 : successor_[shard]; }

bool Routing::WasHandedOver(ShardId shard) const {
  return !drained_epoch_.empty() && drained_epoch_[shard] != 0 && drained_epoch_[shard] == ShardEpoch(shard);
}

Epoch Routing::ShardEpoch(ShardId shard) const { return shard_epoch_.empty() ? 0 : shard_epoch_[shard]; }

std::vector<ShardId> Routing::ReplicasOf(Incarnation incarnation) const {
  std::vector<ShardId> out;
  for (ShardId s = 0; s < shards(); ++s) {
    const auto backups = BackupsOf(s);
    if (PrimaryOf(s) == incarnation || JoiningOf(s) == incarnation ||
        std::find(backups.begin(), backups.end(), incarnation) != backups.end()) {
      out.push_back(s);
    }
  }
  return out;
}

}  // namespace tidegate
