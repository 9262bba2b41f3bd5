// Replicated clusters, exactly once: which pushes are in which copy of a shard is followed from outside (pushes at
// primaries, records and fills at followers), and must agree with the sums in the rows. What is acknowledged is in
// every copy that may be promoted, then and for ever; copies are equal at equal places of a log.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/stable_hash.h"
#include "tests/simulation/ledger.h"

namespace tidegate::simulation {
namespace {

using PushId = std::pair<Incarnation, uint64_t>;  // worker, number
using Content = std::map<RowAt, std::set<PushId>>;

class ReplicaChecker final : public Checker {
 public:
  ReplicaChecker(const Plan* plan, Report* report, Ledger* ledger)
      : Checker("replicas", plan, report), ledger_(ledger), acknowledged_(plan->shards) {
    while ((1u << log2_shards_) < plan->shards) ++log2_shards_;
    for (TableId table : {kSparse, kDense}) {
      for (Key key : KeysOf(table, !plan->synchronous)) rows_of_[ShardOf({table, key})].push_back({table, key});
    }
  }

  void OnPushIssued(TimeMs now, const PushIssued& push) override {
    if (ledger_->Add(push)) return;
    Fail(now, absl::StrCat("worker ", push.worker, " pushes twice at clock ", push.clock));
  }
  void OnPushSent(TimeMs now, Incarnation worker, Sequence sequence, Clock clock) override {
    ledger_->AddSequence(worker, sequence, clock);
  }
  void OnWorkerGone(TimeMs now, Incarnation worker, bool failed) override {
    if (failed) ledger_->workers_failed = true;
  }

  void OnPushAcknowledged(TimeMs now, Incarnation worker, uint64_t number) override {
    Ledger::Entry& entry = ledger_->pushes.at({worker, number});
    entry.acknowledged = true;
    highest_acknowledged_ = std::max(highest_acknowledged_, entry.push.clock);
    std::set<ShardId> shards;
    for (const auto& [row, gradient] : entry.push.gradients) {
      acknowledged_[ShardOf(row)][row].insert({worker, number});
      shards.insert(ShardOf(row));
    }
    for (ShardId shard : shards) CheckPromotable(now, shard);
  }

  void OnPersist(TimeMs now, const SchedulerState& state) override {
    if (state.routing().epoch() == stored_.epoch()) return;
    stored_ = state.routing();
    for (ShardId shard = 0; shard < plan_->shards; ++shard) CheckPromotable(now, shard);
  }

  void OnServerGone(TimeMs now, Incarnation server) override {
    std::erase_if(groups_, [&](const auto& group) { return group.first.first == server; });
  }

  void OnGroupCall(const GroupCall& call) override {
    ledger_->shards_applied_now.clear();
    groups_[{call.incarnation, call.strand}] = call.group;
    if (call.kind == GroupCall::kRouting) FollowRoles(call);
    if (call.group->tables() == 0) return;
    if (call.kind == GroupCall::kPush && !plan_->synchronous) FollowPush(call);
    if (call.kind == GroupCall::kRecord && call.record != nullptr) FollowRecord(call);
    for (ShardId shard : ShardsOf(*call.group)) {
      copies_.at({call.incarnation, shard}).applied = call.group->AppliedClock(shard);
    }
    RememberLog(call);
    FollowCut(call);
  }

  void OnEnd(TimeMs now) override {
    for (ShardId shard = 0; shard < plan_->shards; ++shard) {
      const Incarnation primary = stored_.primary(static_cast<int>(shard));
      const ShardGroup* group = GroupOf(primary, shard);
      if (group == nullptr) continue;  // has died just then
      CheckEnd(now, shard, copies_.at({primary, shard}), *group);
    }
  }

 private:
  struct Copy {
    bool filled = true;  // otherwise what it has means nothing yet
    Epoch joins = 0;     // the shard's epoch in which it is to be filled; 0: it is not
    Content content;     // staleness > 0
    Clock applied = -1;
  };
  struct LogPlace {
    std::map<ShardId, uint64_t> digests;
    std::map<ShardId, Content> filled;  // by the end of a fill
  };
  using LogId = std::tuple<Incarnation, int, Incarnation, uint64_t>;  // primary, strand, follower, index

  ShardId ShardOf(const RowAt& row) const { return ShardOfHash(PlacementHash(row.first, row.second), log2_shards_); }

  static std::vector<ShardId> ShardsOf(const ShardGroup& group) {
    std::vector<ShardId> shards(group.shards().begin(), group.shards().end());
    std::erase(shards, ShardMap::kVacant);
    return shards;
  }

  const ShardGroup* GroupOf(Incarnation server, ShardId shard) const {
    for (auto it = groups_.lower_bound({server, 0}); it != groups_.end() && it->first.first == server; ++it) {
      const auto shards = it->second->shards();
      if (std::find(shards.begin(), shards.end(), shard) != shards.end()) return it->second;
    }
    return nullptr;
  }

  // A copy that comes is empty, and counts unless it is to be filled. One that is to be filled anew counts no more.
  void FollowRoles(const GroupCall& call) {
    const std::vector<ShardId> shards = ShardsOf(*call.group);
    std::erase_if(copies_, [&](const auto& copy) {
      const auto& [server, shard] = copy.first;
      return server == call.incarnation && strand_of_[copy.first] == call.strand &&
             std::find(shards.begin(), shards.end(), shard) == shards.end();
    });
    for (ShardId shard : shards) {
      strand_of_[{call.incarnation, shard}] = call.strand;
      Copy& copy = copies_[{call.incarnation, shard}];
      // 0: not joining. One that goes on to be filled by the same primary has what it has.
      const Epoch joins = call.routing->JoiningOf(shard) == call.incarnation ? call.routing->ShardEpoch(shard) : 0;
      if (joins != 0 && joins != copy.joins) copy.filled = false;
      copy.joins = joins;
      if (call.group->tables() > 0 && call.group->Leads(shard)) CheckRows(call, shard, copy);
    }
  }

  static bool Refused(const GroupCall& call) {
    return std::any_of(call.effects->pushes.begin(), call.effects->pushes.end(), [&](const PushDone& done) {
      return done.token == call.call->token && !done.status.ok();
    });
  }

  void FollowPush(const GroupCall& call) {
    applied_now_.clear();
    if (Refused(call)) return;
    const auto& push = std::get<wire::PushRequest>(call.call->request);
    if (!(push.weight > 0)) return;
    const PushId id{push.stamp.incarnation, ledger_->EntryOf(push.stamp.incarnation, push.sequence).push.number};
    std::set<ShardId> touched;
    for (const wire::TableGradients& table : push.tables) {
      for (size_t i = 0; i < table.keys.size(); ++i) {
        const RowAt row{table.table, table.keys[i]};
        const auto copy = copies_.find({call.incarnation, ShardOf(row)});
        if (copy == copies_.end() || strand_of_[copy->first] != call.strand || !call.group->Leads(ShardOf(row))) continue;
        touched.insert(ShardOf(row));
        if (!copy->second.content[row].insert(id).second) continue;
        ledger_->shards_applied_now.emplace_back(ShardOf(row), push.clock);
        applied_now_.emplace_back(row, id);
      }
    }
    for (ShardId shard : touched) CheckRows(call, shard, copies_.at({call.incarnation, shard}));
  }

  void FollowRecord(const GroupCall& call) {
    const wire::ReplicaRequest& request = *call.record;
    const LogId id{request.sender, static_cast<int>(request.lane), request.receiver, request.index};
    const auto place = log_.find(id);
    if (const auto* fill = std::get_if<wire::FillRecord>(&request.body)) {
      const auto copy = copies_.find({call.incarnation, fill->shard});
      if (copy == copies_.end() || strand_of_[copy->first] != call.strand) return;
      if (fill->begins) copy->second.filled = false;
      if (fill->end && place != log_.end() && place->second.filled.contains(fill->shard)) {
        copy->second.content = place->second.filled.at(fill->shard);
        copy->second.filled = true;
        CheckRows(call, fill->shard, copy->second);
      }
    }
    const auto* record = std::get_if<wire::PushRecord>(&request.body);
    if (record != nullptr && !plan_->synchronous) FollowPushRecord(call, *record);
    if (place == log_.end()) return;
    for (const auto& [shard, digest] : place->second.digests) {
      const auto copy = copies_.find({call.incarnation, shard});
      if (copy == copies_.end() || strand_of_[copy->first] != call.strand || !copy->second.filled) continue;
      if (call.routing->PrimaryOf(shard) != request.sender || call.group->ShardDigest(shard) == digest) continue;
      Fail(call.now, absl::StrCat("shard ", shard, " at server ", call.incarnation, " differs from its primary ",
                                  request.sender, " at record ", request.index, " of strand ", request.lane));
    }
  }

  void FollowPushRecord(const GroupCall& call, const wire::PushRecord& record) {
    const Incarnation worker = record.push.stamp.incarnation;
    const PushId id{worker, ledger_->EntryOf(worker, record.push.sequence).push.number};
    std::set<ShardId> touched;
    for (const wire::TableGradients& table : record.push.tables) {
      for (size_t i = 0; i < table.keys.size(); ++i) {
        const RowAt row{table.table, table.keys[i]};
        const ShardId shard = ShardOf(row);
        const auto copy = copies_.find({call.incarnation, shard});
        if (copy == copies_.end() || strand_of_[copy->first] != call.strand || !copy->second.filled) continue;
        if (call.routing->PrimaryOf(shard) != call.record->sender) continue;
        if (std::binary_search(record.skip_shards.begin(), record.skip_shards.end(), shard)) continue;
        touched.insert(shard);
        copy->second.content[row].insert(id);
      }
    }
    for (ShardId shard : touched) CheckRows(call, shard, copies_.at({call.incarnation, shard}));
  }

  // What the log's places are, to be compared with where followers are when they have come to them.
  void RememberLog(const GroupCall& call) {
    std::map<Incarnation, uint64_t> newest;
    for (const OutRecord& record : call.effects->records) {
      newest[record.follower] = std::max(newest[record.follower], record.index);
      const auto* fill = std::get_if<wire::FillRecord>(&record.body);
      if (fill == nullptr || !fill->end) continue;
      Content& filled = log_[{call.incarnation, call.strand, record.follower, record.index}].filled[fill->shard];
      filled = copies_.at({call.incarnation, fill->shard}).content;
      if (call.kind != GroupCall::kPush) continue;
      for (const auto& [row, id] : applied_now_) {
        if (ShardOf(row) == fill->shard) filled[row].erase(id);  // its record follows
      }
    }
    for (const auto& [follower, index] : newest) {
      LogPlace& place = log_[{call.incarnation, call.strand, follower, index}];
      for (ShardId shard : ShardsOf(*call.group)) {
        if (call.group->Leads(shard)) place.digests[shard] = call.group->ShardDigest(shard);
      }
    }
  }

  void FollowCut(const GroupCall& call) {
    uint64_t& armed = armed_[{call.incarnation, call.strand}];
    if (call.kind == GroupCall::kCut) armed = call.order;
    if (armed == 0 || !call.group->cut().IsOpen(armed)) return;
    const uint64_t number = std::exchange(armed, 0);
    const auto shards = call.group->shards();
    for (uint32_t local = 0; local < shards.size(); ++local) {
      if (shards[local] == ShardMap::kVacant || !call.group->Leads(shards[local])) continue;
      ledger_->cuts[{number, shards[local]}] = {call.group->cut().Header(local).clock(),
                                                copies_.at({call.incarnation, shards[local]}).content};
    }
  }

  std::vector<float> Gather(const ShardGroup& group, const RowAt& row) const {
    std::vector<float> values(WidthOf(row.first));
    const Key key = row.second;
    group.table(row.first).Gather(PackedSpan<Key>(&key, 1), {}, FLOAT32, {},
                                  std::as_writable_bytes(std::span(values)).data());
    return values;
  }

  double SumOf(const RowAt& row, const std::set<PushId>& pushes, size_t j) const {
    double sum = 0;
    for (const PushId& id : pushes) sum += ledger_->pushes.at(id).push.gradients.at(row)[j];
    return sum;
  }

  void CheckRows(const GroupCall& call, ShardId shard, const Copy& copy) {
    if (plan_->synchronous || !copy.filled) return;
    static const std::set<PushId> kNone;
    for (const RowAt& row : rows_of_[shard]) {
      if (row.first != kSparse) continue;
      const auto content = copy.content.find(row);
      const std::set<PushId>& pushes = content == copy.content.end() ? kNone : content->second;
      const std::vector<float> values = Gather(*call.group, row);
      for (size_t j = 0; j < kSumDim; ++j) {
        const double want = SumOf(row, pushes, j);
        if (values[j] == want) continue;
        Fail(call.now, absl::StrCat("server ", call.incarnation, ", shard ", shard, ": element ", j, " of key ",
                                    row.second, " is ", values[j], ", the pushes that it has sum to ", want,
                                    Origin(call)));
      }
    }
  }

  static std::string Origin(const GroupCall& call) {
    const wire::PushRequest* push = call.call != nullptr ? std::get_if<wire::PushRequest>(&call.call->request) : nullptr;
    if (call.record != nullptr) {
      const auto* record = std::get_if<wire::PushRecord>(&call.record->body);
      if (record != nullptr) push = &record->push;
    }
    if (push == nullptr) return absl::StrCat(" (in a call of kind ", call.kind, ")");
    return absl::StrCat(" (in a ", call.record != nullptr ? "record of the " : "", "push of worker ",
                        push->stamp.incarnation, ", clock ", push->clock, ", sequence ", push->sequence,
                        ", oldest unacknowledged ", push->oldest_unacked, ")");
  }

  // What is acknowledged is in every copy that may be promoted.
  void CheckPromotable(TimeMs now, ShardId shard) {
    if (stored_.epoch() == 0) return;
    const int slots = static_cast<int>(stored_.backup_slots());
    CheckHolds(now, shard, stored_.primary(static_cast<int>(shard)));
    for (int slot = 0; slot < slots; ++slot) {
      const Incarnation backup = stored_.backups(static_cast<int>(shard) * slots + slot);
      if (backup != 0) CheckHolds(now, shard, backup);
    }
  }

  void CheckHolds(TimeMs now, ShardId shard, Incarnation server) {
    if (highest_acknowledged_ < 0) return;
    const auto copy = copies_.find({server, shard});
    const auto fail = [&](const std::string& what) {
      Fail(now, absl::StrCat("server ", server, " may be promoted for shard ", shard, " in table ", stored_.epoch(),
                             ", but ", what));
    };
    if (copy == copies_.end() || !copy->second.filled) {
      if (!acknowledged_[shard].empty()) fail("has no whole copy of it");
      return;
    }
    if (plan_->synchronous) {
      if (copy->second.applied < highest_acknowledged_) {
        fail(absl::StrCat("has applied clock ", copy->second.applied, ", and ", highest_acknowledged_,
                          " is acknowledged"));
      }
      return;
    }
    for (const auto& [row, pushes] : acknowledged_[shard]) {
      const std::set<PushId>& has = copy->second.content[row];
      for (const PushId& id : pushes) {
        if (has.contains(id)) continue;
        return fail(absl::StrCat("lacks push ", id.second, " of worker ", id.first, " to key ", row.second,
                                 ", which is acknowledged"));
      }
    }
  }

  void CheckEnd(TimeMs now, ShardId shard, const Copy& copy, const ShardGroup& group) {
    for (const RowAt& row : rows_of_[shard]) {
      if (row.first != kSparse) continue;
      double least = 0, most = 0;
      for (const auto& [id, entry] : ledger_->pushes) {
        const auto gradient = entry.push.gradients.find(row);
        if (gradient == entry.push.gradients.end()) continue;
        if (entry.dropped) continue;
        most += gradient->second[0];
        if (entry.acknowledged) least += gradient->second[0];
      }
      const double value = Gather(group, row)[0];
      if (value >= least && value <= most && (ledger_->workers_failed || value == most)) continue;
      Fail(now, absl::StrCat("key ", row.second, " ends at ", value, ": ", least, " are acknowledged and ", most,
                             " were pushed"));
    }
  }

  Ledger* const ledger_;
  int log2_shards_ = 0;
  std::map<ShardId, std::vector<RowAt>> rows_of_;
  RoutingTable stored_;
  std::map<std::pair<Incarnation, ShardId>, Copy> copies_;
  std::map<std::pair<Incarnation, ShardId>, int> strand_of_;
  std::map<std::pair<Incarnation, int>, const ShardGroup*> groups_;
  std::vector<Content> acknowledged_;  // by shard
  Clock highest_acknowledged_ = -1;
  std::map<LogId, LogPlace> log_;
  std::map<std::pair<Incarnation, int>, uint64_t> armed_;  // cuts, by server and strand
  std::vector<std::pair<RowAt, PushId>> applied_now_;  // by the push that is being looked at
};

}  // namespace

std::unique_ptr<Checker> MakeReplicaChecker(const Plan* plan, Report* report, Ledger* ledger) {
  return std::make_unique<ReplicaChecker>(plan, report, ledger);
}

}  // namespace tidegate::simulation
