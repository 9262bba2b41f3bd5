// Who speaks for a shard, across failovers: one primary acknowledges in each of its epochs; no pull is read from a
// deposed primary once its successor has acknowledged a push; and after a pull with bound b was released at any of
// its primaries, no push of clock b or below is applied to it.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/stable_hash.h"
#include "tests/simulation/ledger.h"

namespace tidegate::simulation {
namespace {

class FailoverChecker final : public Checker {
 public:
  FailoverChecker(const Plan* plan, Report* report, const Ledger* ledger)
      : Checker("failover", plan, report), ledger_(ledger) {
    while ((1u << log2_shards_) < plan->shards) ++log2_shards_;
  }

  void OnServerGone(TimeMs now, Incarnation server) override {
    std::erase_if(open_, [&](const auto& open) { return std::get<0>(open.first) == server; });
  }

  void OnGroupCall(const GroupCall& call) override {
    if (call.routing == nullptr) return;
    for (const auto& [shard, clock] : ledger_->shards_applied_now) {
      const Epoch epoch = call.routing->ShardEpoch(shard);
      for (const auto& [released_in, bound] : released_[shard]) {
        if (released_in > epoch || clock > bound) continue;
        Fail(call.now, absl::StrCat("server ", call.incarnation, " applies clock ", clock, " to shard ", shard,
                                    " in its epoch ", epoch, ", after a pull with bound ", bound,
                                    " was released in epoch ", released_in));
      }
    }
    Open(call);
    for (const PushDone& done : call.effects->pushes) Acknowledged(call, done);
    for (const PullDone& done : call.effects->pulls) Released(call, done);
    if (call.kind == GroupCall::kCancel) open_.erase({call.incarnation, call.strand, call.call->token});
  }

 private:
  struct Call {
    std::set<ShardId> shards;
    Clock bound = kNoBound;
  };

  // Shards of the strand that a message is about.
  void Open(const GroupCall& call) {
    if (call.call == nullptr || (call.kind != GroupCall::kPull && call.kind != GroupCall::kPush)) return;
    Call& open = open_[{call.incarnation, call.strand, call.call->token}];
    const auto add = [&](TableId table, PackedSpan<Key> keys) {
      for (size_t i = 0; i < keys.size(); ++i) {
        const Key key = keys[i];
        const ShardId shard = ShardOfHash(PlacementHash(table, key), log2_shards_);
        const auto shards = call.group->shards();
        if (std::find(shards.begin(), shards.end(), shard) != shards.end()) open.shards.insert(shard);
      }
    };
    if (const auto* pull = std::get_if<wire::PullRequest>(&call.call->request)) {
      if (!pull->eval && pull->stamp.incarnation != 0) open.bound = pull->bound;
      for (const wire::TableKeys& table : pull->tables) add(table.table, table.keys);
    } else {
      for (const auto& table : std::get<wire::PushRequest>(call.call->request).tables) add(table.table, table.keys);
    }
  }

  template <typename Done>
  bool Take(const GroupCall& call, const Done& done, Call* out) {
    auto found = open_.extract({call.incarnation, call.strand, done.token});
    if (found.empty() || !done.status.ok()) return false;
    *out = std::move(found.mapped());
    for (ShardId shard : done.refused_shards) out->shards.erase(shard);
    return true;
  }

  void Acknowledged(const GroupCall& call, const PushDone& done) {
    Call push;
    if (!Take(call, done, &push)) return;
    for (ShardId shard : push.shards) {
      const Epoch epoch = call.routing->ShardEpoch(shard);
      const Incarnation first = acknowledger_.try_emplace({shard, epoch}, call.incarnation).first->second;
      newest_[shard] = std::max(newest_[shard], epoch);
      if (first == call.incarnation) continue;
      Fail(call.now, absl::StrCat("servers ", first, " and ", call.incarnation, " both acknowledge pushes to shard ",
                                  shard, " in its epoch ", epoch));
    }
  }

  void Released(const GroupCall& call, const PullDone& done) {
    Call pull;
    if (!Take(call, done, &pull)) return;
    for (ShardId shard : pull.shards) {
      const Epoch epoch = call.routing->ShardEpoch(shard);
      if (epoch < newest_[shard]) {
        Fail(call.now, absl::StrCat("server ", call.incarnation, " answers a pull of shard ", shard, " by its epoch ",
                                    epoch, ", after a push was acknowledged in epoch ", newest_[shard]));
      }
      if (pull.bound == kNoBound) continue;
      if (plan_->synchronous && call.group->AppliedClock(shard) < pull.bound) {
        Fail(call.now, absl::StrCat("server ", call.incarnation, " releases a pull with bound ", pull.bound,
                                    " where shard ", shard, " is at clock ", call.group->AppliedClock(shard)));
      }
      Clock& released = released_[shard].try_emplace(epoch, pull.bound).first->second;
      released = std::max(released, pull.bound);
    }
  }

  const Ledger* const ledger_;
  int log2_shards_ = 0;
  std::map<std::tuple<Incarnation, int, CallToken>, Call> open_;  // not answered
  std::map<std::pair<ShardId, Epoch>, Incarnation> acknowledger_;
  std::map<ShardId, Epoch> newest_;                               // in which a push was acknowledged
  std::map<ShardId, std::map<Epoch, Clock>> released_;            // highest bound, by the shard's epoch
};

}  // namespace

std::unique_ptr<Checker> MakeFailoverChecker(const Plan* plan, Report* report, const Ledger* ledger) {
  return std::make_unique<FailoverChecker>(plan, report, ledger);
}

}  // namespace tidegate::simulation
