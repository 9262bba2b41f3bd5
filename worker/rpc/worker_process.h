#pragma once
// A worker, wired: joins the scheduler, builds the model, connects to the servers, and carries out what
// its agent (worker/pipeline/worker_agent.h) says until the job ends. Run() blocks; RequestStop may be
// called from any thread (a signal watcher's).

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "common/metrics/metrics.h"
#include "common/rpc/member_link.h"
#include "worker/pipeline/work_runner.h"

namespace tidegate {

class ClusterClient;

class WorkerProcess {
 public:
  struct Options {
    std::string scheduler;            // host:port
    std::string name;
    uint64_t config_fingerprint = 0;  // 0: take whatever job the scheduler has
    int join_timeout_s = 60;
    int scheduler_timeout_s = 600;    // without an answer of its; 0: for ever
    int compute_threads = 0;          // 0: cores / workers, at least 1
  };

  explicit WorkerProcess(Options options);
  ~WorkerProcess();

  // OK: the job finished. CANCELLED: RequestStop. Others: what went wrong, here or with the job.
  absl::Status Run();
  void RequestStop();
  // A source of the process's metrics.
  void AddMetrics(MetricsPage& page);

 private:
  enum class Ended { kFinished, kRejoin };
  struct Session;  // one incarnation

  absl::StatusOr<Ended> RunIncarnation();
  absl::Status AwaitRouting(Session* session);
  absl::StatusOr<Ended> Converse(Session* session);
  absl::Status DoWork(Session* session);
  void FillHeartbeat(Session* session, HeartbeatRequest* request);

  const Options options_;
  std::atomic<bool> stop_{false};
  std::mutex mu_;
  std::shared_ptr<Session> session_;  // guarded by mu_
};

}  // namespace tidegate
