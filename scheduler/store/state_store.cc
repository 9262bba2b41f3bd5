#include "scheduler/store/state_store.h"

#include "absl/strings/str_cat.h"
#include "scheduler/store/state_codec.h"

namespace tidegate {
namespace {

constexpr uint64_t kStateBytesMax = 1ull << 30;

}  // namespace

absl::Status StateStore::Store(const SchedulerState& state) { return Write(EncodeState(state)); }

absl::StatusOr<std::unique_ptr<DirectoryStore>> DirectoryStore::Open(FileSystem* files,
                                                                     const std::string& directory) {
  if (const absl::Status made = files->CreateDirectories(directory); !made.ok()) return made;
  auto lock = files->LockDirectory(directory);
  if (!lock.ok()) return lock.status();
  return std::unique_ptr<DirectoryStore>(
      new DirectoryStore(files, JoinPath(directory, "scheduler.state"), *std::move(lock)));
}

absl::StatusOr<SchedulerState> DirectoryStore::Load() {
  const auto bytes = files_->Read(path_, kStateBytesMax);
  if (absl::IsNotFound(bytes.status())) return SchedulerState();
  if (!bytes.ok()) return bytes.status();
  return DecodeState(*bytes, path_);
}

absl::Status DirectoryStore::Write(const std::string& state) { return files_->WriteAtomically(path_, state); }

}  // namespace tidegate
