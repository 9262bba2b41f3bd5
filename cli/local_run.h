#pragma once
// A local cluster from config to end: what `tidegate local` and `tidegate bench train` do.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/terminal.h"
#include "proto/job.pb.h"
#include "worker/data/generator.h"

namespace tidegate::cli {

struct LocalRunOptions {
  std::string config;
  std::vector<std::string> sets;
  int servers = 0;  // 0: the config's
  int workers = 0;
  std::string bin_dir;  // empty: beside this binary
  std::string run_dir;
  std::string checkpoint_dir;
  bool fresh = false;
  int metrics_port = -1;
  int http_port = -1;
  int profile_steps = 0;  // 0: none
  std::vector<std::string> scheduler_args;
  std::vector<std::string> server_args;
  std::vector<std::string> worker_args;
  Verbosity verbosity = Verbosity::kNormal;
  bool is_terminal = false;
  bool show_progress = true;
  int time_limit_s = 0;  // the job is stopped then; 0: none
  std::function<int()> signals;  // how many signals to stop have come; empty: none ever
};

struct LocalRun {
  JobConfig config;  // resolved
  int exit_status = 1;
  std::string summary;  // JSON: the scheduler's; where it left none, of the end that we know
  bool locked = false;         // run_dir is this run's
  bool accepted = false;       // the scheduler took config and state
  bool already_ended = false;  // in an earlier run; summary is that run's
  std::vector<std::string> endings;
  int scheduler_restarts = 0;
  int servers = 0;
  int workers = 0;
  std::string run_dir;
  std::string trace;  // file; empty: none
  std::optional<AttainableMetrics> attainable;
};

// Errors: what kept the job from starting (config, model, binaries); then too `run` has a summary that says so.
// A job that started and failed is an exit_status. Only one at a time, from the main thread.
// CANCELLED: a signal came before the job had started.
absl::Status RunLocalJob(const LocalRunOptions& options, LocalRun* run);

// What every summary begins with.
std::string ShortSummary(const std::string& job, const std::string& outcome, const std::string& message);

}  // namespace tidegate::cli
