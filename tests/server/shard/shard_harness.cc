#include "tests/server/shard/shard_harness.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "google/protobuf/text_format.h"
#include "server/table/value_codec.h"

namespace tidegate {

// A call that not all of its strands have answered, with the memory that its views point into.
struct ShardHarness::Open {
  TestPush push;
  TestPull pull;
  std::vector<std::vector<std::vector<uint32_t>>> positions;  // [strand][table]
  std::vector<std::vector<std::byte>> rows;                   // [table]
  wire::ValueType value_type = wire::ValueType::kFloat32;
  int strands_left = 0;
  TestAnswer answer;
  bool started = false;
  Incarnation joiner = 0;
  uint64_t order = 0;
};

TableSpec SparseTable(TableId id, uint32_t dim, const std::string& optimizer_text) {
  TableSpec spec;
  spec.set_id(id);
  spec.set_name(absl::StrCat("t", id));
  spec.set_seed(7 + id);
  PartSpec* part = spec.add_parts();
  part->set_name("v");
  part->set_dim(dim);
  TG_CHECK(google::protobuf::TextFormat::ParseFromString(optimizer_text, part->mutable_optimizer()));
  return spec;
}

ShardHarness::ShardHarness(const Options& options, std::vector<TableSpec> specs)
    : options_(options), budget_(options.memory_limit_bytes) {
  auto catalog = TableCatalog::FromSpecs(specs);
  TG_CHECK(catalog.ok()) << catalog.status();
  catalog_ = *catalog;
  ShardGroup::Options group_options;
  group_options.synchronous = options.synchronous;
  group_options.staleness = options.staleness;
  group_options.generation = 1;
  group_options.max_parked_per_worker = options.max_parked_per_worker;
  group_options.max_workers = options.max_workers;
  group_options.schedule = options.schedule;
  group_options.budget = &budget_;
  group_options.log_touched = options.log_touched;
  for (int strand = 0; strand < options.strands; ++strand) {
    groups_.push_back(std::make_unique<ShardGroup>(group_options, this));
  }
  const absl::Status routed = SetRouting(1, options.foreign_from);
  TG_CHECK(routed.ok()) << routed;
  for (auto& group : groups_) {
    const absl::Status opened = group->OpenTables(catalog_);
    TG_CHECK(opened.ok()) << opened;
  }
  SetWorkers(0, 0, {});
}

std::vector<ShardId> ShardHarness::ShardsOf(int strand, uint32_t foreign_from) const {
  std::vector<ShardId> out;
  for (ShardId shard = 0; shard < std::min(options_.shards, foreign_from); ++shard) {
    if (static_cast<int>(shard) % options_.strands == strand) out.push_back(shard);
  }
  return out;
}

Routing ShardHarness::MakeRouting(Epoch epoch, uint32_t foreign_from) const {
  RoutingTable table;
  table.set_epoch(epoch);
  table.set_shards(options_.shards);
  for (uint32_t shard = 0; shard < options_.shards; ++shard) {
    table.add_primary(shard < foreign_from ? kServer : kServer + 1);
  }
  for (Incarnation server : {kServer, kServer + 1}) table.add_servers()->set_incarnation(server);
  auto routing = Routing::FromProto(table);
  TG_CHECK(routing.ok()) << routing.status();
  return *std::move(routing);
}

absl::Status ShardHarness::SetRouting(Epoch epoch, uint32_t foreign_from) {
  const Routing routing = MakeRouting(epoch, foreign_from);
  for (int strand = 0; strand < options_.strands; ++strand) {
    const absl::Status status =
        groups_[strand]->SetRouting(routing, ShardsOf(strand, foreign_from), 0, &effects_);
    if (!status.ok()) return status;
    Collect(strand);
  }
  return absl::OkStatus();
}

int ShardHarness::StrandOf(TableId table, Key key) const {
  const ShardId shard =
      ShardOfHash(PlacementHash(table, key), std::countr_zero(options_.shards));
  return static_cast<int>(shard) % options_.strands;
}

std::vector<KeySelection> ShardHarness::Split(const std::vector<TestRows>& tables,
                                              Open* open) const {
  std::vector<KeySelection> out(options_.strands);
  if (options_.strands == 1) return out;
  open->positions.assign(options_.strands, std::vector<std::vector<uint32_t>>(tables.size()));
  for (size_t t = 0; t < tables.size(); ++t) {
    for (uint32_t i = 0; i < tables[t].keys.size(); ++i) {
      open->positions[StrandOf(tables[t].table, tables[t].keys[i])][t].push_back(i);
    }
  }
  for (int strand = 0; strand < options_.strands; ++strand) {
    out[strand].all = false;
    for (const auto& positions : open->positions[strand]) {
      out[strand].positions.push_back(positions);
    }
  }
  return out;
}

CallToken ShardHarness::Push(const TestPush& push) {
  const CallToken token = next_++;
  auto open = std::make_shared<Open>();
  open->push = push;
  wire::PushRequest request;
  request.stamp = {push.generation, push.epoch, push.worker};
  request.sequence = push.sequence;
  request.oldest_unacked = push.oldest_unacked == 0 ? push.sequence : push.oldest_unacked;
  request.clock = push.clock;
  request.weight = push.weight;
  request.part = push.part;
  request.parts = push.parts;
  for (const TestRows& table : open->push.tables) {
    wire::TableGradients gradients;
    gradients.table = table.table;
    gradients.keys = PackedSpan<Key>(table.keys.data(), table.keys.size());
    gradients.values = std::as_bytes(std::span(table.values));
    gradients.counts = PackedSpan<uint32_t>(table.counts.data(), table.counts.size());
    request.tables.push_back(gradients);
  }
  open_[token] = open;
  open->strands_left = options_.strands;
  if (absl::Status status = CheckPush(request, *catalog_); !status.ok()) {
    Merge(token, 'u', status);
    open->strands_left = 0;
    Finish(token);
    return token;
  }
  const std::vector<KeySelection> selections = Split(open->push.tables, open.get());
  for (int strand = 0; strand < options_.strands; ++strand) {
    groups_[strand]->Push({token, request, selections[strand], open}, &effects_);
    Collect(strand);
  }
  return token;
}

CallToken ShardHarness::Pull(const TestPull& pull) {
  const CallToken token = next_++;
  auto open = std::make_shared<Open>();
  open->pull = pull;
  open->value_type = pull.value_type;
  wire::PullRequest request;
  request.stamp = {pull.generation, pull.epoch, pull.worker};
  request.clock = pull.clock;
  request.bound = pull.bound;
  request.eval = pull.eval;
  request.value_type = pull.value_type;
  for (const TestRows& table : open->pull.tables) {
    request.tables.push_back(
        {table.table, PackedSpan<Key>(table.keys.data(), table.keys.size())});
  }
  open_[token] = open;
  open->strands_left = options_.strands;
  if (absl::Status status = CheckPull(request, *catalog_, 1 << 20); !status.ok()) {
    Merge(token, 'p', status);
    open->strands_left = 0;
    Finish(token);
    return token;
  }
  for (const wire::TableKeys& table : request.tables) {
    const uint32_t row = catalog_->layout(table.table).WireRowBytes(WireDataType(pull.value_type));
    open->rows.emplace_back(table.keys.size() * row, std::byte{0xff});
  }
  const std::vector<KeySelection> selections = Split(open->pull.tables, open.get());
  for (int strand = 0; strand < options_.strands; ++strand) {
    groups_[strand]->Pull({token, request, selections[strand], open}, &effects_);
    Collect(strand);
  }
  return token;
}

CallToken ShardHarness::Announce(Incarnation worker, uint64_t order,
                                 wire::ClockRequest::Kind kind, Clock clock, Epoch epoch) {
  const CallToken token = next_++;
  auto open = std::make_shared<Open>();
  open_[token] = open;
  open->strands_left = options_.strands;
  wire::ClockRequest request;
  request.stamp = {1, epoch, worker};
  request.order = order;
  request.kind = kind;
  request.clock = clock;
  if (kind == wire::ClockRequest::Kind::kHello) {
    open->joiner = worker;
    open->order = order;
  }
  for (int strand = 0; strand < options_.strands; ++strand) {
    groups_[strand]->Announce(token, request, &effects_);
    Collect(strand);
  }
  return token;
}

void ShardHarness::SetWorkers(uint64_t version, Incarnation last, std::vector<Incarnation> live) {
  WorkerSet set;
  set.set_version(version + 1);
  set.set_last_incarnation(std::max(last, options_.known));
  for (Incarnation worker : live) set.add_live(worker);
  for (Incarnation worker = last + 1; worker <= options_.known; ++worker) set.add_live(worker);
  for (int strand = 0; strand < options_.strands; ++strand) {
    groups_[strand]->SetWorkers(set, &effects_);
    Collect(strand);
  }
}

void ShardHarness::SetLearningRateScale(float scale) {
  for (auto& group : groups_) group->SetLearningRateScale(scale);
}

std::span<std::byte> ShardHarness::RowsOf(CallToken token, size_t table_index) {
  return open_.at(token)->rows[table_index];
}

TestAnswer& ShardHarness::Merge(CallToken token, char kind, const absl::Status& status) {
  auto it = open_.find(token);
  TG_CHECK(it != open_.end()) << "call " << token << " is answered twice";
  Open& open = *it->second;
  open.answer.kind = kind;
  if (open.answer.status.ok()) open.answer.status = status;
  --open.strands_left;
  return open.answer;
}

void ShardHarness::Finish(CallToken token) {
  const std::shared_ptr<Open> open = open_.at(token);
  if (open->strands_left > 0) return;
  if (open->answer.kind == 'p' && open->answer.status.ok()) {
    for (const std::vector<std::byte>& rows : open->rows) {
      std::vector<float>& out = open->answer.rows.emplace_back();
      out.resize(rows.size() / wire::SizeOf(open->value_type));
      DecodeValues(rows.data(), WireDataType(open->value_type), out.size(), out.data());
    }
  }
  std::sort(open->answer.refused_shards.begin(), open->answer.refused_shards.end());
  answers_[token] = std::move(open->answer);
  new_.push_back(token);
  open_.erase(token);
  const TestAnswer& answer = answers_[token];
  if (open->joiner == 0 || !answer.status.ok()) return;
  for (int strand = 0; strand < options_.strands; ++strand) {
    groups_[strand]->JoinAt(open->joiner, open->order, answer.min_clock, &effects_);
    Collect(strand);
  }
}

void ShardHarness::Collect(int strand) {
  ShardEffects effects = std::exchange(effects_, {});
  for (PullDone& done : effects.pulls) {
    Open& open = *open_.at(done.token);
    TestAnswer& answer = Merge(done.token, 'p', done.status);
    answer.min_clock = open.started ? std::min(answer.min_clock, done.min_clock) : done.min_clock;
    open.started = true;
    for (ShardId shard : done.refused_shards) answer.refused_shards.push_back(shard);
    Finish(done.token);
  }
  for (PushDone& done : effects.pushes) {
    TestAnswer& answer = Merge(done.token, 'u', done.status);
    answer.duplicate_rows += done.duplicate_rows;
    for (ShardId shard : done.refused_shards) answer.refused_shards.push_back(shard);
    Finish(done.token);
  }
  for (ClockDone& done : effects.clocks) {
    Open& open = *open_.at(done.token);
    TestAnswer& answer = Merge(done.token, 'c', done.status);
    answer.min_clock = open.started ? std::max(answer.min_clock, done.min_clock) : done.min_clock;
    open.started = true;
    Finish(done.token);
  }
}

const TestAnswer& ShardHarness::Answer(CallToken call) const {
  auto it = answers_.find(call);
  TG_CHECK(it != answers_.end()) << "call " << call << " is not answered";
  return it->second;
}

std::vector<CallToken> ShardHarness::TakeNew() {
  std::vector<CallToken> out = std::exchange(new_, {});
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<float> ShardHarness::Read(TableId table, std::vector<Key> keys) {
  TestPull pull;
  pull.eval = true;
  pull.tables.push_back({table, std::move(keys), {}, {}});
  const CallToken call = Pull(pull);
  std::erase(new_, call);
  return Answer(call).rows[0];
}

uint64_t ShardHarness::Digest() const {
  uint64_t sum = 0;
  for (const auto& group : groups_) sum += group->Digest();
  return sum;
}

uint64_t ShardHarness::Total(uint64_t ShardMetrics::*counter) const {
  uint64_t sum = 0;
  for (const auto& group : groups_) sum += group->metrics().*counter;
  return sum;
}

}  // namespace tidegate
