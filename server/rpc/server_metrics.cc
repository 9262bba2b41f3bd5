#include "server/rpc/server_metrics.h"

#include <vector>

namespace tidegate {

void WriteServerMetrics(const ShardEngine::Statistics& statistics, uint64_t memory_limit_bytes,
                        MetricsPage& page) {
  const ShardMetrics& shards = statistics.shards;
  for (const auto& table : statistics.tables) {
    const MetricLabels labels = {{"table", table.name}};
    page.Gauge("tidegate_server_rows", "Rows held", static_cast<double>(table.rows), labels);
    page.Gauge("tidegate_server_table_bytes", "Memory of rows and their index",
               static_cast<double>(table.bytes), labels);
  }
  const auto counter = [&](const char* name, const char* help, uint64_t value) {
    page.Counter(name, help, static_cast<double>(value));
  };
  counter("tidegate_server_pulled_rows_total", "Rows answered to pulls", shards.pulled_rows);
  counter("tidegate_server_pushed_rows_total", "Gradient rows applied", shards.pushed_rows);
  counter("tidegate_server_duplicate_rows_total", "Gradient rows of repeated pushes, not applied",
          shards.duplicate_rows);
  counter("tidegate_server_duplicate_pushes_total", "Repeated pushes", shards.duplicate_pushes);
  counter("tidegate_server_parked_pulls_total", "Pulls that waited for a clock",
          shards.pulls_parked);
  counter("tidegate_server_replaced_pulls_total", "Waiting pulls replaced by their retry",
          shards.pulls_replaced);
  counter("tidegate_server_applied_clocks_total", "Clocks applied, over strands (staleness 0)",
          shards.clocks_applied);
  counter("tidegate_server_swept_rows_total", "Rows evicted", shards.swept_rows);
  counter("tidegate_server_pulls_without_grant_total", "Pulls refused because a backup's grant had run out",
          shards.pulls_without_grant);
  counter("tidegate_replica_digest_mismatches_total", "Shards whose copy here was found unlike its primary's",
          shards.digest_mismatches);
  const auto refused = [&](const char* reason, uint64_t value) {
    page.Counter("tidegate_server_refused_pushes_total", "Pushes refused whole, by reason",
                 static_cast<double>(value), {{"reason", reason}});
  };
  const RefusedMessages& messages = statistics.refused;
  refused("generation", shards.pushes_refused_generation);
  refused("rejoin", shards.pushes_refused_rejoin);
  refused("routing", shards.pushes_refused_routing);
  refused("memory", shards.pushes_refused_memory);
  refused("other", shards.pushes_refused_other);
  refused("unknown_table", messages.unknown_table);
  refused("shape", messages.shape);
  refused("non_finite", messages.non_finite);
  refused("header", messages.header);
  counter("tidegate_server_malformed_messages_total", "Messages that could not be read",
          messages.malformed);
  counter("tidegate_server_too_large_messages_total", "Messages above the job's limit",
          messages.too_large);
  const auto gauge = [&](const char* name, const char* help, double value) {
    page.Gauge(name, help, value);
  };
  gauge("tidegate_server_parked_pulls", "Pulls waiting for a clock",
        static_cast<double>(statistics.parked_pulls));
  gauge("tidegate_server_held_pushes", "Contributions waiting for their clock (staleness 0)",
        static_cast<double>(statistics.held_pushes));
  gauge("tidegate_server_sessions", "Worker sessions", static_cast<double>(statistics.sessions));
  gauge("tidegate_server_shards", "Shards served", static_cast<double>(statistics.led_shards));
  gauge("tidegate_server_followed_shards", "Replicas of shards that other servers serve",
        static_cast<double>(statistics.shard_count - statistics.led_shards));
  gauge("tidegate_server_routing_epoch", "Epoch of the routing table",
        static_cast<double>(statistics.epoch));
  gauge("tidegate_server_released_clock", "Clock that pulls are released by",
        static_cast<double>(statistics.released_clock));
  gauge("tidegate_server_memory_used_bytes", "Memory of all tables",
        static_cast<double>(statistics.memory_used_bytes));
  gauge("tidegate_server_memory_limit_bytes", "--memory_limit_bytes, 0: none",
        static_cast<double>(memory_limit_bytes));
  std::vector<double> bounds;
  double sum = 0;
  for (size_t i = 0; i < ShardMetrics::kStalenessBuckets; ++i) {
    if (i + 1 < ShardMetrics::kStalenessBuckets) bounds.push_back(static_cast<double>(i));
    sum += static_cast<double>(i) * static_cast<double>(shards.staleness[i]);
  }
  page.Histogram("tidegate_server_pull_staleness_clocks",
                 "Staleness that answered training pulls had, over strands", bounds,
                 shards.staleness, sum);
}

void WriteReplicationMetrics(const Replication::Statistics& statistics, MetricsPage& page) {
  const auto counter = [&](const char* name, const char* help, uint64_t value) {
    page.Counter(name, help, static_cast<double>(value));
  };
  const auto gauge = [&](const char* name, const char* help, uint64_t value) {
    page.Gauge(name, help, static_cast<double>(value));
  };
  counter("tidegate_replica_records_total", "Records of the log, to followers", statistics.records);
  counter("tidegate_replica_record_bytes_total", "Their bytes", statistics.record_bytes);
  counter("tidegate_replica_fill_bytes_total", "Rows sent to fill replicas", statistics.fill_bytes);
  counter("tidegate_replica_applied_records_total", "Records taken from other servers' logs", statistics.applied_records);
  counter("tidegate_replica_refused_grants_total", "Keep-alives of primaries with an older table", statistics.refused_grants);
  counter("tidegate_replica_streams_total", "Streams to followers opened, failed ones included", statistics.links.streams);
  gauge("tidegate_replica_followers", "Servers that follow this one", statistics.links.followers);
  gauge("tidegate_replica_unacknowledged_records", "Records that followers have not acknowledged",
        statistics.links.unacknowledged_records);
  gauge("tidegate_replica_unacknowledged_bytes", "Their bytes", statistics.links.unacknowledged_bytes);
}

ServerLoad ToServerLoad(const ShardEngine::Statistics& statistics) {
  ServerLoad load;
  for (const auto& table : statistics.tables) {
    TableLoad* out = load.add_tables();
    out->set_name(table.name);
    out->set_rows(table.rows);
    out->set_bytes(table.bytes);
    load.set_rows(load.rows() + table.rows);
    load.set_bytes(load.bytes() + table.bytes);
  }
  load.set_pulled_rows_total(statistics.shards.pulled_rows);
  load.set_pushed_rows_total(statistics.shards.pushed_rows);
  load.set_refused_pushes_total(statistics.shards.pushes_refused() + statistics.refused.pushes);
  for (uint64_t count : statistics.shards.staleness) load.add_staleness_histogram(count);
  for (const ShardLoad& shard : statistics.shard_loads) {
    load.mutable_shards()->add_shard(shard.shard);
    load.mutable_shards()->add_rows_total(shard.rows_total);
    load.mutable_shards()->add_bytes(shard.bytes);
  }
  return load;
}

}  // namespace tidegate
