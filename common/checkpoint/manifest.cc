#include "common/checkpoint/manifest.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/stable_hash.h"

namespace tidegate {
namespace {
constexpr char kName[] = "MANIFEST";
constexpr uint64_t kMaxBytes = 256 << 20;

// The folder in `directory` with the highest number in its manifest; empty: none has a good one.
std::string NewestInside(FileSystem& files, const std::string& directory) {
  std::string newest;
  uint64_t number = 0;
  const auto names = files.List(directory);
  for (const std::string& name : names.ok() ? *names : std::vector<std::string>()) {
    const std::string folder = JoinPath(directory, name);
    const std::string path = JoinPath(folder, kName);
    const auto bytes = files.Read(path, kMaxBytes);
    const auto manifest = bytes.ok() ? ParseManifest(*bytes, path) : bytes.status();
    if (!manifest.ok() || (!newest.empty() && manifest->number() < number)) continue;
    newest = folder;
    number = manifest->number();
  }
  return newest;
}
}  // namespace

absl::Status WriteManifest(FileSystem& files, const std::string& directory,
                           const CheckpointManifest& manifest) {
  std::string bytes = manifest.SerializeAsString();
  const uint64_t checksum = StableHash(bytes);
  bytes.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  return files.WriteAtomically(JoinPath(directory, kName), bytes);
}

absl::StatusOr<CheckpointManifest> ReadManifest(FileSystem& files, const std::string& directory) {
  const std::string path = JoinPath(directory, kName);
  auto bytes = files.Read(path, kMaxBytes);
  if (absl::IsNotFound(bytes.status())) {
    const std::string inside = NewestInside(files, directory);
    return absl::NotFoundError(absl::StrCat(directory, " is no complete checkpoint: no ", path,
                                            inside.empty() ? "" : absl::StrCat("; the newest complete one in it is ", inside)));
  }
  if (!bytes.ok()) return bytes.status();
  return ParseManifest(*bytes, path);
}

absl::StatusOr<CheckpointManifest> ParseManifest(std::string_view bytes, const std::string& name) {
  uint64_t checksum;
  if (bytes.size() < sizeof(checksum)) {
    return absl::DataLossError(absl::StrCat(name, " is truncated: ", bytes.size(), " bytes"));
  }
  const std::string_view body = bytes.substr(0, bytes.size() - sizeof(checksum));
  std::memcpy(&checksum, bytes.data() + body.size(), sizeof(checksum));
  if (StableHash(body) != checksum) {
    return absl::DataLossError(absl::StrCat(name, " is damaged: its checksum does not match"));
  }
  CheckpointManifest manifest;
  if (!manifest.ParseFromArray(body.data(), static_cast<int>(body.size()))) {
    return absl::DataLossError(absl::StrCat(name, " is no checkpoint manifest"));
  }
  if (manifest.format() != kCheckpointFormat && manifest.format() != kIncrementalFormat) {
    return absl::FailedPreconditionError(absl::StrCat(name, " has format ", manifest.format(), ", this version reads ",
                                                      kCheckpointFormat, " and ", kIncrementalFormat));
  }
  if ((manifest.base() != 0) != (manifest.format() == kIncrementalFormat) || (manifest.base() != 0 && manifest.base() >= manifest.number())) {
    return absl::DataLossError(absl::StrCat(name, " is damaged: checkpoint ", manifest.number(), " of format ", manifest.format(),
                                            " builds on ", manifest.base()));
  }
  return manifest;
}

absl::StatusOr<std::string> BaseFolder(const std::string& directory, const CheckpointManifest& manifest) {
  const std::string& name = manifest.base_folder();
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos || name.find('\0') != std::string::npos) {
    return absl::DataLossError(absl::StrCat(directory, "/", kName, ": \"", name, "\" is no name of a folder to build on"));
  }
  std::string_view path = directory;
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  const std::string_view last = slash == std::string_view::npos ? path : path.substr(slash + 1);
  if (last == "." || last == "..") return JoinPath(path, absl::StrCat("../", name));
  if (slash == std::string_view::npos) return name;
  return JoinPath(path.substr(0, std::max<size_t>(slash, 1)), name);
}

absl::StatusOr<uint64_t> ManifestChecksum(FileSystem& files, const std::string& directory) {
  const auto bytes = files.Read(JoinPath(directory, kName), kMaxBytes);
  if (!bytes.ok()) return bytes.status();
  return StableHash(*bytes);
}

absl::Status WriteLinkedManifest(FileSystem& files, const std::string& directory, CheckpointManifest manifest) {
  if (manifest.base() != 0) {
    const auto base = BaseFolder(directory, manifest);
    if (!base.ok()) return base.status();
    const auto checksum = ManifestChecksum(files, *base);
    if (!checksum.ok()) return checksum.status();
    manifest.set_base_manifest_xxh3(*checksum);
  }
  return WriteManifest(files, directory, manifest);
}

}  // namespace tidegate
