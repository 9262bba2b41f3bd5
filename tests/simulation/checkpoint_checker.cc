// Every shard's cut holds the pushes of all work that the checkpoint calls done, and is made at its clock.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/stable_hash.h"
#include "tests/simulation/ledger.h"
#include "tests/simulation/sim_disk.h"

namespace tidegate::simulation {
namespace {

class CheckpointChecker final : public Checker {
 public:
  CheckpointChecker(const Plan* plan, Report* report, const Ledger* ledger, SimDisk* disk)
      : Checker("checkpoint", plan, report), ledger_(ledger), disk_(disk) {}

  void OnPushAcknowledged(TimeMs now, Incarnation worker, uint64_t number) override {
    acknowledged_.emplace_back(worker, number);
  }

  void OnGroupCall(const GroupCall& call) override {
    if (plan_->replicated()) return;  // the replica checker says what is in them
    Armed& armed = armed_[call.where()];
    if (call.kind == GroupCall::kCut) armed = {call.order, call.clock, call.released_before, false};
    if (armed.number == 0 || armed.taken || !call.group->cut().IsOpen(armed.number)) return;
    armed.taken = true;
    const Clock at = call.group->cut().Header(0).clock();
    const bool late = plan_->synchronous && at > armed.clock && armed.released <= armed.clock;
    if (late || (call.kind != GroupCall::kCut && call.released_before >= armed.clock)) {
      Fail(call.now, absl::StrCat("server ", call.server, " strand ", call.strand, " cuts checkpoint ", armed.number,
                                  " at clock ", at, ", not at ", armed.clock));
    }
    disk_->digest_at_cut[armed.number] += call.group->Digest();
    Cut& cut = cuts_[armed.number][call.where()];
    for (const auto& [id, entry] : ledger_->pushes) {
      bool whole = true;
      for (const auto& [row, gradient] : entry.push.gradients) {
        const bool here = call.group->table(row.first).LocalOfKey(row.second) != TableGroup::kNotLocal;
        whole = whole && (!here || entry.applied.contains(row));
      }
      if (whole) cut.insert(id);
    }
  }

  void OnManifest(TimeMs now, const ManifestOrder& order) override {
    const JobProgress& progress = order.manifest.progress();
    const uint32_t closed = progress.phase() == TRAINING ? progress.epoch() - 1 : progress.epoch();
    for (uint32_t epoch = 1; epoch <= closed; ++epoch) CheckRows(now, order, epoch, {0, plan_->rows});
    if (progress.phase() != TRAINING) return;
    for (uint32_t split : progress.current().done()) {
      const uint64_t begin = split * plan_->rows_per_split;
      CheckRows(now, order, progress.epoch(), {begin, std::min(plan_->rows, begin + plan_->rows_per_split)});
    }
    if (!plan_->synchronous || progress.current().leftovers_size() > 0) return;
    const uint64_t end = std::min(plan_->rows, progress.current().next_step() * plan_->global_batch);
    CheckRows(now, order, progress.epoch(), {0, end});
  }

 private:
  struct Armed {
    uint64_t number = 0;
    Clock clock = 0;
    Clock released = 0;
    bool taken = false;
  };
  using PushId = std::pair<Incarnation, uint64_t>;
  using Cut = std::set<PushId>;  // pushes whose rows of the strand are all in

  void CheckRows(TimeMs now, const ManifestOrder& order, uint32_t epoch, RowRange rows) {
    if (plan_->drop_slowest > 0) return;  // a row that is done may be dropped
    const uint64_t number = order.manifest.number();
    std::vector<bool> in(plan_->rows, false);
    for (const PushId& id : acknowledged_) {
      const PushIssued& push = ledger_->pushes.at(id).push;
      if (push.epoch != epoch) continue;
      bool everywhere = true;
      for (const auto& [where, cut] : cuts_[number]) everywhere = everywhere && cut.contains(id);
      if (plan_->replicated()) everywhere = InEveryShard(number, id, push);
      for (uint64_t row = push.rows.begin; everywhere && row < push.rows.end; ++row) in[row] = true;
    }
    for (uint64_t row = rows.begin; row < rows.end; ++row) {
      // What the run before this one did is in what it began from.
      if (in[row] || BeforeRestore(epoch, row)) continue;
      return Fail(now, absl::StrCat(order.directory, " calls row ", row, " of epoch ", epoch,
                                    " done, but no push with it is in every shard's cut"));
    }
  }

  bool InEveryShard(uint64_t number, const PushId& id, const PushIssued& push) const {
    int log2_shards = 0;
    while ((1u << log2_shards) < plan_->shards) ++log2_shards;
    return std::all_of(push.gradients.begin(), push.gradients.end(), [&](const auto& gradient) {
      const RowAt& row = gradient.first;
      const auto cut = ledger_->cuts.find({number, ShardOfHash(PlacementHash(row.first, row.second), log2_shards)});
      if (cut == ledger_->cuts.end()) return false;
      if (plan_->synchronous) return cut->second.clock >= push.clock;
      const auto content = cut->second.content.find(row);
      return content != cut->second.content.end() && content->second.contains(id);
    });
  }

  bool BeforeRestore(uint32_t epoch, uint64_t row) const {
    if (plan_->generation == 1 || disk_->complete.empty()) return false;
    return disk_->began_done.contains({epoch, row});
  }

  const Ledger* const ledger_;
  SimDisk* const disk_;
  std::vector<PushId> acknowledged_;
  std::map<std::pair<int, int>, Armed> armed_;
  std::map<uint64_t, std::map<std::pair<int, int>, Cut>> cuts_;
};

}  // namespace

std::unique_ptr<Checker> MakeCheckpointChecker(const Plan* plan, Report* report, const Ledger* ledger, SimDisk* disk) {
  return std::make_unique<CheckpointChecker>(plan, report, ledger, disk);
}

}  // namespace tidegate::simulation
