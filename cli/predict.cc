// `tidegate predict`: scores of a model on a file, written as CSV.

#include <unistd.h>

#include <charconv>
#include <chrono>
#include <iostream>
#include <memory>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/json.h"
#include "cli/scoring.h"
#include "cli/status_text.h"
#include "common/file_system.h"
#include "worker/model/backend.h"

DEFINE_string(export, "", "");

namespace tidegate::cli {
namespace {

constexpr size_t kFlushBytes = 1 << 20;

// "12k rows, 340k/s" on stderr twice a second where that is a terminal.
class Progress {
 public:
  void Add(size_t rows) {
    rows_ += rows;
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_ || now - last_ < std::chrono::milliseconds(500)) return;
    last_ = now;
    std::cerr << "\r" << ShortNumber(static_cast<double>(rows_)) << " rows, " << ShortNumber(Rate()) << "/s   " << std::flush;
    shown_ = true;
  }
  ~Progress() {
    if (shown_) std::cerr << "\n";
  }
  uint64_t rows() const { return rows_; }
  double Seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  double Rate() const { return static_cast<double>(rows_) / std::max(Seconds(), 1e-9); }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) != 0;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_ = start_;
  uint64_t rows_ = 0;
  bool shown_ = false;
};

void AppendRows(const StepResult& result, size_t rows, std::string* out) {
  char text[32];
  for (size_t r = 0; r < rows; ++r) {
    for (size_t task = 0; task < result.probabilities.size(); ++task) {
      const auto [end, error] = std::to_chars(text, text + sizeof text, result.probabilities[task][r]);
      if (task > 0) *out += ',';
      out->append(text, end);
    }
    *out += '\n';
  }
}

absl::Status Predict(Progress* progress, std::string* bad_lines) {
  ScoringOptions options;
  options.checkpoint = FLAGS_checkpoint;
  options.export_dir = FLAGS_export;
  options.data = FLAGS_data;
  options.format = FLAGS_format;
  options.max_bad_lines = FLAGS_max_bad_lines;
  options.batch = FLAGS_batch;
  options.labels = false;
  FileSystem& files = RealFileSystem();
  if (!FLAGS_force && access(FLAGS_out.c_str(), F_OK) == 0) {
    return absl::AlreadyExistsError(FLAGS_out + " exists: --force overwrites it");
  }
  auto scoring = Scoring::Create(options);
  if (!scoring.ok()) return scoring.status();
  auto file = files.Create(FLAGS_out);
  if (!file.ok()) return file.status();
  std::string text = absl::StrJoin((*scoring)->model().task_names(), ",") + "\n";
  absl::Status status = (*scoring)->Run([&](const Batch& batch, const StepResult& result) {
    AppendRows(result, batch.rows, &text);
    progress->Add(batch.rows);
    if (text.size() < kFlushBytes) return absl::OkStatus();
    absl::Status written = (*file)->Append(text);
    text.clear();
    return written;
  });
  if (!status.ok()) return status;
  if (progress->rows() == 0) return absl::InvalidArgumentError("no row to score in " + (*scoring)->DataFiles());
  *bad_lines = (*scoring)->BadLines();
  if (absl::Status s = (*file)->Append(text); !s.ok()) return s;
  return (*file)->Commit();
}

int RunPredict(const Arguments& arguments) {
  if (FLAGS_checkpoint.empty() == FLAGS_export.empty() || FLAGS_out.empty() || !arguments.positional.empty()) {
    std::cerr << "usage: tidegate predict --checkpoint=DIR|--export=DIR --out=FILE [--data=FILE] [--format=FORMAT]\n";
    return kUsage;
  }
  SetComputeThreads(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  std::string bad_lines;
  uint64_t rows = 0;
  double seconds = 0;
  absl::Status status;
  {
    Progress progress;
    status = Predict(&progress, &bad_lines);
    rows = progress.rows();
    seconds = progress.Seconds();
  }
  if (!status.ok()) {
    std::cerr << "tidegate predict: " << status.message() << "\n";
    return kFailed;
  }
  if (!bad_lines.empty()) std::cerr << "tidegate predict: " << bad_lines << "\n(they have no line in " << FLAGS_out << ")\n";
  if (FLAGS_json) {
    std::cout << JsonObject().Integer("rows", static_cast<int64_t>(rows)).Number("seconds", seconds).Text("out", FLAGS_out).Build() << "\n";
  } else {
    std::cout << rows << " scores in " << FLAGS_out << "\n";
  }
  return kOk;
}

}  // namespace

Command PredictCommand() {
  return {"predict",
          "",
          "write a model's scores on a file as CSV: a header of task names, a line per row in order",
          {{"checkpoint", "DIR", "the checkpoint's folder (the one with MANIFEST)"},
           {"export", "DIR", "or the folder of an export"},
           {"out", "FILE", "the CSV file; complete or not there"},
           {"force", "", "overwrite it"},
           {"data", "FILE", "file or glob (default: the job's held-out data)"},
           {"format", "FORMAT", "of --data: LIBSVM, CRITEO_TSV, ... (default: the job's)"},
           Ranged({"max_bad_lines", "N", "leave out up to so many bad lines"}, 0, int64_t{1} << 60),
           Ranged({"batch", "ROWS", "rows at a time"}, 1, 1 << 20),
           {"json", "", "the result as one JSON object"}},
          RunPredict};
}

}  // namespace tidegate::cli
