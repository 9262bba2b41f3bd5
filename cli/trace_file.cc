#include "cli/trace_file.h"

#include "absl/strings/str_cat.h"
#include "common/file_system.h"

namespace tidegate::cli {
namespace {

constexpr uint64_t kTraceBytesMax = uint64_t{1} << 30;

}  // namespace

absl::Status MergeTraces(const std::vector<std::string>& files, const std::string& path) {
  FileSystem& disk = RealFileSystem();
  std::string out = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [";
  bool any = false;
  for (const std::string& file : files) {
    const auto events = disk.Read(file, kTraceBytesMax);
    if (absl::IsNotFound(events.status())) continue;
    if (!events.ok()) return events.status();
    if (!events->empty()) absl::StrAppend(&out, any ? ",\n" : "\n", *events);
    any = any || !events->empty();
  }
  if (!any) return absl::NotFoundError("no process has written a trace");
  if (absl::Status s = disk.WriteAtomically(path, out + "\n]}\n"); !s.ok()) return s;
  for (const std::string& file : files) {
    if (absl::Status s = disk.Remove(file); !s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace tidegate::cli
