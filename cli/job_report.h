#pragma once
// The end of a job as people read it: a table from the scheduler's JSON summary.

#include <optional>
#include <string>

#include <google/protobuf/struct.pb.h>

#include "absl/status/statusor.h"
#include "proto/job.pb.h"
#include "worker/data/generator.h"

namespace tidegate::cli {

// Of the held-out rows of a GENERATED job; none for other formats or where it cannot be computed.
std::optional<AttainableMetrics> AttainableOf(const JobConfig& config);

// `json` with one more field at its end. INVALID_ARGUMENT where it is no object.
absl::StatusOr<std::string> WithField(std::string json, const std::string& name, const std::string& value_json);

// As one word of a shell's command line.
std::string ShellQuoted(const std::string& word);

struct NextPaths {
  std::string program;  // tidegate
  std::string checkpoint;
  std::string run_dir;
  std::string data;  // the held-out file; empty: as the config names them
};
// What one does with a checkpoint: evaluate it, or export it where the config has no data.valid. Empty: there is none.
std::string NextCommand(const JobConfig& config, const NextPaths& paths);

std::string JobTable(const google::protobuf::Struct& summary, const std::optional<AttainableMetrics>& attainable);

// Lines on a model that is worth nothing, with what to look at; empty: none is. Of the checkpoint's epoch, or else the best: a training
// loss that is no finite number or, with loss BCE, no log loss of any sense; a held-out log loss above that of 0.5 for every row, ln 2;
// held-out scores that order nothing (an AUC of exactly 0.5).
std::string LossWarning(const JobConfig& config, const google::protobuf::Struct& summary);

// A line where the job has trained more epochs than the config asks for, and so did nothing; else empty.
std::string EpochsNote(const JobConfig& config, const google::protobuf::Struct& summary);

}  // namespace tidegate::cli
