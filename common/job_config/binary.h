#pragma once
// Serialized job configs (.pb), as programs write them. Thread-safe (a function).

#include <string>

#include "absl/status/statusor.h"
#include "proto/job.pb.h"

namespace tidegate {

// INVALID_ARGUMENT: no JobConfig, or one with fields that this version does not know. Not resolved.
absl::StatusOr<JobConfig> ParseBinaryJobConfig(const std::string& bytes);

}  // namespace tidegate
