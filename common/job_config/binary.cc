#include "common/job_config/binary.h"

namespace tidegate {

absl::StatusOr<JobConfig> ParseBinaryJobConfig(const std::string& bytes) {
  JobConfig job;
  if (!job.ParseFromString(bytes)) return absl::InvalidArgumentError("not a serialized JobConfig");
  JobConfig known = job;
  known.DiscardUnknownFields();
  if (known.ByteSizeLong() != job.ByteSizeLong()) {
    return absl::InvalidArgumentError("has fields that this version does not know: was it written by a newer one?");
  }
  return job;
}

}  // namespace tidegate
