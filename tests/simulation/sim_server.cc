#include "tests/simulation/sim_server.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "server/table/value_codec.h"
#include "tests/simulation/sim_disk.h"

namespace tidegate::simulation {
namespace {

const wire::ClockRequest* HelloOf(const wire::Request& request) {
  const auto* clock = std::get_if<wire::ClockRequest>(&request);
  return clock != nullptr && clock->kind == wire::ClockRequest::Kind::kHello ? clock : nullptr;
}

size_t TablesOf(const wire::Request& request) {
  if (const auto* pull = std::get_if<wire::PullRequest>(&request)) return pull->tables.size();
  if (const auto* push = std::get_if<wire::PushRequest>(&request)) return push->tables.size();
  return 0;
}

}  // namespace

SimServer::SimServer(World* world, int id, int index)
    : SimMember(world, id, SERVER), index_(index), random_(Mix64(world->plan->seed * 64 + id)) {}

void SimServer::OnWorkers(const WorkerSet& workers) {
  OnEvery([this, workers](Strand* strand) {
    GroupCall info = Before(*strand);
    strand->group->SetWorkers(workers, &strand->effects);
    info.workers = &workers;
    Deliver(strand, GroupCall::kWorkers, nullptr, info);
  });
}

void SimServer::RunCommand(const Command& command, std::function<void(CommandResult)> done) {
  CommandResult result;
  result.set_id(command.id());
  if (command.has_open_tables()) {
    const std::vector<TableSpec> specs(command.open_tables().tables().begin(),
                                       command.open_tables().tables().end());
    auto catalog = TableCatalog::FromSpecs(specs);
    TG_CHECK(catalog.ok()) << catalog.status();
    OnEvery(
        [this, catalog = *catalog, open = command.open_tables()](Strand* strand) {
          const absl::Status status = strand->group->OpenTables(catalog);
          TG_CHECK(status.ok()) << status;
          if (open.has_restore()) Restore(open.restore(), strand);
          const GroupCall info = Before(*strand);
          Deliver(strand, GroupCall::kOpenTables, nullptr, info);
        },
        [this, catalog = *catalog, done, result] {
          catalog_ = catalog;
          done(result);
        });
  } else if (command.has_set_learning_rate()) {
    OnEvery(
        [this, scale = command.set_learning_rate().scale()](Strand* strand) {
          GroupCall info = Before(*strand);
          strand->group->SetLearningRateScale(scale);
          info.learning_rate_scale = scale;
          Deliver(strand, GroupCall::kLearningRate, nullptr, info);
        },
        [done, result] { done(result); });
  } else if (command.has_cut_shards()) {
    ArmCut(command.cut_shards(), [done, result] { done(result); });
  } else {
    Write(command.write_checkpoint(), std::move(result), std::move(done));
  }
}

void SimServer::OnPhase(Phase phase, const std::string& message) {
  if (phase != FINISHED && phase != FAILED) return;
  if (phase == FINISHED && world_->scheduler->stored().phase() < FINISHED) return EndDrained();
  // Whoever joins when the job is over is told so.
  const bool late = world_->plan->replicated() && world_->scheduler->stored().phase() == FINISHED;
  if (phase == FAILED && !late) world_->JobFailed("a server", message);
  ended_ = true;
  Leave();
  EndSession();
}

void SimServer::OnRejoin() {
  if (ended_) return;
  if (world_->plan->replicated()) {
    Crash();
    return Boot();
  }
  world_->report->Fail("scheduler", world_->now(), absl::StrCat("server ", incarnation(), " was removed"));
}

// ---- strands ----

void SimServer::RunOn(Strand* strand, int peer, std::function<void()> work) {
  TimeMs at = world_->now();
  if (world_->plan->strand_lag_ms_max > 0) {
    at += static_cast<TimeMs>(random_.Below(static_cast<uint64_t>(world_->plan->strand_lag_ms_max)));
  }
  TimeMs& idle_at = strand->idle_at[peer];
  idle_at = std::max(idle_at, at);
  After(idle_at - world_->now(), std::move(work));
}

void SimServer::OnEvery(std::function<void(Strand*)> work, std::function<void()> after) {
  auto left = std::make_shared<size_t>(strands_.size());
  for (Strand& strand : strands_) {
    RunOn(&strand, kControl, [this, s = &strand, work, after, left] {
      work(s);
      if (--*left == 0 && after) after();
    });
  }
}

GroupCall SimServer::Before(const Strand& strand) {
  strand.group->SetNow(now());
  GroupCall info;
  info.released_before = strand.group->released_clock();
  return info;
}

void SimServer::Deliver(Strand* strand, GroupCall::Kind kind, const ServerCall* call, GroupCall info) {
  info.now = world_->now();
  info.server = index_;
  info.incarnation = incarnation();
  info.routing = strand->routing.get();
  info.strand = strand->index;
  info.kind = kind;
  info.group = strand->group.get();
  info.call = call;
  const ShardEffects effects = std::exchange(strand->effects, {});
  info.effects = &effects;
  world_->checkers->Tell(&Checker::OnGroupCall, info);
  const auto merge = [&](CallToken token, const absl::Status& status, Clock min_clock, bool has_clock,
                         const std::vector<ShardId>& refused, uint64_t duplicates) {
    const auto it = open_.find(token);
    if (it == open_.end() || (it->second->pending >> strand->index & 1) == 0) {
      world_->report->Fail("bounds", world_->now(), "a call is answered twice by a strand");
      return;
    }
    Open& open = *it->second;
    if (open.status.ok()) open.status = status;
    const bool highest = HelloOf(open.call.request) != nullptr;
    if (has_clock && (!open.has_min_clock || (min_clock > open.min_clock) == highest)) {
      open.min_clock = min_clock;
      open.has_min_clock = true;
    }
    open.refused_shards.insert(open.refused_shards.end(), refused.begin(), refused.end());
    open.duplicate_rows += duplicates;
    FinishShare(*strand, token);
  };
  for (const PullDone& d : effects.pulls) {
    const auto it = open_.find(d.token);
    if (it != open_.end()) it->second->valid_until = std::min(it->second->valid_until, d.valid_until);
    merge(d.token, d.status, d.min_clock, true, d.refused_shards, 0);
  }
  for (const PushDone& d : effects.pushes) {
    if (const auto it = open_.find(d.token); it != open_.end() && it->second->pending == uint64_t{1} << strand->index) {
      it->second->contributors = d.contributors;
      it->second->closed = d.closed;
    }
    merge(d.token, d.status, 0, false, d.refused_shards, d.duplicate_rows);
  }
  for (const ClockDone& d : effects.clocks) merge(d.token, d.status, d.min_clock, true, {}, 0);
  TakeReplication(strand, effects);
}

// ---- messages ----

absl::Status SimServer::Check(Open* open) {
  if (strands_.empty()) return absl::UnavailableError("not joined");
  if (std::holds_alternative<wire::ClockRequest>(open->call.request)) return absl::OkStatus();
  if (catalog_ == nullptr) return absl::UnavailableError("the job's tables are not open yet");
  const uint64_t limit = world_->plan->message_limit_bytes;
  if (open->call.bytes.size() > limit) return absl::ResourceExhaustedError("message above the limit");
  if (const auto* pull = std::get_if<wire::PullRequest>(&open->call.request)) {
    return CheckPull(*pull, *catalog_, limit);
  }
  return CheckPush(std::get<wire::PushRequest>(open->call.request), *catalog_);
}

void SimServer::Split(Open* open) const {
  const size_t tables = TablesOf(open->call.request);
  if (strands_.size() == 1 || tables == 0) return;
  auto& positions = open->call.positions;
  positions.assign(strands_.size(), std::vector<std::vector<uint32_t>>(tables));
  const auto split = [&](size_t t, TableId table, PackedSpan<Key> keys) {
    for (uint32_t i = 0; i < keys.size(); ++i) {
      const ShardId shard = ShardOfHash(PlacementHash(table, keys[i]), log2_shards_);
      positions[strand_of_shard_[shard]][t].push_back(i);
    }
  };
  size_t t = 0;
  if (const auto* pull = std::get_if<wire::PullRequest>(&open->call.request)) {
    for (const auto& table : pull->tables) split(t++, table.table, table.keys);
  } else {
    for (const auto& table : std::get<wire::PushRequest>(open->call.request).tables) {
      split(t++, table.table, table.keys);
    }
  }
}

uint64_t SimServer::StrandsOf(const Open& open) const {
  if (std::holds_alternative<wire::ClockRequest>(open.call.request)) return AllStrands();
  const auto* push = std::get_if<wire::PushRequest>(&open.call.request);
  if (push != nullptr && push->asks) return uint64_t{1} << (strand_of_shard_.empty() ? 0 : strand_of_shard_[0]);
  if (push != nullptr && world_->plan->synchronous && push->stamp.incarnation != 0) return AllStrands();
  uint64_t strands = 0;
  for (size_t s = 0; s < open.call.positions.size(); ++s) {
    for (const auto& keys : open.call.positions[s]) {
      if (!keys.empty()) strands |= uint64_t{1} << s;
    }
  }
  return strands == 0 ? 1 : strands;
}

void SimServer::Receive(int peer, std::string bytes, Answer answer) {
  if (ended_) return;
  auto open = std::make_shared<Open>();
  open->peer = peer;
  open->answer = std::move(answer);
  open->call.bytes = std::move(bytes);
  auto parsed = wire::ParseStreamRequest(std::as_bytes(std::span(open->call.bytes)));
  TG_CHECK(parsed.ok()) << parsed.status();
  open->number = parsed->call;
  open->call.request = std::move(parsed->body);
  if (world_->plan->crash_all_at > 0 && std::holds_alternative<wire::PushRequest>(open->call.request)) {
    world_->disk->old_pushes.push_back(open->call.bytes);
  }
  if (absl::Status status = Check(open.get()); !status.ok()) {
    Send(*open, status);
    return;
  }
  open->call.token = next_++;
  open_[open->call.token] = open;
  Split(open.get());
  if (const auto* pull = std::get_if<wire::PullRequest>(&open->call.request)) {
    for (const auto& table : pull->tables) {
      open->rows.emplace_back(table.keys.size() * catalog_->layout(table.table).WireRowBytes(FLOAT32),
                              std::byte{0xff});
    }
  }
  Dispatch(open, StrandsOf(*open));
}

void SimServer::Dispatch(const std::shared_ptr<Open>& open, uint64_t strands) {
  open->pending = strands;
  for (Strand& strand : strands_) {
    if ((strands >> strand.index & 1) == 0) continue;
    RunOn(&strand, open->peer, [this, open, s = &strand] { Work(s, open); });
  }
}

KeySelection SimServer::SelectionOf(const Open& open, int strand) const {
  KeySelection selection;
  selection.all = strands_.size() == 1;
  if (selection.all || open.call.positions.empty()) return selection;
  for (const auto& keys : open.call.positions[static_cast<size_t>(strand)]) {
    selection.positions.push_back(keys);
  }
  return selection;
}

void SimServer::Work(Strand* strand, const std::shared_ptr<Open>& open) {
  const CallToken token = open->call.token;
  GroupCall info = Before(*strand);
  if (open->joining) {
    const wire::ClockRequest& hello = *HelloOf(open->call.request);
    info.joiner = hello.stamp.incarnation;
    info.order = hello.order;
    info.clock = open->min_clock;
    strand->group->JoinAt(hello.stamp.incarnation, hello.order, open->min_clock, &strand->effects);
    Deliver(strand, GroupCall::kJoinAt, nullptr, info);
    FinishShare(*strand, token);
  } else if (open->cancelled) {
    FinishShare(*strand, token);
  } else if (const auto* pull = std::get_if<wire::PullRequest>(&open->call.request)) {
    strand->group->Pull({token, *pull, SelectionOf(*open, strand->index), open}, &strand->effects);
    Deliver(strand, GroupCall::kPull, &open->call, info);
  } else if (const auto* push = std::get_if<wire::PushRequest>(&open->call.request)) {
    strand->group->Push({token, *push, SelectionOf(*open, strand->index), open}, &strand->effects);
    Deliver(strand, GroupCall::kPush, &open->call, info);
  } else {
    strand->group->Announce(token, std::get<wire::ClockRequest>(open->call.request), &strand->effects);
    Deliver(strand, GroupCall::kAnnounce, &open->call, info);
  }
}

std::span<std::byte> SimServer::RowsOf(CallToken token, size_t table_index) {
  const auto it = open_.find(token);
  if (it == open_.end() || it->second->cancelled) return {};
  return it->second->rows[table_index];
}

void SimServer::FinishShare(const Strand& strand, CallToken token) {
  const auto it = open_.find(token);
  if (it == open_.end()) return;
  const std::shared_ptr<Open> open = it->second;
  open->pending &= ~(uint64_t{1} << strand.index);
  if (open->pending != 0) return;
  if (open->cancelled || open->joining || !open->status.ok() || HelloOf(open->call.request) == nullptr) {
    open_.erase(it);
    if (!open->cancelled) Reply(*open);
    return;
  }
  open->joining = true;
  Dispatch(open, AllStrands());
}

void SimServer::Reply(const Open& open) {
  if (!open.status.ok()) return Send(open, open.status);
  if (open.valid_until < now()) return Send(open, absl::UnavailableError("no grant"));
  if (const auto* pull = std::get_if<wire::PullRequest>(&open.call.request)) {
    wire::PullResponse response;
    response.epoch = epoch_;
    response.min_clock = open.min_clock;
    for (ShardId shard : open.refused_shards) response.refused_shards.push_back(shard);
    for (size_t t = 0; t < pull->tables.size(); ++t) {
      response.tables.push_back({pull->tables[t].table, wire::Bytes(open.rows[t])});
    }
    Send(open, response);
  } else if (std::holds_alternative<wire::PushRequest>(open.call.request)) {
    wire::PushResponse response;
    response.epoch = epoch_;
    for (ShardId shard : open.refused_shards) response.refused_shards.push_back(shard);
    response.duplicate_rows = open.duplicate_rows;
    response.contributors = open.contributors;
    response.closed = open.closed;
    Send(open, response);
  } else {
    Send(open, wire::ClockResponse{epoch_, open.min_clock});
  }
}

void SimServer::Send(const Open& open, const wire::Response& response) {
  open.answer(std::make_shared<const std::string>(
      wire::Flatten(wire::EncodeStreamResponse(open.number, response))));
}

void SimServer::Disconnect(int peer) {
  std::vector<std::shared_ptr<Open>> of_peer;
  for (const auto& [token, open] : open_) {
    if (open->peer == peer && !open->cancelled) of_peer.push_back(open);
  }
  for (const auto& open : of_peer) {
    open->cancelled = true;
    if (open->joining) continue;
    for (Strand& strand : strands_) {
      if ((open->pending >> strand.index & 1) == 0) continue;
      RunOn(&strand, peer, [this, open, s = &strand] {
        if ((open->pending >> s->index & 1) == 0) return;
        GroupCall info = Before(*s);
        s->group->Cancel(open->call.token);
        Deliver(s, GroupCall::kCancel, &open->call, info);
        FinishShare(*s, open->call.token);
      });
    }
  }
}

std::vector<const ShardGroup*> SimServer::groups() const {
  std::vector<const ShardGroup*> out;
  for (const Strand& strand : strands_) out.push_back(strand.group.get());
  return out;
}

uint64_t SimServer::ShardDigest(ShardId shard) const {
  return strands_.at(strand_of_shard_.at(shard)).group->ShardDigest(shard);
}

uint64_t SimServer::Digest() const {
  uint64_t sum = 0;
  for (const Strand& strand : strands_) sum += strand.group->Digest();
  return sum;
}

}  // namespace tidegate::simulation
