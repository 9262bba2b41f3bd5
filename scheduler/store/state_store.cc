#include "scheduler/store/state_store.h"

#include <cstring>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "common/stable_hash.h"
#include "common/strings.h"

namespace tidegate {
namespace {

constexpr std::string_view kMagic = "TGSTATE1";
constexpr uint64_t kStateBytesMax = 1ull << 30;

}  // namespace

absl::StatusOr<std::unique_ptr<DirectoryStore>> DirectoryStore::Open(FileSystem* files,
                                                                     const std::string& directory) {
  if (const absl::Status made = files->CreateDirectories(directory); !made.ok()) return made;
  auto lock = files->LockDirectory(directory);
  if (!lock.ok()) {
    return absl::Status(lock.status().code(), absl::StrCat("--state: ", lock.status().message()));
  }
  return std::unique_ptr<DirectoryStore>(
      new DirectoryStore(files, JoinPath(directory, "scheduler.state"), *std::move(lock)));
}

absl::StatusOr<SchedulerState> DirectoryStore::Load() {
  const auto bytes = files_->Read(path_, kStateBytesMax);
  if (absl::IsNotFound(bytes.status())) return SchedulerState();
  if (!bytes.ok()) return bytes.status();
  const std::string_view all = *bytes;
  const auto damaged = [&](const char* what) {
    return absl::DataLossError(absl::StrCat(
        path_, ": ", what, "; bring back a copy, or start the job again with an empty --state"));
  };
  if (all.size() < kMagic.size() + sizeof(uint64_t)) return damaged("truncated");
  if (all.substr(0, kMagic.size()) != kMagic) {
    if (all.substr(0, kMagic.size() - 1) == kMagic.substr(0, kMagic.size() - 1)) {
      return absl::FailedPreconditionError(
          absl::StrCat(path_, ": written by another version of tidegate-scheduler (",
                       ToAbsl(all.substr(0, kMagic.size())), ", this one reads ", ToAbsl(kMagic), ")"));
    }
    return damaged("not a scheduler's state");
  }
  const std::string_view body =
      all.substr(kMagic.size(), all.size() - kMagic.size() - sizeof(uint64_t));
  uint64_t checksum;
  std::memcpy(&checksum, all.data() + all.size() - sizeof(checksum), sizeof(checksum));
  if (checksum != StableHash(body)) return damaged("the checksum does not match");
  SchedulerState state;
  if (!state.ParseFromArray(body.data(), static_cast<int>(body.size()))) return damaged("malformed");
  return state;
}

absl::Status DirectoryStore::Store(const SchedulerState& state) {
  std::string bytes(kMagic);
  state.AppendToString(&bytes);
  const uint64_t checksum = StableHash(std::string_view(bytes).substr(kMagic.size()));
  bytes.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  return files_->WriteAtomically(path_, bytes);
}

}  // namespace tidegate
