// ShardEngine: what it counts, summed over its strands.

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>

#include "server/rpc/shard_engine.h"
#include "server/rpc/shard_engine_lane.h"

namespace tidegate {
namespace {

// ShardMetrics is counters only; summed as such, so that a new one is not forgotten here.
void AddMetrics(const ShardMetrics& from, ShardMetrics* to) {
  static_assert(std::is_trivially_copyable_v<ShardMetrics>);
  constexpr size_t kCounters = sizeof(ShardMetrics) / sizeof(uint64_t);
  static_assert(kCounters * sizeof(uint64_t) == sizeof(ShardMetrics));
  uint64_t a[kCounters], b[kCounters];
  std::memcpy(a, to, sizeof(a));
  std::memcpy(b, &from, sizeof(b));
  for (size_t i = 0; i < kCounters; ++i) a[i] += b[i];
  std::memcpy(static_cast<void*>(to), a, sizeof(a));
}

constexpr uint64_t ShardMetrics::*kRefusals[] = {
    &ShardMetrics::pushes_refused_generation, &ShardMetrics::pushes_refused_rejoin,
    &ShardMetrics::pushes_refused_routing, &ShardMetrics::pushes_refused_memory,
    &ShardMetrics::pushes_refused_other};

}  // namespace

void ShardEngine::AddStatistics(const Lane& lane, bool with_shards, Statistics* total) {
  const ShardGroup& group = *lane.group;
  ShardMetrics metrics = group.metrics();
  for (const auto refusal : kRefusals) metrics.*refusal = lane.refusals.*refusal;
  AddMetrics(metrics, &total->shards);
  total->parked_pulls += group.parked_pulls();
  total->held_pushes += group.held_pushes();
  total->sessions = std::max<uint64_t>(total->sessions, group.sessions());
  const Clock released = group.released_clock();
  total->released_clock = total->tables.empty() ? released : std::min(total->released_clock, released);
  total->tables.resize(std::max(total->tables.size(), group.tables()));
  for (TableId id = 0; id < group.tables(); ++id) {
    total->tables[id].name = group.table(id).layout().name();
    total->tables[id].rows += group.rows(id);
    total->tables[id].bytes += group.table(id).BytesUsed();
  }
  if (with_shards) group.AppendLoads(&total->shard_loads);
}

void ShardEngine::CollectThen(bool with_shards, std::function<void(Statistics)> done) {
  struct Collection {
    std::mutex mutex;
    Statistics total;
    size_t left;
    std::function<void(Statistics)> done;
  };
  auto all = std::make_shared<Collection>();
  all->done = std::move(done);
  all->left = lanes_.size();
  all->total.memory_used_bytes = budget_.used_bytes();
  const auto current = view();
  {
    std::lock_guard lock(mutex_);
    all->total.refused = refused_;
  }
  if (current == nullptr) return all->done(std::move(all->total));
  all->total.epoch = current->epoch;
  all->total.shard_count = current->own.size();
  all->total.led_shards = current->led.size();
  for (const auto& lane : lanes_) {
    lane->strand.Run([all, with_shards, lane = lane.get()] {
      {
        std::lock_guard lock(all->mutex);
        AddStatistics(*lane, with_shards, &all->total);
        if (--all->left > 0) return;
      }
      all->done(std::move(all->total));
    });
  }
}

ShardEngine::Statistics ShardEngine::Collect() {
  struct Wait {
    std::mutex mutex;
    std::condition_variable done;
    std::optional<Statistics> total;
  };
  auto wait = std::make_shared<Wait>();
  CollectThen(/*with_shards=*/false, [wait](Statistics total) {
    std::lock_guard lock(wait->mutex);
    wait->total = std::move(total);
    wait->done.notify_one();
  });
  std::unique_lock lock(wait->mutex);
  wait->done.wait(lock, [&] { return wait->total.has_value(); });
  return *std::move(wait->total);
}

}  // namespace tidegate
