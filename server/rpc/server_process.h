#pragma once
// A server from its start to its end: listens, joins the scheduler's job, does its commands, serves shards,
// and says how it ended. Main only reads flags. The data plane goes on while the scheduler is gone.
// Run on one thread; Stop from any.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/file_system.h"

namespace tidegate {

struct ServerOptions {
  std::string scheduler;                // host:port
  std::string listen = "127.0.0.1:0";
  std::string advertise;                // host or host:port that workers use; empty: as listened
  bool insecure_bind = false;
  std::string name;
  int executors = 0;                    // 0: one per core
  uint64_t memory_limit_bytes = 0;      // of tables; 0: none
  std::string zone;                     // failure domain; empty: none
  uint64_t fill_rate_limit_mbps = 0;    // megabits a second for filling replicas; 0: no limit
  int digest_interval_s = 60;           // between comparisons of replicas; 0: never
  std::string metrics_host = "127.0.0.1";
  int metrics_port = 0;                 // 0: any free one; negative: none
  int join_timeout_s = 60;
  int scheduler_timeout_s = 600;        // without an answer of its; 0: for ever
  // Called once Run knows what it will return, before it ends the service and the threads. May be empty.
  std::function<void(int exit_code)> before_shutdown;
};

class ServerProcess {
 public:
  // `files` outlives this.
  ServerProcess(ServerOptions options, FileSystem* files);
  ~ServerProcess();

  // Blocks until the job has ended or Stop was called; returns the exit code (common/exit_codes.h).
  int Run();
  // Leaves the job; Run returns 128 + signal.
  void Stop(int signal);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidegate
