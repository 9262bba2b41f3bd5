#pragma once
// Presets: models that are only a name for a few blocks (docs/config.md shows each expansion).

#include "absl/status/statusor.h"
#include "proto/job.pb.h"

namespace tidegate {

// The config's model with its preset's blocks in front and no preset. The prediction is block "logit".
absl::StatusOr<ModelConfig> ExpandPreset(const ModelConfig& model);

}  // namespace tidegate
