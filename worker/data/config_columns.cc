#include "worker/data/config_columns.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/job_config/job_config.h"
#include "worker/data/csv_header.h"
#include "worker/data/text_rows.h"

namespace tidegate {
namespace {

constexpr size_t kNamesShown = 30;

// The data.train or data.valid of a CSV job.
class Side {
 public:
  Side(std::string field, const Source& source, const JobConfig& config, std::vector<std::string>* problems)
      : field_(std::move(field)), source_(source), config_(config), problems_(*problems) {}

  void Check(bool training) {
    if (!ReadNames()) return;
    const DataConfig& data = config_.data();
    Features();
    const bool pairs = training && data.has_negatives();
    if (!pairs) {
      for (const TaskConfig& t : config_.model().task()) {
        Column(absl::StrCat("task \"", t.name(), "\": label"), t.label());
      }
    }
    Column("data.weight", data.weight());
    Column("data.group", data.group());
    Column("data.timestamp", data.timestamp());
    Column("data.full_ranking.column", data.full_ranking().column());
    for (const std::string& name : data.full_ranking().attribute()) Column("data.full_ranking.attribute", name);
    if (pairs) {
      Column("data.negatives.column", data.negatives().column());
      Column("data.negatives.exclude_seen_by", data.negatives().exclude_seen_by());
    }
    if (!found_ && !wanted_.empty()) problems_.push_back(absl::StrCat("data.csv: ", file_, ":1 ", WhatItIs()));
  }

 private:
  // A first line in which nothing is that the job reads: of another delimiter, or no header.
  std::string WhatItIs() const {
    const std::string line = absl::StrJoin(names_, std::string(1, delimiter_));
    for (const char other : {',', ';', '\t', '|', ' '}) {
      if (other == delimiter_) continue;
      const std::vector<std::string> pieces = absl::StrSplit(line, other);
      for (const std::string& name : pieces) {
        if (std::find(wanted_.begin(), wanted_.end(), name) == wanted_.end()) continue;
        return absl::StrCat("has \"", name, "\" between other delimiters: write csv { delimiter: \"",
                            other == '\t' ? "\\t" : std::string(1, other), "\" }");
      }
    }
    return "names no column of the job: if the file has no header, write csv { header: false column: [...] }, with its columns in order";
  }

  bool ReadNames() {
    auto files = ExpandFiles({source_.files().begin(), source_.files().end()});
    std::error_code error;
    if (!files.ok() || files->empty() || !std::filesystem::is_regular_file(files->front(), error)) return false;
    file_ = files->front();
    const CsvFormat& csv = config_.data().csv();
    if (!csv.delimiter().empty()) delimiter_ = csv.delimiter()[0];
    auto names = ReadCsvHeader(file_, delimiter_);
    if (!names.ok()) {
      problems_.push_back(absl::StrCat(field_, ".files: ", names.status().message()));
      return false;
    }
    names_ = *std::move(names);
    const std::vector<std::string> written(csv.column().begin(), csv.column().end());
    if (written.empty() || written == names_) return true;
    const bool none = std::none_of(written.begin(), written.end(), [this](const std::string& name) { return Has(name); });
    problems_.push_back(absl::StrCat("data.csv.column: ", file_, ":1 has ", Shown(), ", not ", absl::StrJoin(written, ", "),
                                     none ? "; if the file has no header, write csv { header: false ... }" : ""));
    return false;
  }

  // Whether a column that the job reads is there.
  bool Find(const std::string& name) {
    wanted_.push_back(name);
    found_ |= Has(name);
    return Has(name);
  }
  bool Has(const std::string& name) const { return std::find(names_.begin(), names_.end(), name) != names_.end(); }
  std::string Shown() const {
    const std::vector<std::string> first(names_.begin(), names_.begin() + static_cast<ptrdiff_t>(std::min(kNamesShown, names_.size())));
    const size_t left = names_.size() - first.size();
    return absl::StrJoin(first, ", ") + (left > 0 ? absl::StrCat(" and ", left, " more") : "");
  }

  void Column(const std::string& at, const std::string& name) {
    if (name.empty() || Find(name)) return;
    problems_.push_back(absl::StrCat(at, ": ", file_, ":1 has no column \"", name, "\"", DidYouMean(name, names_), "; it has ", Shown()));
  }

  // Many at once are one line: then it is another file, or another delimiter.
  void Features() {
    std::vector<std::pair<std::string, std::string>> missing;  // feature, column
    for (const FeatureConfig& f : config_.feature()) {
      const std::string& column = f.column().empty() ? f.name() : f.column();
      if (!Find(column)) missing.emplace_back(f.name(), column);
    }
    if (missing.size() <= 3) {
      for (const auto& [name, column] : missing) Column(absl::StrCat("feature \"", name, "\": column"), column);
      return;
    }
    problems_.push_back(absl::StrCat("feature \"", missing.front().first, "\" and ", missing.size() - 1, " more (to \"",
                                     missing.back().first, "\"): column: ", file_, ":1 has none of theirs (\"",
                                     missing.front().second, "\" to \"", missing.back().second, "\"); it has ", Shown()));
  }

  const std::string field_;
  const Source& source_;
  const JobConfig& config_;
  std::vector<std::string>& problems_;
  std::string file_;
  char delimiter_ = ',';
  std::vector<std::string> names_;
  std::vector<std::string> wanted_;
  bool found_ = false;
};

}  // namespace

std::vector<std::string> ColumnProblems(const JobConfig& config) {
  std::vector<std::string> problems;
  const DataConfig& data = config.data();
  if (!data.csv().header()) return problems;
  if (data.has_train() && data.format() == DataConfig::CSV && !data.train().sequential()) {
    Side("data.train", data.train(), config, &problems).Check(true);
  }
  const DataConfig::Format valid = data.has_valid_format() ? data.valid_format() : data.format();
  if (data.has_valid() && valid == DataConfig::CSV) Side("data.valid", data.valid(), config, &problems).Check(false);
  return problems;
}

}  // namespace tidegate
