#include "scheduler/data_plan.h"

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tidegate {
namespace {

constexpr uint64_t kSplitBytesMin = 64 << 10;
constexpr uint64_t kRankedSplitBytesMin = 2 << 10;  // a line is a pass over all items
constexpr uint64_t kSplitBytesMax = 64 << 20;
constexpr uint64_t kSplitRowsMin = 1024;
constexpr uint64_t kSplitRowsMax = 1 << 20;
constexpr uint64_t kSplitsPerWorker = 8;
constexpr uint64_t kSplitsMax = 1 << 20;

uint64_t Workers(const JobConfig& job) { return std::max(1u, job.cluster().workers()); }

bool IsCompressed(const std::string& path) {
  return absl::EndsWith(path, ".gz") || absl::EndsWith(path, ".zst");
}

void Cut(uint32_t source, const std::string& file, uint64_t begin, uint64_t end, uint64_t step,
         std::vector<Split>* splits) {
  for (uint64_t at = begin; at < end; at += std::min(step, end - at)) {
    Split split;
    split.set_source(source);
    split.set_file(file);
    split.set_begin(at);
    split.set_end(at + std::min(step, end - at));
    splits->push_back(std::move(split));
  }
}

absl::Status PlanRows(const JobConfig& job, const std::string& field, const Source& source,
                      std::vector<Split>* splits) {
  if (source.rows() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(field, ".rows: generated data needs a number of rows"));
  }
  const uint64_t step =
      std::clamp(source.rows() / (kSplitsPerWorker * Workers(job)), kSplitRowsMin, kSplitRowsMax);
  if (source.rows() / step > kSplitsMax || source.first_row() + source.rows() < source.rows()) {
    return absl::InvalidArgumentError(absl::StrCat(field, ".rows: ", source.rows(), " are too many"));
  }
  Cut(0, "", source.first_row(), source.first_row() + source.rows(), step, splits);
  return absl::OkStatus();
}

// A stream is one split, leased to one worker at a time; nothing of it is looked at here.
void PlanStreams(const Source& source, std::vector<Split>* splits) {
  for (int i = 0; i < source.files_size(); ++i) {
    Split split;
    split.set_source(static_cast<uint32_t>(i));
    split.set_file(source.files(i));
    split.set_sequential(true);
    splits->push_back(std::move(split));
  }
}

absl::Status PlanFiles(FileSystem* files, const JobConfig& job, const std::string& field,
                       DataConfig::Format format, Source* source, std::vector<Split>* splits) {
  const bool whole = format == DataConfig::NPZ || format == DataConfig::PARQUET;
  if (source->sequential()) {
    PlanStreams(*source, splits);
    return absl::OkStatus();
  }
  std::vector<std::string> paths;
  for (const std::string& pattern : source->files()) {
    const auto matches = files->Glob(pattern);
    if (!matches.ok()) return matches.status();
    if (matches->empty()) {
      return absl::NotFoundError(absl::StrCat(field, ".files: no file matches \"", pattern, "\""));
    }
    paths.insert(paths.end(), matches->begin(), matches->end());
  }
  if (paths.empty()) return absl::InvalidArgumentError(absl::StrCat(field, ".files: names no file"));
  std::vector<uint64_t> sizes;
  uint64_t total = 0;
  for (const std::string& path : paths) {
    const auto size = files->Size(path);
    if (!size.ok()) {
      return absl::Status(size.status().code(),
                          absl::StrCat(field, ".files: ", size.status().message()));
    }
    if (*size == 0) return absl::InvalidArgumentError(absl::StrCat(field, ".files: ", path, " is empty"));
    sizes.push_back(*size);
    total += *size;
  }
  uint64_t step = job.data().split_bytes();
  if (step == 0) {
    const bool ranked = field == "data.valid" && job.data().has_full_ranking();
    step = std::clamp(total / (kSplitsPerWorker * Workers(job)), ranked ? kRankedSplitBytesMin : kSplitBytesMin,
                      kSplitBytesMax);
  }
  if (total / step > kSplitsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("data.split_bytes: ", step, " cuts ", total, " bytes of ", field, " into more than ",
                     kSplitsMax, " splits"));
  }
  source->clear_files();
  for (size_t i = 0; i < paths.size(); ++i) {
    source->add_files(paths[i]);
    Cut(static_cast<uint32_t>(i), paths[i], 0, sizes[i], whole || IsCompressed(paths[i]) ? sizes[i] : step,
        splits);
  }
  return absl::OkStatus();
}

absl::Status PlanSource(FileSystem* files, const JobConfig& job, const std::string& field,
                        DataConfig::Format format, Source* source, std::vector<Split>* splits) {
  if (format == DataConfig::GENERATED) return PlanRows(job, field, *source, splits);
  return PlanFiles(files, job, field, format, source, splits);
}

}  // namespace

absl::StatusOr<DataPlan> PlanData(FileSystem* files, const JobConfig& job) {
  DataPlan plan;
  plan.job = job;
  DataConfig* data = plan.job.mutable_data();
  if (!data->has_train()) return absl::InvalidArgumentError("data.train: the job names no data");
  absl::Status status = PlanSource(files, job, "data.train", data->format(),
                                   data->mutable_train(), &plan.train);
  if (status.ok() && data->has_valid()) {
    const auto format = data->has_valid_format() ? data->valid_format() : data->format();
    status = PlanSource(files, job, "data.valid", format, data->mutable_valid(), &plan.valid);
  }
  if (!status.ok()) return status;
  return plan;
}

}  // namespace tidegate
