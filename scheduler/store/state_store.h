#pragma once
// Where the scheduler's durable state lives. What Write returned OK for is what Load returns, in this
// process or the next, also after a crash. Not thread-safe: the scheduler has one writer.

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "proto/scheduler_state.pb.h"

namespace tidegate {

class StateStore {
 public:
  virtual ~StateStore() = default;
  // A default value (format 0) when nothing was stored yet.
  virtual absl::StatusOr<SchedulerState> Load() = 0;
  // `state` is EncodeState's (state_codec.h). ABORTED: another scheduler leads the job now; this one can store nothing
  // any more.
  virtual absl::Status Write(const std::string& state) = 0;
  absl::Status Store(const SchedulerState& state);
};

// One file, scheduler.state (state_codec.h), in a folder that is locked as long as the store lives.
// DATA_LOSS: truncated or changed; FAILED_PRECONDITION: another process holds the folder, or a newer
// format. Errors name the file.
class DirectoryStore final : public StateStore {
 public:
  static absl::StatusOr<std::unique_ptr<DirectoryStore>> Open(FileSystem* files,
                                                              const std::string& directory);

  absl::StatusOr<SchedulerState> Load() override;
  absl::Status Write(const std::string& state) override;

 private:
  DirectoryStore(FileSystem* files, std::string path, std::unique_ptr<FileLock> lock)
      : files_(files), path_(std::move(path)), lock_(std::move(lock)) {}

  FileSystem* const files_;
  const std::string path_;
  const std::unique_ptr<FileLock> lock_;
};

}  // namespace tidegate
