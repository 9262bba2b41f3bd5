#include "scheduler/rpc/checkpoint_folder.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/checkpoint/checkpoint_reader.h"
#include "common/checkpoint/manifest.h"
#include "common/logging.h"

namespace tidegate {
namespace {

bool IsCheckpointName(const std::string& name) {
  const size_t dash = name.find('-');
  if (dash == std::string::npos || dash + 1 == name.size()) return false;
  const std::string kind = name.substr(0, dash);
  return (kind == "epoch" || kind == "clock") &&
         std::all_of(name.begin() + static_cast<std::ptrdiff_t>(dash) + 1, name.end(),
                     [](unsigned char c) { return (c >= '0' && c <= '9') || c == '-'; });
}

// Nothing but what servers write (and leave behind when they are killed).
bool HoldsOnlyShards(FileSystem& files, const std::string& folder) {
  const auto names = files.List(folder);
  return names.ok() && std::all_of(names->begin(), names->end(), [](const std::string& name) {
           return absl::StartsWith(name, "shard-") || absl::StartsWith(name, "MANIFEST") ||
                  absl::StrContains(name, ".tmp");
         });
}

// Leaves out the incremental ones whose chains are broken, and what is broken in chains; to restore, any that is broken.
void RemoveBroken(FileSystem& files, CheckpointsFor purpose, CheckpointFolder* found) {
  std::set<uint64_t> bases;
  for (const StoredCheckpoint& c : found->complete) {
    bases.insert(c.manifest.base());
    found->last_number = std::max(found->last_number, c.manifest.number());
  }
  std::erase_if(found->complete, [&](const StoredCheckpoint& c) {
    const bool alone = c.manifest.base() == 0 && !bases.contains(c.manifest.number());
    if (alone && purpose == CheckpointsFor::kResume) return false;
    const absl::Status status = CheckpointReader::Open(files, c.folder).status();
    if (!status.ok()) found->broken.emplace_back(absl::StrCat(c.folder, " is passed over: ", status.message()));
    return !status.ok();
  });
}

}  // namespace

absl::StatusOr<CheckpointFolder> FindCheckpoints(FileSystem& files, const std::string& directory, CheckpointsFor purpose) {
  CheckpointFolder found;
  const auto names = files.List(directory);
  if (absl::IsNotFound(names.status())) return found;
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    if (!IsCheckpointName(name)) continue;
    const std::string folder = JoinPath(directory, name);
    if (!files.List(folder).ok()) continue;  // a file of that name
    auto manifest = ReadManifest(files, folder);
    if (manifest.ok()) {
      found.complete.push_back({folder, *std::move(manifest)});
    } else if (absl::IsNotFound(manifest.status())) {
      if (HoldsOnlyShards(files, folder)) found.half_written.push_back(folder);
    } else if (purpose == CheckpointsFor::kRestore) {
      found.broken.emplace_back(absl::StrCat(folder, " is passed over: ", manifest.status().message()));
    } else {
      return absl::Status(manifest.status().code(),
                          absl::StrCat(manifest.status().message(), "; remove ", folder,
                                       " to resume from an earlier checkpoint, or start anew with --fresh"));
    }
  }
  RemoveBroken(files, purpose, &found);
  std::stable_sort(found.complete.begin(), found.complete.end(), [](const auto& a, const auto& b) {
    return a.manifest.number() < b.manifest.number();
  });
  return found;
}

void RemoveCheckpoint(FileSystem& files, const std::string& folder) {
  if (!files.Remove(JoinPath(folder, "MANIFEST")).ok()) return;
  std::error_code error;
  std::filesystem::remove_all(folder, error);
  if (error) TG_LOG(WARNING) << "cannot remove the checkpoint " << folder << ": " << error.message();
}

}  // namespace tidegate
