#pragma once
// The job's configuration as every process uses it: text-format JobConfig -> *resolved* JobConfig.
// Resolved means: overrides applied, `{a..b}` expanded, columns, salts and monitors filled in, data
// paths absolute, every range checked. Resolving twice changes nothing. Thread-safe (functions only).
//
// Errors are INVALID_ARGUMENT (NOT_FOUND: no such file) with one problem a line, all of them:
//   job.textproto:12:3: no field "shuffel_window" in Source (did you mean "shuffle_window"?)
//   feature "C1": table "embb" does not exist (did you mean "emb"?)
// What needs the block graph (missing inputs, cycles, shapes) is found by Model::Create.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/types.h"
#include "proto/job.pb.h"

namespace tidegate {

// Reads, overrides, resolves. An override is "path=value": dotted fields, elements of repeated fields
// by index or by their `name`, and a value as in the file (strings may stand without quotes):
//   train.epochs=3   table.emb.part.v.adam.lr=1e-4   model.block.2.mlp.units=[64,1]
absl::StatusOr<JobConfig> LoadJobConfig(const std::string& path,
                                        std::span<const std::string> overrides = {});
// As LoadJobConfig, from text; `file_name` stands in messages.
absl::StatusOr<JobConfig> ParseJobConfig(std::string_view text, std::string_view file_name,
                                         std::span<const std::string> overrides = {});

absl::Status ApplyOverride(std::string_view override_text, JobConfig* config);
absl::Status ResolveJobConfig(JobConfig* config);

// Text format that ParseJobConfig reads back to an equal config.
std::string JobConfigText(const JobConfig& config);

// What is allowed but voids a guarantee (batch norm with several workers, ...): a line each.
std::vector<std::string> JobConfigWarnings(const JobConfig& resolved);

// Two configs of one fingerprint are the same job.
uint64_t JobConfigFingerprint(const JobConfig& resolved);

// train.staleness: "0" (synchronous), N >= 1, or "inf".
struct Staleness {
  bool sync = true;
  bool infinite = false;
  Clock bound = 0;  // s; not used when infinite

  // The bound that a pull at `clock` names: clock - s - 1, kNoBound when infinite.
  Clock PullBound(Clock clock) const { return infinite ? kNoBound : clock - bound - 1; }
};
absl::StatusOr<Staleness> ParseStaleness(std::string_view text);

// "valid/click/auc", "valid/click/hr@10" of a task "click" with that metric (common/task_metrics.h). Lower is
// better for logloss and rmse, |1 - x| for calibration.
struct Monitor {
  std::string dataset;  // "valid"
  size_t task = 0;      // index in model.task
  TaskConfig::Metric metric = TaskConfig::AUC;
};
absl::StatusOr<Monitor> ParseMonitor(std::string_view text, const JobConfig& config);

// A path that starts with $TIDEGATE_DATA: the environment's, else ../shared/data where that exists.
// Relative paths become absolute from the current directory.
absl::StatusOr<std::string> ResolvePath(std::string_view path);

// The name in `candidates` nearest to `name` by edit distance, empty when none is near.
std::string NearestName(std::string_view name, const std::vector<std::string>& candidates);
// " (did you mean \"x\"?)" or "".
std::string DidYouMean(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace tidegate
