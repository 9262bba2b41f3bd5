// Every change of every row of every shard is accounted for: after each call into a group its rows are read,
// and must have changed by what the pushes of that call were to change, each push once, and by nothing else.
// At staleness 0 a clock is applied once, as the sum over its contributors divided by their weight.

#include <cmath>

#include "absl/strings/str_cat.h"
#include "tests/simulation/ledger.h"

namespace tidegate::simulation {
namespace {

constexpr double kSparseRate = 0.5;  // of the SGD part
constexpr double kTolerance = 2e-3;

class ExactlyOnceChecker final : public Checker {
 public:
  ExactlyOnceChecker(const Plan* plan, Report* report, Ledger* ledger)
      : Checker("exactly_once", plan, report), ledger_(ledger) {}

  void OnPushIssued(TimeMs now, const PushIssued& push) override {
    if (ledger_->Add(push)) return;
    Fail(now, absl::StrCat("worker ", push.worker, " pushes twice at clock ", push.clock));
  }

  void OnPushSent(TimeMs now, Incarnation worker, Sequence sequence, Clock clock) override {
    ledger_->AddSequence(worker, sequence, clock);
  }

  void OnPushAcknowledged(TimeMs now, Incarnation worker, uint64_t number) override {
    Ledger::Entry& entry = ledger_->pushes.at({worker, number});
    const Clock clock = entry.push.clock;
    entry.acknowledged = true;
    for (const auto& [row, gradient] : entry.push.gradients) {
      if (entry.applied.contains(row)) continue;
      Fail(now, absl::StrCat("worker ", worker, "'s push of clock ", clock, " is acknowledged, but not applied to key ",
                             row.second, " of table ", row.first));
    }
  }

  void OnWorkerGone(TimeMs now, Incarnation worker, bool failed) override {
    if (failed) ledger_->workers_failed = true;
  }

  void OnGroupCall(const GroupCall& call) override {
    ledger_->applied_now.clear();
    Group& group = groups_[call.where()];
    if (call.kind == GroupCall::kLearningRate) group.rate_scale = call.learning_rate_scale;
    if (call.group->tables() == 0) return;
    if (group.rows.empty()) FindRows(*call.group, &group);
    Gradients expected;
    if (plan_->synchronous) {
      FollowContributions(call, &group);
      if (plan_->drop_slowest > 0) FollowDecisions(call, &group);
      for (Clock c = call.released_before + 1; c <= call.group->released_clock(); ++c) {
        ExpectUpdate(call, &group, c, &expected);
      }
    } else if (call.kind == GroupCall::kPush) {
      ExpectPush(call, group, &expected);
    }
    CompareRows(call, &group, expected);
    CheckDigest(call, &group);
  }

  void OnEnd(TimeMs now) override {
    if (ledger_->workers_failed || ledger_->contributors.empty()) return;
    const auto& first = ledger_->contributors.begin()->second;
    for (const auto& [where, by_clock] : ledger_->contributors) {
      if (by_clock == first) continue;
      Fail(now, absl::StrCat("server ", where.first, " strand ", where.second,
                             " updated with other contributors than the others, though no worker failed"));
    }
  }

 private:
  struct Contribution {
    uint32_t parts = 1;
    double weight = 0;
    uint64_t number = 0;
    std::map<uint32_t, std::set<RowAt>> rows;  // by part
  };
  struct Group {
    std::map<TableId, std::vector<Key>> rows;  // what may exist here
    std::map<TableId, std::vector<float>> values;
    std::map<std::pair<Clock, Incarnation>, Contribution> pending;  // staleness 0
    std::map<Incarnation, uint64_t> orders;
    std::map<Clock, std::set<Incarnation>> told;  // drop_slowest: whose pushes count
    double rate_scale = 1;
    uint64_t calls = 0;
    uint64_t digest = 0;
    bool has_digest = false;
  };

  void FindRows(const ShardGroup& shards, Group* group) {
    for (TableId table = 0; table < shards.tables(); ++table) {
      std::vector<Key>& keys = group->rows[table];
      for (Key key : KeysOf(table, !plan_->synchronous)) {
        if (shards.table(table).LocalOfKey(key) != TableGroup::kNotLocal) keys.push_back(key);
      }
      std::vector<float>& values = group->values[table];
      values.resize(keys.size() * WidthOf(table));
      if (keys.empty()) continue;
      shards.table(table).Gather(PackedSpan<Key>(keys.data(), keys.size()), {}, FLOAT32, {},
                                 std::as_writable_bytes(std::span(values)).data());
    }
  }

  Ledger::Entry& EntryOf(const wire::PushRequest& push) {
    return ledger_->EntryOf(push.stamp.incarnation, push.sequence);
  }

  // The rows of a message that are this strand's, checked against what its worker issued.
  std::set<RowAt> RowsOf(const GroupCall& call) {
    std::set<RowAt> out;
    const auto& push = std::get<wire::PushRequest>(call.call->request);
    const Ledger::Entry& entry = EntryOf(push);
    if (entry.push.clock != push.clock || entry.push.weight != push.weight) {
      Fail(call.now, absl::StrCat("sequence ", push.sequence, " of worker ", push.stamp.incarnation,
                                  " differs between attempts"));
    }
    for (const auto& table : push.tables) {
      const size_t width = WidthOf(table.table);
      const PackedSpan<float> values(table.values);
      for (size_t i = 0; i < table.keys.size(); ++i) {
        const RowAt row{table.table, table.keys[i]};
        const auto issued = entry.push.gradients.find(row);
        bool same = issued != entry.push.gradients.end();
        for (size_t j = 0; same && j < width; ++j) same = issued->second[j] == values[i * width + j];
        if (!same) {
          Fail(call.now, absl::StrCat("worker ", push.stamp.incarnation, "'s push of clock ", push.clock,
                                      " arrives with another content for key ", row.second));
        }
        if (call.group->table(table.table).LocalOfKey(row.second) != TableGroup::kNotLocal) out.insert(row);
      }
    }
    return out;
  }

  static const PushDone* DoneOf(const GroupCall& call) {
    for (const PushDone& done : call.effects->pushes) {
      if (done.token == call.call->token) return &done;
    }
    return nullptr;
  }

  void ExpectPush(const GroupCall& call, const Group& group, Gradients* expected) {
    const auto& push = std::get<wire::PushRequest>(call.call->request);
    const std::set<RowAt> rows = RowsOf(call);
    const PushDone* done = DoneOf(call);
    if (done == nullptr) return Fail(call.now, "a push is neither applied nor refused");
    if (!done->status.ok() || !(push.weight > 0)) return;
    Ledger::Entry& entry = EntryOf(push);
    bool any = false;
    for (const RowAt& row : rows) {
      if (!entry.applied.insert(row).second) continue;
      any = true;
      AddUpdate(row, entry.push.gradients.at(row), push.weight, group.rate_scale, expected);
    }
    if (any) ledger_->applied_now.emplace_back(push.stamp.incarnation, push.clock);
  }

  static void AddUpdate(const RowAt& row, const std::vector<float>& gradient, double weight, double scale,
                        Gradients* expected) {
    std::vector<float>& change = (*expected)[row];
    change.resize(gradient.size());
    const double rate = (row.first == kSparse ? kSparseRate : 1.0) * scale;
    for (size_t j = 0; j < gradient.size(); ++j) {
      const bool sum = row.first == kSparse && j < kSumDim;
      change[j] += sum ? gradient[j] : static_cast<float>(-rate * gradient[j] / weight);
    }
  }

  // ---- staleness 0 ----

  void FollowContributions(const GroupCall& call, Group* group) {
    if (call.kind == GroupCall::kWorkers) {
      const auto& live = call.workers->live();
      std::erase_if(group->pending, [&](const auto& held) {
        const Incarnation worker = held.first.second;
        return worker <= call.workers->last_incarnation() &&
               std::find(live.begin(), live.end(), worker) == live.end();
      });
    } else if (call.kind == GroupCall::kAnnounce) {
      const auto& clock = std::get<wire::ClockRequest>(call.call->request);
      uint64_t& order = group->orders[clock.stamp.incarnation];
      const bool accepted = !call.effects->clocks.empty() && call.effects->clocks[0].status.ok();
      if (!accepted || clock.order + 1 <= order) return;
      order = clock.order + 1;
      if (clock.kind != wire::ClockRequest::Kind::kPark) return;
      std::erase_if(group->pending,
                    [&](const auto& held) { return held.first.second == clock.stamp.incarnation; });
    } else if (call.kind == GroupCall::kPush) {
      const auto& push = std::get<wire::PushRequest>(call.call->request);
      if (push.asks) return;
      const std::set<RowAt> rows = RowsOf(call);
      const PushDone* done = DoneOf(call);
      if (push.clock <= call.released_before || (done != nullptr && !done->status.ok())) return;
      Contribution& held = group->pending[{push.clock, push.stamp.incarnation}];
      held.parts = std::max<uint32_t>(1, push.parts);
      held.weight = push.weight;
      held.number = EntryOf(push).push.number;
      held.rows[push.part] = rows;
    }
  }

  // By what a strand has heard first; the one that decides, alone, needs not be told.
  void FollowDecisions(const GroupCall& call, Group* group) {
    if (call.group->Leads(0)) {
      for (Clock c = call.released_before + 1; c <= call.group->DecidedClock(); ++c) {
        const auto who = call.group->ContributorsOf(c);
        group->told.try_emplace(c, who.begin(), who.end());
      }
    }
    if (call.kind != GroupCall::kAnnounce || call.effects->clocks.empty() || !call.effects->clocks[0].status.ok()) return;
    const auto& request = std::get<wire::ClockRequest>(call.call->request);
    for (const wire::ClosedClock& closed : request.closed) {
      group->told.try_emplace(closed.clock, closed.contributors.begin(), closed.contributors.end());
    }
  }

  void ExpectUpdate(const GroupCall& call, Group* group, Clock clock, Gradients* expected) {
    std::set<Incarnation>& contributors = ledger_->contributors[call.where()][clock];
    double weight = 0;
    auto it = group->pending.lower_bound({clock, 0});
    const auto begin = it;
    Gradients sums;
    for (; it != group->pending.end() && it->first.first == clock; ++it) {
      const Incarnation worker = it->first.second;
      if (plan_->drop_slowest > 0 && !group->told[clock].contains(worker)) continue;
      if (it->second.rows.size() != it->second.parts) {
        Fail(call.now, absl::StrCat("clock ", clock, " is applied with a part of worker ", worker, "'s push"));
      }
      contributors.insert(worker);
      weight += it->second.weight;
      Ledger::Entry& entry = ledger_->pushes.at({worker, it->second.number});
      ledger_->applied_now.emplace_back(worker, clock);
      if (entry.dropped) Fail(call.now, absl::StrCat("clock ", clock, " of worker ", worker, " is applied, and was dropped"));
      for (const auto& [part, rows] : it->second.rows) {
        for (const RowAt& row : rows) {
          if (!entry.applied.insert(row).second) {
            Fail(call.now, absl::StrCat("clock ", clock, " of worker ", worker, " is applied again"));
          }
          const std::vector<float>& gradient = entry.push.gradients.at(row);
          std::vector<float>& sum = sums[row];
          sum.resize(gradient.size());
          for (size_t j = 0; j < gradient.size(); ++j) sum[j] += gradient[j];
        }
      }
    }
    group->pending.erase(begin, it);
    for (const auto& [row, sum] : sums) AddUpdate(row, sum, weight, group->rate_scale, expected);
  }

  // ---- rows ----

  void CompareRows(const GroupCall& call, Group* group, const Gradients& expected) {
    for (auto& [table, keys] : group->rows) {
      if (keys.empty()) continue;
      const size_t width = WidthOf(table);
      std::vector<float>& before = group->values[table];
      std::vector<float> after(before.size());
      call.group->table(table).Gather(PackedSpan<Key>(keys.data(), keys.size()), {}, FLOAT32, {},
                                      std::as_writable_bytes(std::span(after)).data());
      for (size_t i = 0; i < keys.size(); ++i) {
        const auto change = expected.find({table, keys[i]});
        for (size_t j = 0; j < width; ++j) {
          const size_t at = i * width + j;
          const double want = change == expected.end() ? 0 : change->second[j];
          const bool exact = change == expected.end() || (table == kSparse && j < kSumDim);
          const double got = static_cast<double>(after[at]) - before[at];
          if (exact ? got == want : std::abs(got - want) < kTolerance) continue;
          Fail(call.now, absl::StrCat("server ", call.server, " strand ", call.strand, ": element ", j, " of key ",
                                      keys[i], " of table ", table, " changed by ", got, ", not by ", want, Origin(call)));
        }
      }
      before = std::move(after);
    }
  }

  static std::string Origin(const GroupCall& call) {
    if (call.kind != GroupCall::kPush) return absl::StrCat(" (in a call of kind ", call.kind, ")");
    const auto& push = std::get<wire::PushRequest>(call.call->request);
    return absl::StrCat(" (push of worker ", push.stamp.incarnation, ", clock ", push.clock, ", sequence ",
                        push.sequence, ")");
  }

  // A pull leaves the whole content as it is, headers and slots included.
  void CheckDigest(const GroupCall& call, Group* group) {
    const bool was = group->has_digest;
    const uint64_t before = group->digest;
    group->has_digest = (++group->calls % 16) == 0;
    if (!group->has_digest && !(was && call.kind == GroupCall::kPull)) return;
    group->digest = call.group->Digest();
    if (was && call.kind == GroupCall::kPull && group->digest != before) {
      Fail(call.now, "a pull changed the digest");
    }
  }

  Ledger* const ledger_;
  std::map<std::pair<int, int>, Group> groups_;
};

}  // namespace

bool Ledger::Add(const PushIssued& push) {
  pushes[{push.worker, push.number}].push = push;
  auto [newest, added] = newest_of_clock.try_emplace({push.worker, push.clock}, push.number);
  const bool under_way = !added && !pushes.at({push.worker, newest->second}).acknowledged;
  newest->second = push.number;
  return !under_way;
}

void Ledger::AddSequence(Incarnation worker, Sequence sequence, Clock clock) {
  number_of_sequence.try_emplace({worker, sequence}, newest_of_clock.at({worker, clock}));
}

std::unique_ptr<Checker> MakeExactlyOnceChecker(const Plan* plan, Report* report, Ledger* ledger) {
  return std::make_unique<ExactlyOnceChecker>(plan, report, ledger);
}

}  // namespace tidegate::simulation
