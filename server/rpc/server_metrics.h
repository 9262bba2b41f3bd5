#pragma once
// A server's counters as Prometheus metrics and as the load of its heartbeats.

#include "common/metrics/metrics.h"
#include "proto/cluster.pb.h"
#include "server/rpc/replication.h"
#include "server/rpc/shard_engine.h"

namespace tidegate {

void WriteServerMetrics(const ShardEngine::Statistics& statistics, uint64_t memory_limit_bytes,
                        MetricsPage& page);
void WriteReplicationMetrics(const Replication::Statistics& statistics, MetricsPage& page);
ServerLoad ToServerLoad(const ShardEngine::Statistics& statistics);

}  // namespace tidegate
