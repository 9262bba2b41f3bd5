#include "scheduler/shard_rates.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tidegate {
namespace {

constexpr double kMemoryMs = 5000;     // after which a report counts 1/e
constexpr TimeMs kWindowMsMin = 500;
constexpr uint32_t kWindowsMin = 3;
constexpr TimeMs kSilentMs = 5000;

Epoch LeadsSince(const RoutingTable& table, int shard) { return shard < table.shard_epoch_size() ? table.shard_epoch(shard) : 1; }

}  // namespace

void ShardRates::Take(TimeMs now, Incarnation server, const ShardLoads& loads, const RoutingTable& table) {
  const size_t shards = static_cast<size_t>(table.primary_size());
  sources_.resize(shards);
  rates_.resize(shards);
  seen_.resize(shards);
  for (int i = 0; i < std::min(loads.shard_size(), loads.rows_total_size()); ++i) {
    const ShardId shard = loads.shard(i);
    const int s = static_cast<int>(shard);
    if (shard >= shards || table.primary(s) != server) continue;
    Source& source = sources_[shard];
    const uint64_t rows = loads.rows_total(i);
    const Epoch since = LeadsSince(table, s);
    if (source.server != server || source.since != since || rows < source.rows) {
      source = {server, since, rows, now, 0};
      continue;
    }
    const TimeMs elapsed = now - source.at;
    if (elapsed < kWindowMsMin) continue;
    const double rate = 1000.0 * static_cast<double>(rows - source.rows) / static_cast<double>(elapsed);
    const double weight = seen_[shard] ? 1 - std::exp(-static_cast<double>(elapsed) / kMemoryMs) : 1;
    rates_[shard] += weight * (rate - rates_[shard]);
    seen_[shard] = true;
    source.rows = rows;
    source.at = now;
    ++source.windows;
  }
}

double ShardRates::total() const { return std::accumulate(rates_.begin(), rates_.end(), 0.0); }

bool ShardRates::Known(TimeMs now, const RoutingTable& table) const {
  if (sources_.empty() || sources_.size() != static_cast<size_t>(table.primary_size())) return false;
  for (int shard = 0; shard < table.primary_size(); ++shard) {
    const Source& source = sources_[static_cast<size_t>(shard)];
    if (source.server != table.primary(shard) || source.since != LeadsSince(table, shard) || source.windows < kWindowsMin ||
        now - source.at > kSilentMs) {
      return false;
    }
  }
  return true;
}

}  // namespace tidegate
