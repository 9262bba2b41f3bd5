#include "cli/chaos/accounting_workload.h"

#include <algorithm>
#include <map>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/clock.h"

namespace tidegate::cli {
namespace {

constexpr TimeMs kInFlightMs = 20;  // what was acknowledged before a fault has arrived by then
constexpr int kDrainTimeoutS = 60;
constexpr size_t kKeysPerShard = 16;

}  // namespace

Recovery RecoveryOfPushes(std::span<const AccountingWorker::Acknowledgement> by_time, const FaultReach& reach, TimeMs since) {
  Recovery out;
  std::set<ShardId> left = reach.led;
  TimeMs elsewhere = since;  // the newest there
  for (const auto& acknowledgement : by_time) {
    if (left.empty()) break;
    const TimeMs after = acknowledgement.at - since;
    if (after < 0) continue;
    if (reach.untouched.contains(acknowledgement.shard)) {
      out.elsewhere_ms = std::max(out.elsewhere_ms, acknowledgement.at - elsewhere);
      elsewhere = acknowledgement.at;
    } else if (after >= kInFlightMs && left.erase(acknowledgement.shard) > 0) {
      if (out.first_ms < 0) out.first_ms = after;
      out.all_ms = after;
    }
  }
  if (!left.empty()) {
    out.waits_for = absl::StrCat("a push to shard ", *left.begin(), " and ", left.size() - 1, " others to be acknowledged");
    return out;
  }
  out.done = true;
  if (!reach.untouched.empty()) out.elsewhere_ms = std::max(out.elsewhere_ms, since + out.all_ms - elsewhere);
  return out;
}

TimeMs LongestGapOfPushes(std::span<const AccountingWorker::Acknowledgement> by_time, const std::set<ShardId>& shards, TimeMs since,
                          TimeMs until) {
  TimeMs longest = 0;
  std::map<ShardId, TimeMs> newest;
  for (const ShardId shard : shards) newest[shard] = since;
  for (const auto& acknowledgement : by_time) {
    const auto it = newest.find(acknowledgement.shard);
    if (it == newest.end()) continue;
    longest = std::max(longest, acknowledgement.at - it->second);
    it->second = std::max(it->second, acknowledgement.at);
  }
  for (const auto& [shard, at] : newest) longest = std::max(longest, until - at);
  return longest;
}

absl::Status AccountingWorkload::Start() {
  std::vector<absl::Status> started(static_cast<size_t>(options_.workers));
  std::vector<std::thread> threads;
  for (int i = 0; i < options_.workers; ++i) {
    AccountingWorker::Options worker;
    worker.scheduler = options_.scheduler;
    worker.number = i;
    worker.seed = options_.seed;
    worker.keys_per_shard = kKeysPerShard;
    worker.tail_may_be_lost = options_.tail_may_be_lost;
    workers_.push_back(std::make_unique<AccountingWorker>(worker));
    threads.emplace_back([w = workers_.back().get(), s = &started[static_cast<size_t>(i)]] { *s = w->Start(); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : started) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status AccountingWorkload::Watch() {
  for (const auto& worker : workers_) {
    const auto taken = worker->TakeAcknowledgements();
    acknowledgements_.insert(acknowledgements_.end(), taken.begin(), taken.end());
    if (absl::Status s = worker->Health(); !s.ok()) return s;
  }
  return absl::OkStatus();
}

void AccountingWorkload::SortByTime() {
  std::sort(acknowledgements_.begin(), acknowledgements_.end(), [](const auto& a, const auto& b) { return a.at < b.at; });
}

TimeMs AccountingWorkload::LongestGap(const std::set<ShardId>& shards, TimeMs since) {
  SortByTime();
  return LongestGapOfPushes(acknowledgements_, shards, since, RealClock().NowMs());
}

void AccountingWorkload::ExpectFault() { acknowledgements_.clear(); }

Recovery AccountingWorkload::RecoveryOf(const FaultReach& reach, TimeMs since) {
  SortByTime();
  return RecoveryOfPushes(acknowledgements_, reach, since);
}

absl::StatusOr<bool> AccountingWorkload::Audit() {
  for (const auto& worker : workers_) {
    if (absl::Status s = worker->Drain(kDrainTimeoutS); !s.ok()) return s;
  }
  for (const auto& worker : workers_) {
    if (absl::Status s = worker->Audit(kDrainTimeoutS); !s.ok()) return s;
    rows_ += static_cast<uint64_t>(options_.shards) * kKeysPerShard;
  }
  return true;
}

void AccountingWorkload::Stop() {
  for (const auto& worker : workers_) worker->Stop();
}

AccountingWorkload::Totals AccountingWorkload::totals() const {
  Totals out;
  for (const auto& worker : workers_) {
    out.pushes += worker->counts().pushes;
    out.checks += worker->counts().checks;
    out.lost += worker->counts().lost;
  }
  out.rows = rows_;
  return out;
}

}  // namespace tidegate::cli
