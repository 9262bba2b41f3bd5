#pragma once
// Whether a job may go on from another's checkpoint. Thread-safe (a function).

#include <string>

#include "proto/job.pb.h"

namespace tidegate {

// Fields in which two resolved configs differ, a line each ("modified: train.global_batch: 64 -> 128"), but for
// those that a resumed job may change: train.epochs, checkpoint and stall_timeout_s,
// data.max_bad_lines, and the cluster. Empty: the same job.
std::string JobDifferences(const JobConfig& before, const JobConfig& now);

// All fields in which they differ, as JobDifferences.
std::string ConfigDifferences(const JobConfig& before, const JobConfig& now);

}  // namespace tidegate
