#pragma once
// A whole scheduler: config, data, state, service, metrics, summary, until the job has ended. Stop may
// be called from any thread.

#include <atomic>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/file_system.h"
#include "common/types.h"

namespace tidegate {

class ClusterState;

struct SchedulerProcessOptions {
  std::string config;                  // file: text format, or binary JobConfig (*.pb)
  std::vector<std::string> overrides;  // path=value
  std::string listen = "127.0.0.1:0";
  std::string advertise;
  bool insecure_bind = false;
  std::string state;           // folder; empty: a new one under ./tidegate-run
  std::string checkpoint_dir;  // empty: "checkpoints" in the state's folder
  bool fresh = false;          // start anew whatever checkpoint_dir holds
  std::string summary;         // file; empty: none
  std::string metrics_dir;     // folder of metrics.jsonl and event files; empty: none
  std::string address_file;    // gets HOST:PORT once it listens; empty: none
  TimeMs heartbeat_interval_ms = 250;
  TimeMs lease_ms = 3000;
  std::string metrics_host = "127.0.0.1";
  int metrics_port = 0;  // 0: any free one; negative: none
  std::string http_host = "127.0.0.1";
  int http_port = -1;  // of the status page; as above
  TimeMs leave_grace_ms = 10'000;  // after the end, for members to hear of it
  TimeMs store_patience_ms = 30'000;  // of a state that cannot be stored
};

class SchedulerProcess {
 public:
  SchedulerProcess(SchedulerProcessOptions options, FileSystem* files)
      : options_(std::move(options)), files_(files) {}

  // Blocks until the end; the exit code (common/exit_codes.h).
  int Run();
  // Stops the job (members are told); Run returns 128 + signal.
  void Stop(int signal) { signal_ = signal; }

 private:
  int RunJob();
  int TellOfFinished(const ClusterState& core);

  const SchedulerProcessOptions options_;
  FileSystem* const files_;
  std::atomic<int> signal_{0};
};

}  // namespace tidegate
