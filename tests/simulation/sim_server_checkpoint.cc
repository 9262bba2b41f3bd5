// A server's checkpoint commands: what server/checkpoint and server/rpc do with threads and files.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "tests/simulation/sim_disk.h"
#include "tests/simulation/sim_server.h"

namespace tidegate::simulation {
namespace {

constexpr size_t kChunkBytes = 100;
constexpr TimeMs kCutPollMs = 3;

}  // namespace

void SimServer::ArmCut(const CutShards& cut, std::function<void()> done) {
  OnEvery(
      [this, cut](Strand* strand) {
        GroupCall info = Before(*strand);
        info.clock = cut.clock();
        info.order = cut.number();
        strand->group->ArmCut(cut.number(), cut.clock());
        Deliver(strand, GroupCall::kCut, nullptr, info);
      },
      std::move(done));
}

struct SimServer::Writing {
  WriteCheckpoint command;
  CommandResult result;
  std::function<void(CommandResult)> done;
  size_t strand = 0;
  bool listed = false;           // what the strand leads, by local index:
  std::vector<uint32_t> locals;
  size_t at = 0;                 // in them
  uint32_t local() const { return locals[at]; }
  TableId table = 0;
  int stage = 0;  // 0: list, 1: order, 2: next
  std::vector<Key> keys;
  std::vector<std::string> sections;
  ShardFileHeader header;
};

void SimServer::Write(const WriteCheckpoint& command, CommandResult result,
                      std::function<void(CommandResult)> done) {
  auto writing = std::make_shared<Writing>();
  writing->command = command;
  writing->result = std::move(result);
  writing->done = std::move(done);
  WriteOn(writing);
}

// A step of it, on the strand whose turn it is.
void SimServer::WriteOn(const std::shared_ptr<Writing>& w) {
  if (w->strand == strands_.size()) return w->done(w->result);
  Strand* strand = &strands_[w->strand];
  RunOn(strand, kControl, [this, w, strand] {
    ShardCut& cut = strand->group->cut();
    const uint64_t number = w->command.number();
    if (!w->listed) {
      w->locals.clear();
      const auto shards = strand->group->shards();
      for (uint32_t local = 0; local < shards.size(); ++local) {
        if (shards[local] != ShardMap::kVacant && strand->group->Leads(shards[local])) w->locals.push_back(local);
      }
      if (cut.IsArmed(number) && !w->locals.empty()) return Later(kCutPollMs, [this, w] { WriteOn(w); });
      w->listed = true;
      w->at = 0;
    }
    if (w->at == w->locals.size()) {
      ++w->strand;
      w->listed = false;
      return WriteOn(w);
    }
    if (!cut.IsOpen(number)) {
      w->result.set_code(static_cast<uint32_t>(absl::StatusCode::kFailedPrecondition));
      w->result.set_error("the cut was given up");
      return w->done(w->result);
    }
    if (w->table == 0 && w->stage == 0) w->header = cut.Header(w->local());
    StepOfCut(&cut, w.get());
    WriteOn(w);
  });
}

void SimServer::StepOfCut(ShardCut* cut, Writing* w) {
  if (w->stage == 0) {
    w->sections.emplace_back();
    w->keys = cut->ListKeys(w->local(), w->table);
    std::sort(w->keys.begin(), w->keys.end());
    w->stage = 1;
    return;
  }
  if (w->stage == 1) {
    cut->SetOrder(w->local(), w->table, std::move(w->keys));
    w->stage = 2;
    return;
  }
  uint64_t rows = 0;
  if (cut->Next(w->local(), w->table, kChunkBytes, &w->sections.back(), &rows)) return;
  w->stage = 0;
  if (++w->table < catalog_->size()) return;
  w->table = 0;
  ++w->at;
  world_->disk->shards[absl::StrCat(w->command.directory(), "/", w->command.name())][w->header.shard()] =
      std::exchange(w->sections, {});
  CheckpointFile* file = w->result.add_files();
  file->set_name(absl::StrCat("shard-", w->header.shard()));
  file->set_shard(w->header.shard());
  file->set_clock(std::max(w->header.clock(), w->header.highest_clock()));
}

void SimServer::Restore(const RestoreTables& restore, Strand* strand) {
  const auto& shards = world_->disk->shards.at(restore.directory());
  for (ShardId shard : strand->shards) {
    const std::vector<std::string>& sections = shards.at(shard);
    for (TableId id = 0; id < sections.size(); ++id) {
      TableGroup& table = strand->group->mutable_table(id);
      const absl::Status status =
          table.shard(table.LocalOfShard(shard)).LoadRows(std::as_bytes(std::span(sections[id])));
      TG_CHECK(status.ok()) << status;
    }
  }
  GroupCall info = Before(*strand);
  strand->group->Resume(restore.clock(), restore.learning_rate_scale());
  info.learning_rate_scale = restore.learning_rate_scale();
  Deliver(strand, GroupCall::kLearningRate, nullptr, info);
  SimDisk& disk = *world_->disk;
  disk.restored_digest += strand->group->Digest();
  if (++disk.restored_strands < world_->servers.size() * strands_.size()) return;
  for (const auto& [number, order] : disk.complete) {
    if (order.directory != restore.directory()) continue;
    if (disk.digest_at_cut.at(number) == disk.restored_digest) continue;
    world_->report->Fail("checkpoint", world_->now(), absl::StrCat("what is restored from ", order.directory,
                                                           " is not what its shards were at their cuts"));
  }
}

// Whatever the old run still sends is refused whole.
void SimServer::ReceiveOld(std::string bytes) {
  if (ended_ || catalog_ == nullptr) return;
  auto open = std::make_shared<Open>();
  open->call.bytes = std::move(bytes);
  auto parsed = wire::ParseStreamRequest(std::as_bytes(std::span(open->call.bytes)));
  TG_CHECK(parsed.ok()) << parsed.status();
  open->call.request = std::move(parsed->body);
  open->call.token = next_++;
  Split(open.get());
  for (Strand& strand : strands_) {
    RunOn(&strand, kControl, [this, open, s = &strand] {
      ShardEffects effects;
      const uint64_t before = s->group->Digest();
      const auto& push = std::get<wire::PushRequest>(open->call.request);
      s->group->Push({open->call.token, push, SelectionOf(*open, s->index), open}, &effects);
      const bool refused = effects.pushes.size() == 1 && !effects.pushes[0].status.ok();
      if (refused && s->group->Digest() == before) return;
      world_->report->Fail("checkpoint", world_->now(),
                           absl::StrCat("a push of generation ", push.stamp.generation, " is taken by server ", index_));
    });
  }
}

}  // namespace tidegate::simulation
