// The checks of data and features.
#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/job_config/check.h"
#include "common/job_config/job_config.h"

namespace tidegate {
namespace {

constexpr uint64_t kWindowMax = 1ull << 28;
constexpr uint64_t kTokenMax = 1u << 20;
constexpr uint32_t kNegativesMax = 1000;

// Number after `prefix` when `column` is prefix + number in [first, last].
bool Numbered(const std::string& column, const std::string& prefix, uint64_t first, uint64_t last) {
  if (column.size() <= prefix.size() || column.size() > prefix.size() + 7 ||
      column.compare(0, prefix.size(), prefix) != 0) {
    return false;
  }
  uint64_t n = 0;
  for (size_t i = prefix.size(); i < column.size(); ++i) {
    if (column[i] < '0' || column[i] > '9') return false;
    n = n * 10 + static_cast<uint64_t>(column[i] - '0');
  }
  return n >= first && n <= last;
}

// What a format's columns are, as far as the config says.
class Columns {
 public:
  Columns(const DataConfig& data, DataConfig::Format format) : data_(data), format_(format) {
    if (format == DataConfig::CSV) names_.assign(data.csv().column().begin(), data.csv().column().end());
    if (format == DataConfig::NCF_NEGATIVES) names_ = {"label", "user", "item"};
  }

  DataConfig::Format format() const { return format_; }
  bool tokens() const { return format_ == DataConfig::LIBSVM || format_ == DataConfig::LIBFFM; }
  // The columns have names of their own, perhaps only in the data.
  bool named() const {
    return format_ == DataConfig::CSV || format_ == DataConfig::NPZ ||
           format_ == DataConfig::PARQUET || format_ == DataConfig::NCF_NEGATIVES;
  }
  bool IsAll(const std::string& c) const { return tokens() && c == "*"; }
  bool IsLabel(const std::string& c) const { return !named() && c == "label"; }
  bool IsNumber(const std::string& c) const {
    if (named()) return Has(c);
    return IsLabel(c) || (Has(c) && (tokens() ? !IsAll(c) : c[0] == 'I'));
  }
  // A feature's.
  bool Has(const std::string& c) const {
    const GeneratorConfig& g = data_.generator();
    switch (format_) {
      case DataConfig::LIBSVM: return c == "*" || Numbered(c, "#", 1, kTokenMax);
      case DataConfig::LIBFFM: return c == "*" || Numbered(c, "#", 0, kTokenMax);
      case DataConfig::CRITEO_TSV: return Numbered(c, "I", 1, 13) || Numbered(c, "C", 1, 26);
      case DataConfig::GENERATED:
        return Numbered(c, "I", 1, g.numeric_fields()) ||
               Numbered(c, "C", 1, static_cast<uint64_t>(g.cardinality_size()));
      default: break;
    }
    return names_.empty() || std::find(names_.begin(), names_.end(), c) != names_.end();
  }
  // Why there is no column `c`.
  std::string Hint(const std::string& c) const {
    switch (format_) {
      case DataConfig::LIBSVM: return "a LIBSVM column is \"#k\" (k-th token) or \"*\" (all)";
      case DataConfig::LIBFFM: return "a LIBFFM column is \"#f\" (the values of field f) or \"*\" (all)";
      case DataConfig::CRITEO_TSV: return "CRITEO_TSV has I1 to I13 and C1 to C26";
      case DataConfig::GENERATED:
        return absl::StrCat("the generator has ", data_.generator().numeric_fields(),
                            " numeric columns (I1, ...) and ", data_.generator().cardinality_size(),
                            " categorical (C1, ...)");
      default: break;
    }
    return absl::StrCat(DataConfig::Format_Name(format_), " has ", absl::StrJoin(names_, ", "),
                        DidYouMean(c, names_));
  }

 private:
  const DataConfig& data_;
  const DataConfig::Format format_;
  std::vector<std::string> names_;
};

class DataChecker {
 public:
  DataChecker(const JobConfig& config, std::vector<std::string>* problems)
      : config_(config), data_(config.data()), problems_(*problems) {}

  void Run() {
    if (!config_.has_data()) return Problem("data is missing: say what to train on");
    if (data_.format() == DataConfig::UNSET) {
      return Problem("data.format is missing: LIBSVM, LIBFFM, CRITEO_TSV, CSV, NPZ, PARQUET or GENERATED");
    }
    if (!data_.has_train()) Problem("data.train is missing: say what to train on");
    if (data_.has_train()) SourceOf("data.train", data_.train(), data_.format());
    if (data_.has_valid()) SourceOf("data.valid", data_.valid(), ValidFormat());
    if (data_.has_valid_format() && data_.valid_format() == DataConfig::UNSET) {
      Problem("data.valid_format is UNSET: leave it out to read data.valid as data.format");
    }
    if (data_.format() == DataConfig::NCF_NEGATIVES) {
      Problem("data.format: NCF_NEGATIVES is a format of data.valid: say valid_format");
    }
    if (data_.format() == DataConfig::GENERATED || ValidFormat() == DataConfig::GENERATED) Generator(data_.generator());
    Csv();
    Streams();
    const Columns train(data_, data_.format());
    Negatives(train);
    SideOf(train, data_.has_negatives());
    if (data_.has_valid() && (ValidFormat() != data_.format() || data_.has_negatives())) {
      SideOf(Columns(data_, ValidFormat()), false);
    }
    if (data_.has_full_ranking()) Ranking(data_.full_ranking(), train, Columns(data_, ValidFormat()));
    for (const TableConfig& t : config_.table()) tables_.push_back(t.name());
    Features();
  }

 private:
  template <typename... T>
  void Problem(const T&... pieces) {
    problems_.push_back(absl::StrCat(pieces...));
  }
  DataConfig::Format ValidFormat() const {
    return data_.has_valid_format() ? data_.valid_format() : data_.format();
  }

  void SourceOf(const std::string& field, const Source& s, DataConfig::Format format) {
    if (format == DataConfig::GENERATED) {
      if (s.rows() == 0) Problem(field, ".rows: how many rows to generate is missing");
      if (s.rows() > (1ull << 40)) Problem(field, ".rows is ", s.rows(), "; at most 2^40");
      if (!s.files().empty()) Problem(field, ".files: format GENERATED reads no files");
    } else if (s.files().empty()) {
      Problem(field, ".files: no file is named");
    }
    if (s.shuffle_window() > kWindowMax) {
      Problem(field, ".shuffle_window is ", s.shuffle_window(), "; at most 2^28");
    }
  }

  // A stream is read once, in order, by one worker at a time.
  void Streams() {
    if (data_.valid().sequential()) Problem("data.valid.sequential: only data.train can be a stream");
    const Source& s = data_.train();
    const std::string at = "data.train.sequential";
    const bool from_stdin = std::find(s.files().begin(), s.files().end(), "-") != s.files().end();
    if (!s.sequential()) {
      if (from_stdin) Problem("data.train.files: \"-\" (standard input) needs sequential: true");
      return;
    }
    const DataConfig::Format f = data_.format();
    if (f != DataConfig::LIBSVM && f != DataConfig::LIBFFM && f != DataConfig::CRITEO_TSV && f != DataConfig::CSV) {
      Problem(at, ": ", DataConfig::Format_Name(f), " cannot be read from a stream");
    }
    if (f == DataConfig::CSV && data_.csv().header()) {
      Problem(at, ": CSV from a stream has no header: say csv { header: false } and its columns");
    }
    const auto staleness = ParseStaleness(config_.train().staleness());
    if (staleness.ok() && staleness->sync) {
      Problem(at, ": a stream needs train.staleness above 0 (at 0 every worker reads all the data)");
    }
    if (config_.train().epochs() != 1) Problem(at, ": a stream is read once: train.epochs is ", config_.train().epochs());
    if (!data_.negatives().exclude_seen_by().empty()) {
      Problem(at, ": data.negatives.exclude_seen_by would read the stream twice");
    }
    if (from_stdin && config_.cluster().workers() != 1) {
      Problem(at, ": standard input is one worker's: cluster.workers is ", config_.cluster().workers());
    }
  }

  void Generator(const GeneratorConfig& g) {
    const std::string at = "data.generator.";
    if (g.cardinality_size() + static_cast<int64_t>(g.numeric_fields()) == 0) {
      Problem(at, "cardinality: there is no field to generate");
    }
    if (g.cardinality_size() > 4096 || g.numeric_fields() > 4096) {
      Problem(at, "cardinality and numeric_fields: at most 4096 fields of each");
    }
    for (uint64_t c : g.cardinality()) {
      if (c == 0 || c > (1ull << 40)) Problem(at, "cardinality is ", c, "; from 1 to 2^40");
    }
    CheckRange(at + "zipf_exponent", g.zipf_exponent(), 0, false, 10, true, &problems_);
    CheckRange(at + "factors", g.factors(), 0, true, 256, true, &problems_);
    CheckRange(at + "linear_scale", g.linear_scale(), 0, true, 1e3, true, &problems_);
    CheckRange(at + "factor_scale", g.factor_scale(), 0, true, 1e3, true, &problems_);
    CheckRange(at + "bias", g.bias(), -1e3, true, 1e3, true, &problems_);
    CheckRange(at + "missing_rate", g.missing_rate(), 0, true, 1, false, &problems_);
  }

  void Csv() {
    const bool reads = data_.format() == DataConfig::CSV || ValidFormat() == DataConfig::CSV;
    const CsvFormat& csv = data_.csv();
    if (!reads) {
      if (data_.has_csv()) Problem("data.csv is for format CSV");
      return;
    }
    if (csv.delimiter().size() != 1 || csv.delimiter()[0] == '"' || csv.delimiter()[0] == '\n') {
      Problem("data.csv.delimiter: one byte, no quote or line end (\"\\t\" for tabs)");
    }
    if (!csv.header() && csv.column().empty()) {
      Problem("data.csv.column: files without a header need the names of their columns here");
    }
    std::vector<std::string> names(csv.column().begin(), csv.column().end());
    std::sort(names.begin(), names.end());
    if (!names.empty() && names.front().empty()) Problem("data.csv.column: a name is empty");
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) Problem("data.csv.column: \"", *twice, "\" is there twice");
  }

  void Negatives(const Columns& train) {
    if (!data_.has_negatives()) return;
    const NegativeSampling& n = data_.negatives();
    const std::string at = "data.negatives.";
    if (!train.named()) Problem("data.negatives needs columns with names: format CSV, NPZ or PARQUET");
    for (const auto& [field, column] : {std::pair("column", n.column()),
                                        std::pair("exclude_seen_by", n.exclude_seen_by())}) {
      if (!column.empty() && train.named() && !train.Has(column)) {
        Problem(at, field, ": no column \"", column, "\": ", train.Hint(column));
      }
    }
    if (n.column().empty()) Problem(at, "column: say which column's values are drawn");
    if (n.per_positive() < 1 || n.per_positive() > kNegativesMax) {
      Problem(at, "per_positive is ", n.per_positive(), "; from 1 to ", kNegativesMax);
    }
    if (n.values() == 0) Problem(at, "values: say how many there are (0 to values - 1 are drawn)");
    if (n.per_positive() + uint64_t{1} > config_.train().global_batch()) {
      Problem("train.global_batch is ", config_.train().global_batch(),
              ", fewer samples than a positive and its negatives (", n.per_positive() + 1, ")");
    }
  }

  void Ranking(const FullRanking& r, const Columns& train, const Columns& valid) {
    const std::string at = "data.full_ranking";
    if (!data_.has_valid()) Problem(at, " ranks the positives of data.valid, which is missing");
    if (!data_.has_group()) Problem(at, " needs data.group, the column of the user's id");
    const bool reads_train = r.exclude_seen() || r.files().empty();
    if (data_.train().sequential() && reads_train) {
      Problem(at, " would read the stream of data.train twice: name files and say exclude_seen: false");
    }
    for (const Columns* side : {&train, &valid}) {
      if (!side->named()) {
        Problem(at, " needs columns with names, not ", DataConfig::Format_Name(side->format()));
        return;
      }
    }
    RankedColumn(at + ".column", r.column(), train, valid);
    std::vector<std::string> names{r.column(), data_.group()};
    for (const std::string& name : r.attribute()) {
      RankedColumn(at + ".attribute", name, train, valid);
      names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) Problem(at, ": column, attributes and data.group must differ; \"", *twice, "\" is there twice");
    const auto& tasks = config_.model().task();
    for (const TaskConfig& t : tasks) {
      if (t.label() != tasks[0].label()) Problem(at, " ranks by one label; task \"", t.name(), "\" has another");
    }
  }
  void RankedColumn(const std::string& at, const std::string& c, const Columns& train, const Columns& valid) {
    if (c.empty()) return Problem(at, ": name a column");
    for (const Columns* side : {&train, &valid}) {
      if (!side->Has(c)) return Problem(at, ": no column \"", c, "\": ", side->Hint(c));
    }
    for (const FeatureConfig& f : config_.feature()) {
      if (f.column() == c) return;
    }
    Problem(at, ": no feature reads column \"", c, "\": all items would score the same");
  }

  // The columns that are no features. `drawn`: labels come with the negatives.
  void SideOf(const Columns& columns, bool drawn) {
    const auto check = [&](const std::string& field, const std::string& c, bool number) {
      if (c.empty() || (number ? columns.IsNumber(c) : columns.Has(c) && !columns.IsAll(c))) return;
      Problem(field, ": no ", number ? "numeric " : "", "column \"", c, "\": ", columns.Hint(c),
              columns.named() ? "" : ", and label");
    };
    check("data.weight", data_.weight(), true);
    check("data.group", data_.group(), false);
    check("data.timestamp", data_.timestamp(), true);
    if (drawn) return;
    for (const TaskConfig& t : config_.model().task()) {
      check(absl::StrCat("task \"", t.name(), "\": label"), t.label(), true);
    }
  }

  void Column(const FeatureConfig& f, const std::string& at, const Columns& columns) {
    const std::string& c = f.column();
    if (!columns.Has(c)) return Problem(at, "column \"", c, "\": ", columns.Hint(c));
    if (columns.IsAll(c) && !f.id().multi_valued()) {
      Problem(at, "column \"*\" has many values: say id { multi_valued: true }");
    }
    const bool many = columns.tokens() || columns.named();
    if (f.id().multi_valued() && !many) {
      Problem(at, "id.multi_valued: ", DataConfig::Format_Name(columns.format()),
              " has no columns of many values");
    }
    if (f.id().use_values() && !columns.tokens()) {
      Problem(at, "id.use_values: only LIBSVM and LIBFFM have index:value");
    }
  }

  // What is wrong with all features of a range is said once.
  void Features() {
    std::vector<std::pair<std::string, std::vector<std::string>>> found;  // problem, features
    for (const FeatureConfig& f : config_.feature()) {
      const size_t before = problems_.size();
      Feature(f);
      for (size_t i = before; i < problems_.size(); ++i) {
        auto same = std::find_if(found.begin(), found.end(), [&](const auto& p) { return p.first == problems_[i]; });
        if (same == found.end()) same = found.insert(same, {problems_[i], {}});
        same->second.push_back(f.name());
      }
      problems_.resize(before);
    }
    for (const auto& [problem, names] : found) {
      Problem("feature \"", names[0], "\"",
              names.size() > 1 ? absl::StrCat(" and ", names.size() - 1, " more (to \"", names.back(), "\")") : "", ": ", problem);
    }
  }

  void Feature(const FeatureConfig& f) {
    const std::string at;
    Column(f, at, Columns(data_, data_.format()));
    if (data_.has_valid() && ValidFormat() != data_.format()) {
      Column(f, at, Columns(data_, ValidFormat()));
    }
    if (f.id().separator().size() != 1) Problem(at, "id.separator: one byte");
    if (f.id().has_separator() && data_.format() == DataConfig::CSV &&
        f.id().separator() == data_.csv().delimiter()) {
      Problem(at, "id.separator is data.csv.delimiter");
    }
    if (f.id().overlong() == IdFeature::REFUSE && f.id().max_values() == 0) {
      Problem(at, "id.overlong: REFUSE needs max_values");
    }
    if (f.has_table() && std::find(tables_.begin(), tables_.end(), f.table()) == tables_.end()) {
      Problem(at, "table \"", f.table(), "\" does not exist", DidYouMean(f.table(), tables_));
    }
    if (f.has_id() && !f.has_table()) Problem(at, "an id needs a table");
    if (!f.has_numeric()) return;
    const bool bucket = f.numeric().transform() == NumericFeature::LOG2_BUCKET;
    if (bucket && !f.has_table()) Problem(at, "LOG2_BUCKET makes an id, which needs a table");
    if (!bucket && f.has_table()) {
      Problem(at, "a number looks up a table only by transform LOG2_BUCKET");
    }
    if (!bucket && !std::isfinite(f.numeric().missing_value())) {
      Problem(at, "missing_value must be finite");
    }
  }

  const JobConfig& config_;
  const DataConfig& data_;
  std::vector<std::string>& problems_;
  std::vector<std::string> tables_;
};

}  // namespace

void CheckRange(const std::string& field, double value, double low, bool low_closed, double high,
                bool high_closed, std::vector<std::string>* problems) {
  const bool ok = std::isfinite(value) && (low_closed ? value >= low : value > low) &&
                  (high_closed ? value <= high : value < high);
  if (ok) return;
  const std::string upper =
      std::isinf(high) ? "" : absl::StrCat(" and ", high_closed ? "at most " : "below ", high);
  problems->push_back(absl::StrCat(field, " is ", value, "; it must be finite, ",
                                   low_closed ? "at least " : "above ", low, upper));
}

void CheckData(const JobConfig& config, std::vector<std::string>* problems) {
  DataChecker(config, problems).Run();
}

}  // namespace tidegate
