#include "tests/server/shard/replica_harness.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "server/shard/message_check.h"
#include "server/table/value_codec.h"

namespace tidegate {

ReplicaHarness::ReplicaHarness(const Options& options, std::vector<TableSpec> specs, int servers)
    : options_(options) {
  auto catalog = TableCatalog::FromSpecs(specs);
  TG_CHECK(catalog.ok()) << catalog.status();
  catalog_ = *catalog;
  table_.set_shards(options.shards);
  table_.set_backup_slots(2);
  for (int i = 0; i < servers; ++i) table_.add_servers()->set_incarnation(100 + static_cast<uint64_t>(i));
  for (uint32_t shard = 0; shard < options.shards; ++shard) {
    table_.add_primary(100);
    table_.add_backups(0);
    table_.add_backups(0);
    table_.add_joining(0);
    table_.add_successor(0);
    table_.add_shard_epoch(1);
    table_.add_drained_epoch(0);
  }
  ShardGroup::Options group;
  group.synchronous = options.synchronous;
  group.drop_slowest = options.drop_slowest;
  group.staleness = options.staleness;
  group.generation = 1;
  group.durable = options.durable;
  group.log_window_bytes = options.log_window_bytes;
  group.log_window_records = options.log_window_records;
  group.clock_record_bytes = options.clock_record_bytes;
  for (const Member& member : table_.servers()) {
    group.self = member.incarnation();
    for (int strand = 0; strand < options.strands; ++strand) {
      servers_[group.self].push_back(std::make_unique<ShardGroup>(group, this));
    }
  }
}

void ReplicaHarness::SetReplicas(ShardId shard, Incarnation primary, std::vector<Incarnation> backups,
                                 Incarnation joining) {
  const int s = static_cast<int>(shard);
  table_.set_primary(s, primary);
  for (int slot = 0; slot < 2; ++slot) {
    table_.set_backups(2 * s + slot, slot < static_cast<int>(backups.size()) ? backups[slot] : 0);
  }
  table_.set_joining(s, joining);
  table_.set_successor(s, 0);
}

void ReplicaHarness::HandOver(ShardId shard) {
  const int s = static_cast<int>(shard);
  const Incarnation before = table_.primary(s), next = table_.successor(s);
  table_.set_primary(s, next);
  for (int slot = 0; slot < 2; ++slot) {
    if (table_.backups(2 * s + slot) == next) table_.set_backups(2 * s + slot, before);
  }
  table_.set_successor(s, 0);
  table_.set_shard_epoch(s, table_.epoch() + 1);
  table_.set_drained_epoch(s, table_.epoch() + 1);
}

void ReplicaHarness::SetAllReplicas(Incarnation primary, std::vector<Incarnation> backups, Incarnation joining) {
  for (ShardId shard = 0; shard < options_.shards; ++shard) SetReplicas(shard, primary, backups, joining);
}

Epoch ReplicaHarness::NextEpoch(bool promotion) {
  table_.set_epoch(table_.epoch() + 1);
  if (promotion || table_.epoch() == 1) table_.set_primary_epoch(table_.epoch());
  return table_.epoch();
}

absl::Status ReplicaHarness::Publish(Incarnation server, TimeMs serves_from) {
  auto routing = Routing::FromProto(table_);
  TG_CHECK(routing.ok()) << routing.status();
  const bool first = epoch_of_[server] == 0;
  epoch_of_[server] = routing->epoch();
  const std::vector<ShardId> all = routing->ReplicasOf(server);
  absl::Status status;
  for (int strand = 0; strand < options_.strands; ++strand) {
    std::vector<ShardId> own;
    for (ShardId shard : all) {
      if (StrandOf(server, shard) == strand) own.push_back(shard);
    }
    ShardGroup& group = *servers_[server][strand];
    status.Update(group.SetRouting(*routing, own, serves_from, &effects_));
    Collect(server, strand);
    if (!first) continue;
    status.Update(group.OpenTables(catalog_));
    SetWorkers(server, 1, 0, {});
  }
  return status;
}

void ReplicaHarness::SetWorkers(Incarnation server, uint64_t version, Incarnation last,
                                std::vector<Incarnation> live) {
  WorkerSet set;
  set.set_version(version);
  set.set_last_incarnation(std::max(last, options_.known));
  for (Incarnation worker : live) set.add_live(worker);
  for (Incarnation worker = last + 1; worker <= options_.known; ++worker) set.add_live(worker);
  for (int strand = 0; strand < options_.strands; ++strand) {
    group(server, strand).SetWorkers(set, &effects_);
    Collect(server, strand);
  }
}

template <typename Tables>
std::vector<KeySelection> ReplicaHarness::Split(
    Incarnation server, const Tables& tables,
    std::vector<std::vector<std::vector<uint32_t>>>* positions) const {
  std::vector<KeySelection> out(options_.strands);
  if (options_.strands == 1) return out;
  positions->assign(options_.strands, std::vector<std::vector<uint32_t>>(tables.size()));
  for (size_t t = 0; t < tables.size(); ++t) {
    for (uint32_t i = 0; i < tables[t].keys.size(); ++i) {
      const ShardId shard = ShardOfHash(PlacementHash(tables[t].table, tables[t].keys[i]),
                                        std::countr_zero(options_.shards));
      (*positions)[StrandOf(server, shard)][t].push_back(i);
    }
  }
  for (int strand = 0; strand < options_.strands; ++strand) {
    out[strand].all = false;
    for (const auto& p : (*positions)[strand]) out[strand].positions.push_back(p);
  }
  return out;
}

CallToken ReplicaHarness::Push(Incarnation server, const TestPush& push) {
  const CallToken token = next_++;
  auto open = open_[token] = std::make_shared<Open>();
  open->push = push;
  wire::PushRequest request;
  request.stamp = {push.generation, push.epoch, push.worker};
  request.sequence = push.sequence;
  request.oldest_unacked = push.oldest_unacked == 0 ? push.sequence : push.oldest_unacked;
  request.clock = push.clock;
  request.weight = push.weight;
  request.part = push.part;
  request.parts = push.parts;
  request.asks = push.asks;
  for (const TestRows& table : open->push.tables) {
    wire::TableGradients& gradients = request.tables.emplace_back();
    gradients.table = table.table;
    gradients.keys = PackedSpan<Key>(table.keys.data(), table.keys.size());
    gradients.values = std::as_bytes(std::span(table.values));
    gradients.counts = PackedSpan<uint32_t>(table.counts.data(), table.counts.size());
  }
  const absl::Status checked = CheckPush(request, *catalog_);
  TG_CHECK(checked.ok()) << checked;
  const auto selections = Split(server, open->push.tables, &open->positions);
  open->strands_left = push.asks ? 1 : options_.strands;
  for (int strand = 0; strand < options_.strands; ++strand) {
    if (push.asks && strand != StrandOf(server, 0)) continue;
    group(server, strand).Push({token, request, selections[strand], open}, &effects_);
    Collect(server, strand);
  }
  return token;
}

CallToken ReplicaHarness::Pull(Incarnation server, const TestPull& pull) {
  const CallToken token = next_++;
  auto open = open_[token] = std::make_shared<Open>();
  open->pull = pull;
  wire::PullRequest request;
  request.stamp = {pull.generation, pull.epoch, pull.worker};
  request.clock = pull.clock;
  request.bound = pull.bound;
  request.eval = pull.eval;
  for (const TestRows& table : open->pull.tables) {
    request.tables.push_back({table.table, PackedSpan<Key>(table.keys.data(), table.keys.size())});
    open->rows.emplace_back(table.keys.size() * catalog_->layout(table.table).WireRowBytes(FLOAT32));
  }
  const auto selections = Split(server, open->pull.tables, &open->positions);
  open->strands_left = options_.strands;
  for (int strand = 0; strand < options_.strands; ++strand) {
    group(server, strand).Pull({token, request, selections[strand], open}, &effects_);
    Collect(server, strand);
  }
  return token;
}

CallToken ReplicaHarness::Announce(Incarnation server, Incarnation worker, uint64_t order,
                                   wire::ClockRequest::Kind kind, Clock clock, Epoch epoch,
                                   std::vector<wire::ClosedClock> closed) {
  const CallToken token = next_++;
  auto open = open_[token] = std::make_shared<Open>();
  open->strands_left = options_.strands;
  wire::ClockRequest request;
  request.stamp = {1, epoch, worker};
  request.order = order;
  request.kind = kind;
  request.clock = clock;
  request.closed = std::move(closed);
  for (int strand = 0; strand < options_.strands; ++strand) {
    group(server, strand).Announce(token, request, &effects_);
    Collect(server, strand);
  }
  return token;
}

std::span<std::byte> ReplicaHarness::RowsOf(CallToken token, size_t table_index) {
  return open_.at(token)->rows[table_index];
}

void ReplicaHarness::Collect(Incarnation server, int strand) {
  ShardEffects effects = std::exchange(effects_, {});
  const auto merge = [this](CallToken token, char kind, const absl::Status& status) -> TestAnswer& {
    TestAnswer& answer = answers_[token];
    answer.kind = kind;
    if (answer.status.ok()) answer.status = status;
    TG_CHECK(--open_.at(token)->strands_left >= 0) << "call " << token << " is answered twice";
    return answer;
  };
  for (PullDone& done : effects.pulls) {
    TestAnswer& answer = merge(done.token, 'p', done.status);
    Open& open = *open_.at(done.token);
    open.valid_until = std::min(open.valid_until, done.valid_until);
    if (open.strands_left > 0 || !answer.status.ok()) continue;
    for (const auto& rows : open.rows) {
      std::vector<float>& out = answer.rows.emplace_back(rows.size() / 4);
      DecodeValues(rows.data(), FLOAT32, out.size(), out.data());
    }
  }
  for (PushDone& done : effects.pushes) {
    TestAnswer& answer = merge(done.token, 'u', done.status);
    answer.duplicate_rows += done.duplicate_rows;
    if (open_.at(done.token)->push.asks) {
      answer.contributors = done.contributors;
      answer.closed = done.closed;
    }
    answer.refused_shards.insert(answer.refused_shards.end(), done.refused_shards.begin(), done.refused_shards.end());
  }
  for (ClockDone& done : effects.clocks) merge(done.token, 'c', done.status).min_clock = done.min_clock;
  for (OutRecord& record : effects.records) {
    Link& link = links_[server][{strand, record.follower}];
    TG_CHECK(record.index == (link.queue.empty() ? link.delivered : link.queue.back().index) + 1);
    link.queue.push_back(std::move(record));
  }
  for (const ReplicaInSync& replica : effects.in_sync) in_sync_.emplace_back(replica.shard, replica.server);
  for (ShardId shard : effects.drained) drained_[{server, shard}] = group(server, strand).epoch();
  for (ShardId shard : effects.diverged) diverged_.emplace(server, shard);
}

// Each of its strands takes a record once; a strand that refused it gets it again.
absl::Status ReplicaHarness::Hand(Incarnation from, const OutRecord& record) {
  const absl::Status checked = CheckRecord(record.body, *catalog_);
  TG_CHECK(checked.ok()) << checked;
  std::vector<std::vector<std::vector<uint32_t>>> positions;
  std::vector<KeySelection> selections(options_.strands);
  const auto* push = std::get_if<wire::PushRecord>(&record.body);
  if (push != nullptr) selections = Split(record.follower, push->push.tables, &positions);
  absl::Status status;
  for (int strand = 0; strand < options_.strands; ++strand) {
    const auto place = std::tuple(from, static_cast<int>(record.bytes), record.follower, record.index, strand);
    if (applied_.contains(place)) continue;
    absl::Status applied = group(record.follower, strand)
                               .ApplyRecord(from, epoch_of_[from], record.body, selections[strand], &effects_);
    Collect(record.follower, strand);
    if (applied.ok()) applied_.insert(place);
    status.Update(applied);
  }
  return status;
}

absl::Status ReplicaHarness::Deliver(Incarnation from, Incarnation to, size_t most) {
  absl::Status first;
  for (auto& [sender, links] : links_) {
    if (from != 0 && sender != from) continue;
    for (auto& [place, link] : links) {
      if (to != 0 && place.second != to) continue;
      for (size_t i = 0; i < most && !link.queue.empty(); ++i) {
        OutRecord record = link.queue.front();
        record.bytes = static_cast<size_t>(place.first);  // its lane, to Hand
        const absl::Status status = Hand(sender, record);
        first.Update(status);
        if (!status.ok()) {
          ++refused_records;
          break;
        }
        link.delivered = record.index;
        link.queue.pop_front();
      }
    }
  }
  return first;
}

void ReplicaHarness::Acknowledge(Incarnation from, Incarnation to) {
  for (auto& [sender, links] : links_) {
    if (from != 0 && sender != from) continue;
    for (auto& [place, link] : links) {
      if ((to != 0 && place.second != to) || link.acked == link.delivered) continue;
      link.acked = link.delivered;
      group(sender, place.first).Acknowledged(place.second, link.acked, &effects_);
      Collect(sender, place.first);
    }
  }
}

void ReplicaHarness::Settle() {
  for (int i = 0; i < 3; ++i) {
    (void)Deliver();
    Acknowledge();
  }
}

bool ReplicaHarness::FillStep(Incarnation server, size_t bytes) {
  bool any = false;
  for (int strand = 0; strand < options_.strands; ++strand) {
    any = group(server, strand).FillStep(bytes, &effects_) || any;
    Collect(server, strand);
  }
  return any;
}

void ReplicaHarness::Digests(Incarnation server) {
  for (int strand = 0; strand < options_.strands; ++strand) {
    group(server, strand).AppendDigests(options_.shards, &effects_);
    Collect(server, strand);
  }
}

void ReplicaHarness::HandoverStep(Incarnation server) {
  for (int strand = 0; strand < options_.strands; ++strand) {
    group(server, strand).HandoverStep(&effects_);
    Collect(server, strand);
  }
}

void ReplicaHarness::SetNow(TimeMs now) {
  for (auto& [server, strands] : servers_) {
    for (auto& strand : strands) strand->SetNow(now);
  }
}

void ReplicaHarness::SetGrant(Incarnation server, Incarnation backup, TimeMs until) {
  for (auto& strand : servers_[server]) strand->SetGrant(backup, until);
}

void ReplicaHarness::Sweep(Incarnation server, Clock clock) {
  for (int strand = 0; strand < options_.strands; ++strand) {
    group(server, strand).Sweep(clock, &effects_);
    Collect(server, strand);
  }
}

ShardGroup& ReplicaHarness::GroupOf(Incarnation server, ShardId shard) {
  return group(server, StrandOf(server, shard));
}

std::string ReplicaHarness::Differences(Incarnation a, Incarnation b) {
  std::string out;
  for (ShardId shard = 0; shard < options_.shards; ++shard) {
    const ShardGroup& x = GroupOf(a, shard);
    const ShardGroup& y = GroupOf(b, shard);
    if (x.ShardDigest(shard) != y.ShardDigest(shard)) absl::StrAppend(&out, "rows of shard ", shard, "; ");
    if (x.AppliedClock(shard) != y.AppliedClock(shard)) {
      absl::StrAppend(&out, "clock of shard ", shard, ": ", x.AppliedClock(shard), ", ", y.AppliedClock(shard), "; ");
    }
    const auto text = [shard](const ShardGroup& group) {
      std::string all;
      for (const SessionRecord& s : group.SessionsOf(shard)) {
        absl::StrAppend(&all, s.incarnation(), ":", s.floor(), ":", s.applied(), " ");
      }
      return all;
    };
    if (text(x) != text(y)) {
      absl::StrAppend(&out, "sessions of shard ", shard, ": ", text(x), "| ", text(y), "; ");
    }
  }
  return out;
}

}  // namespace tidegate
