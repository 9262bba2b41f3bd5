#pragma once
// What a scheduler's process is told by its flags.

#include <string>
#include <vector>

#include "common/types.h"

namespace tidegate {

struct SchedulerProcessOptions {
  std::string config;                  // file: text format, or binary JobConfig (*.pb)
  std::vector<std::string> overrides;  // path=value
  std::string listen = "127.0.0.1:0";
  std::string advertise;
  bool insecure_bind = false;
  std::string state;           // folder, or etcd://...; empty: a new folder under ./tidegate-run
  std::string checkpoint_dir;  // empty: "checkpoints" in the state's folder
  bool fresh = false;          // start anew whatever checkpoint_dir holds
  bool members_gone = false;   // of a stored job: nothing of it lives, it goes on from its newest checkpoint
  std::string summary;         // file; empty: none
  std::string metrics_dir;     // folder of metrics.jsonl and event files; empty: none
  std::string address_file;    // gets HOST:PORT once it listens; empty: none
  TimeMs heartbeat_interval_ms = 250;
  TimeMs lease_ms = 3000;
  TimeMs level_after_ms = 10'000;  // 0: never
  double rebalance_load = 0;  // 0: never
  std::string metrics_host = "127.0.0.1";
  int metrics_port = 0;  // 0: any free one; negative: none
  std::string http_host = "127.0.0.1";
  int http_port = -1;  // of the status page; as above
  TimeMs restore_wait_ms = 0;  // a job that lost shards stands still for so long, for `tidegate restore`
  TimeMs leave_grace_ms = 10'000;  // after the end, for members to hear of it
  TimeMs store_patience_ms = 30'000;  // of a state that cannot be stored
  int64_t leader_ttl_s = 3;           // state in etcd: of the leader's lease
  TimeMs etcd_compaction_ms = 300'000;  // between two compactions; 0: none
  TimeMs etcd_patience_ms = 60'000;   // without any answer of etcd's, while it does not lead
};

}  // namespace tidegate
