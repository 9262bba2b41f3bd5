#pragma once
// A whole cluster on this machine as child processes: starts them, carries their output to the terminal,
// watches over them, ends them. The main thread calls; not thread-safe.
//
//   scheduler dies by a signal   it is started again on the same port with the same state, a few times
//   server dies                  with replicas it is started again, empty, a few times; without, the scheduler
//                                fails the job and we report it
//   worker dies                  reported; the job goes on with the others, and is stopped when none is left
//   a member dies at the start   the job is stopped: it would wait for that member
//   we die                       the children are killed by the kernel

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "cli/process.h"
#include "cli/status_client.h"
#include "cli/terminal.h"

namespace tidegate::cli {

struct LocalClusterOptions {
  std::string bin_dir;   // of tidegate-scheduler, tidegate-server, tidegate-worker
  std::string run_dir;   // state, logs, the address file and the summary go here
  std::string config;
  std::vector<std::string> sets;
  int servers = 1;
  int workers = 1;
  int external_workers = 0;    // that join by themselves
  std::string checkpoint_dir;  // empty: none
  bool fresh = false;          // start anew, whatever checkpoint_dir holds
  bool restart_servers = false;  // the job has replicas: a server that died comes back, empty
  int metrics_port = -1;       // -1: off; 0: free ports; N: scheduler N, then servers, then workers
  int http_port = -1;          // of the scheduler's page
  int profile_steps = 0;       // > 0: each process traces so many and writes a file in run_dir
  std::vector<std::string> scheduler_args;
  std::vector<std::string> server_args;
  std::vector<std::string> worker_args;
  int start_timeout_s = 30;    // until the scheduler listens
  int grace_s = 15;            // for members to end by themselves, and after SIGTERM
  int answer_timeout_s = 10;   // without a word of the scheduler, and without a worker, the job is stopped
  bool show_progress = true;
  bool say_watch = false;      // tell where the job can be watched
  std::function<int()> signals;  // how many signals to stop have come; empty: none ever
  bool worker_stdin = false;   // workers read this process's standard input
};

class LocalCluster {
 public:
  LocalCluster(LocalClusterOptions options, Terminal* terminal);
  ~LocalCluster();  // kills what is left

  // Starts the scheduler, waits until it listens, then starts the members (not for a job that its state or
  // its checkpoints show to be ended). CANCELLED: a signal came before there was a job to stop.
  absl::Status Start();
  // Carries output and watches for up to timeout_ms. False once the scheduler has ended for good.
  bool Step(int timeout_ms);
  // Asks the scheduler to end the job; a second call ends the processes by SIGTERM.
  void Stop(const std::string& reason);
  // After Step said false: waits for the members to end, by force if they do not. Returns the exit
  // status of the job: the scheduler's, or 1 if it could not be kept alive.
  int Finish();

  const std::string& address() const { return address_; }
  // What the scheduler left, of this run.
  std::string summary_path() const { return options_.run_dir + "/scheduler-summary.json"; }
  bool accepted() const { return accepted_; }           // the scheduler took the config and the state
  bool already_ended() const { return already_ended_; }  // in an earlier run of this folder
  // Why there was no orderly end; empty: there was one.
  const std::string& reason() const { return reason_; }
  std::vector<pid_t> ServerPids() const;
  // Of the processes that were started with profile_steps; a process that was killed has written none.
  const std::vector<std::string>& trace_files() const { return trace_files_; }
  // What happened to processes, for the summary: "worker/1: killed by signal 9 (Killed)".
  const std::vector<std::string>& endings() const { return endings_; }
  int scheduler_restarts() const { return restarts_; }

 private:
  struct Status {
    GetStatusResponse response;
    int64_t asked_ms = 0;
  };
  struct Death {
    std::string name;
    std::string why;
    int64_t at_ms = 0;
    bool meant = false;  // by `tidegate restart`
  };
  absl::Status StartScheduler();
  absl::Status WaitForAddress();
  absl::Status WaitForStoredJob();
  absl::Status StopBeforeStart();
  absl::Status Refusal();
  absl::Status StartMembers();
  void PollOutputs(int timeout_ms);
  void Drain(ChildProcess* process);
  void Reap();
  void OnSchedulerEnd();
  void OnMemberEnd(ChildProcess* process);
  void JudgeDeaths();
  bool StartAgain(const Death& death);  // a server of a job that has begun, and has replicas
  void GiveUp(const std::string& reason);
  void SayWatch();
  std::optional<Status> last_status() const;
  std::string LastError(const std::string& name) const;
  void PollStatus();  // thread
  void ShowProgress();
  void SignalAll(int signal);
  bool AnyAlive();
  void AddProfileFlags(const std::string& name, std::vector<std::string>* argv);
  std::string Binary(const char* name) const { return options_.bin_dir + "/" + name; }

  const LocalClusterOptions options_;
  Terminal* const terminal_;
  std::string address_;
  std::unique_ptr<ChildProcess> scheduler_;
  std::vector<std::unique_ptr<ChildProcess>> members_;
  std::map<std::string, std::vector<std::string>> server_argv_;  // by name
  int server_restarts_ = 0;
  std::vector<std::string> endings_;
  std::vector<std::string> trace_files_;
  int restarts_ = 0;
  int workers_alive_ = 0;
  std::vector<Death> deaths_;  // not judged yet: the scheduler has not been heard since
  std::string reason_;
  int64_t last_output_ms_ = 0;
  bool watch_said_ = false;
  bool begun_ = false;  // run_dir holds a job's state
  bool accepted_ = false;
  bool already_ended_ = false;
  bool ended_ = false;
  int stops_ = 0;
  int64_t stop_at_ms_ = 0;
  int exit_status_ = 1;

  std::thread status_thread_;
  std::atomic<bool> status_stop_{false};
  mutable std::mutex mutex_;
  std::optional<Status> status_;  // guarded by mutex_
};

}  // namespace tidegate::cli
