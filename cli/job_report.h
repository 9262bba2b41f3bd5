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

std::string JobTable(const google::protobuf::Struct& summary, const std::optional<AttainableMetrics>& attainable);

}  // namespace tidegate::cli
