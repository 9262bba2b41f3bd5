#include "worker/data/config_columns.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
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
    if (!pairs) return;
    Column("data.negatives.column", data.negatives().column());
    Column("data.negatives.exclude_seen_by", data.negatives().exclude_seen_by());
  }

 private:
  bool ReadNames() {
    auto files = ExpandFiles({source_.files().begin(), source_.files().end()});
    std::error_code error;
    if (!files.ok() || files->empty() || !std::filesystem::is_regular_file(files->front(), error)) return false;
    file_ = files->front();
    const CsvFormat& csv = config_.data().csv();
    const char delimiter = csv.delimiter().empty() ? ',' : csv.delimiter()[0];
    auto names = ReadCsvHeader(file_, delimiter);
    if (!names.ok()) {
      problems_.push_back(absl::StrCat(field_, ".files: ", names.status().message()));
      return false;
    }
    names_ = *std::move(names);
    const std::vector<std::string> written(csv.column().begin(), csv.column().end());
    if (written.empty() || written == names_) return true;
    problems_.push_back(absl::StrCat("data.csv.column: ", file_, ":1 has ", Shown(), ", not ", absl::StrJoin(written, ", ")));
    return false;
  }

  bool Has(const std::string& name) const { return std::find(names_.begin(), names_.end(), name) != names_.end(); }
  std::string Shown() const {
    const std::vector<std::string> first(names_.begin(), names_.begin() + static_cast<ptrdiff_t>(std::min(kNamesShown, names_.size())));
    const size_t left = names_.size() - first.size();
    return absl::StrJoin(first, ", ") + (left > 0 ? absl::StrCat(" and ", left, " more") : "");
  }

  void Column(const std::string& at, const std::string& name) {
    if (name.empty() || Has(name)) return;
    problems_.push_back(absl::StrCat(at, ": ", file_, ":1 has no column \"", name, "\"", DidYouMean(name, names_), "; it has ", Shown()));
  }

  // Many at once are one line: then it is another file, or another delimiter.
  void Features() {
    std::vector<std::pair<std::string, std::string>> missing;  // feature, column
    for (const FeatureConfig& f : config_.feature()) {
      const std::string& column = f.column().empty() ? f.name() : f.column();
      if (!Has(column)) missing.emplace_back(f.name(), column);
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
  std::vector<std::string> names_;
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
