#pragma once
// MANIFEST of a checkpoint's folder (proto/checkpoint.proto, docs/formats.md): the serialized
// CheckpointManifest followed by its XXH3-64 (8 bytes, little endian). Written last, atomically: a folder
// without one is no checkpoint.

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "proto/checkpoint.pb.h"

namespace tidegate {

inline constexpr uint32_t kCheckpointFormat = 1;

absl::Status WriteManifest(FileSystem& files, const std::string& directory,
                           const CheckpointManifest& manifest);
// DATA_LOSS: truncated or changed; FAILED_PRECONDITION: a newer format; NOT_FOUND. Errors name the file.
absl::StatusOr<CheckpointManifest> ReadManifest(FileSystem& files, const std::string& directory);
// The same over bytes; `name` stands in errors.
absl::StatusOr<CheckpointManifest> ParseManifest(std::string_view bytes, const std::string& name);

}  // namespace tidegate
