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
inline constexpr uint32_t kIncrementalFormat = 2;  // builds on another checkpoint: `base` is set

absl::Status WriteManifest(FileSystem& files, const std::string& directory,
                           const CheckpointManifest& manifest);
// DATA_LOSS: truncated or changed; FAILED_PRECONDITION: a newer format; NOT_FOUND. Errors name the file.
absl::StatusOr<CheckpointManifest> ReadManifest(FileSystem& files, const std::string& directory);
// The same over bytes; `name` stands in errors.
absl::StatusOr<CheckpointManifest> ParseManifest(std::string_view bytes, const std::string& name);

// The folder, beside `directory`, of the checkpoint that the manifest in it builds on. DATA_LOSS: its name is none.
absl::StatusOr<std::string> BaseFolder(const std::string& directory, const CheckpointManifest& manifest);
// What base_manifest_xxh3 says of the checkpoint in `directory`: the XXH3-64 of its MANIFEST, all bytes.
absl::StatusOr<uint64_t> ManifestChecksum(FileSystem& files, const std::string& directory);
// Writes the manifest of an incremental checkpoint with its base's checksum, or any other one as it is.
absl::Status WriteLinkedManifest(FileSystem& files, const std::string& directory, CheckpointManifest manifest);

}  // namespace tidegate
