#pragma once
// A job's metrics on disk, for people and tools: FOLDER/metrics.jsonl, a JSON object a line, and a TensorBoard
// event file beside it (docs/formats.md). A scheduler that starts again appends to the one and begins another
// event file. Nothing depends on them: an error here is no end of the job. Not thread-safe.

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "scheduler/metrics_record.h"

namespace tidegate {

// Without the end of line; values that are not finite are null.
std::string MetricsLine(double wall_time, const MetricsRecord& record);

class MetricsLog {
 public:
  // Creates the folder if need be. A last line that a crash cut short is taken away. Errors name the path.
  static absl::StatusOr<std::unique_ptr<MetricsLog>> Open(const std::string& folder, double wall_time);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  // `wall_time`: seconds since 1970. A record that could not be written whole leaves no part of it.
  absl::Status Write(double wall_time, const MetricsRecord& record);

 private:
  struct File {
    std::string path;
    int descriptor = -1;
    uint64_t bytes = 0;
  };
  MetricsLog() = default;
  static absl::Status Append(std::string_view bytes, File* file);

  File lines_, events_;
};

}  // namespace tidegate
