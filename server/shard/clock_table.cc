#include "server/shard/clock_table.h"

#include <algorithm>

namespace tidegate {
namespace {

constexpr size_t kReachMax = 64;

}  // namespace

std::vector<Incarnation> ClockTable::SetWorkers(const WorkerSet& workers) {
  std::vector<Incarnation> removed;
  if (workers.version() <= set_version_) return removed;
  set_version_ = workers.version();
  last_incarnation_ = std::max<Incarnation>(last_incarnation_, workers.last_incarnation());
  if (reach_.size() == kReachMax) reach_.erase(reach_.begin());
  reach_.emplace_back(set_version_, last_incarnation_);
  set_live_.assign(workers.live().begin(), workers.live().end());
  std::sort(set_live_.begin(), set_live_.end());
  for (auto it = workers_.begin(); it != workers_.end();) {
    if (IsRemoved(it->first)) {
      removed.push_back(it->first);
      it = workers_.erase(it);
    } else {
      ++it;
    }
  }
  RaiseMinimum();
  return removed;
}

bool ClockTable::IsRemoved(Incarnation worker) const {
  return worker <= last_incarnation_ &&
         !std::binary_search(set_live_.begin(), set_live_.end(), worker);
}

bool ClockTable::IsUnknown(Incarnation worker) const { return worker > last_incarnation_; }

bool ClockTable::IsLive(Incarnation worker) const {
  auto it = workers_.find(worker);
  return it != workers_.end() && it->second.live;
}

bool ClockTable::AnyLive() const {
  return std::any_of(workers_.begin(), workers_.end(), [](const auto& w) { return w.second.live; });
}

bool ClockTable::Announce(Incarnation id, const wire::ClockRequest& request, Clock released) {
  using Kind = wire::ClockRequest::Kind;
  Worker& worker = workers_[id];
  const bool added = !worker.counted;
  if (added || request.order >= worker.order) worker.epoch = std::max(worker.epoch, request.stamp.epoch);
  if (!added && request.order <= worker.order) {
    if (awaits_) RaiseMinimum();
    return false;
  }
  worker.counted = true;
  worker.order = request.order;
  switch (request.kind) {
    case Kind::kHello:
      worker.live = true;
      worker.clock = released;
      worker.hello_answer = released;
      break;
    case Kind::kTick:
      // One that is live elsewhere, and was before this server led anything that it knew of.
      if (awaited_epoch_ > 0 && request.stamp.epoch >= awaited_epoch_) worker.live = true;
      if (worker.live) worker.clock = std::max(worker.clock, request.clock);
      break;
    case Kind::kPark:
      worker.live = false;
      break;
  }
  RaiseMinimum();
  return true;
}

bool ClockTable::LeaveForHello(Incarnation id, const wire::ClockRequest& request) {
  const auto it = workers_.find(id);
  if (request.kind != wire::ClockRequest::Kind::kHello || it == workers_.end()) return false;
  if (!it->second.live || request.order <= it->second.order) return false;
  it->second.live = false;
  RaiseMinimum();
  return true;
}

Clock ClockTable::AnswerTo(Incarnation id, const wire::ClockRequest& request,
                           Clock released) const {
  if (request.kind != wire::ClockRequest::Kind::kHello) return released;
  auto it = workers_.find(id);
  const bool newest = it != workers_.end() && it->second.order == request.order;
  return newest ? it->second.hello_answer : released;
}

void ClockTable::JoinAt(Incarnation id, uint64_t order, Clock clock) {
  auto it = workers_.find(id);
  if (it == workers_.end() || !it->second.live || it->second.order != order) return;
  it->second.clock = std::max(it->second.clock, clock);
  it->second.hello_answer = std::max(it->second.hello_answer, clock);
  RaiseMinimum();
}

void ClockTable::Hear(Incarnation id, Epoch epoch) {
  Worker& worker = workers_[id];
  worker.epoch = std::max(worker.epoch, epoch);
  RaiseMinimum();
}

void ClockTable::AwaitAll(Epoch epoch, uint64_t set_version, bool restart, Clock highest) {
  awaited_epoch_ = epoch;
  awaited_version_ = set_version;
  awaited_highest_ = highest;
  awaits_ = true;
  if (restart) minimum_ = start_;
  RaiseMinimum();
}

bool ClockTable::AllAnnounced() const {
  if (set_version_ < awaited_version_) return false;
  const auto reach = std::find_if(reach_.begin(), reach_.end(),
                                  [this](const auto& r) { return r.first >= awaited_version_; });
  const Incarnation last = reach == reach_.end() ? last_incarnation_ : reach->second;
  return std::all_of(set_live_.begin(), set_live_.end(), [&](Incarnation id) {
    if (id > last) return true;
    const auto it = workers_.find(id);
    return it != workers_.end() && it->second.epoch >= awaited_epoch_;
  });
}

void ClockTable::RaiseMinimum() {
  if (awaits_ && !AllAnnounced()) return;
  bool any = false;
  Clock lowest = 0;
  for (const auto& [id, worker] : workers_) {
    if (!worker.live) continue;
    lowest = any ? std::min(lowest, worker.clock) : worker.clock;
    any = true;
  }
  if (awaits_ && !any) minimum_ = std::max(minimum_, awaited_highest_);
  awaits_ = false;
  if (any) minimum_ = std::max(minimum_, lowest);
}

}  // namespace tidegate
