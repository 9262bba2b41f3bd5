#include "worker/data/schema.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/stable_hash.h"
#include "common/strings.h"
#include "worker/data/columnar.h"

namespace tidegate {
namespace {

constexpr uint32_t kMaxToken = 1u << 20;

// `text` as prefix + number up to `max`; a leading zero only in "0" itself.
std::optional<uint32_t> Numbered(const std::string& text, char prefix, uint32_t max) {
  uint32_t n = 0;
  if (text.size() < 2 || text[0] != prefix || (text[1] == '0' && text.size() > 2)) return {};
  const auto [end, error] = std::from_chars(text.data() + 1, text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size() || n > max) return {};
  return n;
}
std::optional<uint32_t> From1(const std::string& text, char prefix, uint32_t max) {
  const auto n = Numbered(text, prefix, max);
  return n == 0u ? std::nullopt : n;
}

struct Layout {
  DataConfig::Format format;
  uint32_t numeric = 0;
  uint32_t categories = 0;
  std::vector<std::string> names;  // where they are the data's own

  bool tokens() const { return format == DataConfig::LIBSVM || format == DataConfig::LIBFFM; }
  bool named() const { return !names.empty(); }

  std::optional<uint32_t> Column(const std::string& name) const {
    if (named()) {
      const auto found = std::find(names.begin(), names.end(), name);
      if (found == names.end()) return std::nullopt;
      return static_cast<uint32_t>(found - names.begin());
    }
    if (name == "label") return DataSchema::kLabelColumn;
    if (tokens()) {
      if (name == "*") return DataSchema::kAllTokens;
      if (format == DataConfig::LIBSVM) return From1(name, '#', kMaxToken);
      const auto field = Numbered(name, '#', kMaxToken);
      return field ? std::optional<uint32_t>(*field + 1) : std::nullopt;
    }
    if (const auto k = From1(name, 'I', numeric)) return k;
    if (const auto k = From1(name, 'C', categories)) return numeric + *k;
    return std::nullopt;
  }
  bool IsNumeric(uint32_t column) const {
    if (named()) return true;
    return tokens() ? column != DataSchema::kAllTokens : column <= numeric;
  }
  bool IsLabel(uint32_t column) const { return !named() && column == DataSchema::kLabelColumn; }
  std::string Columns() const {
    if (named()) return absl::StrJoin(names, ", ");
    if (format == DataConfig::LIBSVM) return "label, #1, #2, ... or *";
    if (format == DataConfig::LIBFFM) return "label, #0, #1, ... (fields) or *";
    std::string out = "label";
    if (numeric > 0) absl::StrAppend(&out, ", I1..I", numeric);
    if (categories > 0) absl::StrAppend(&out, ", C1..C", categories);
    return out;
  }
};

absl::Status Bad(const FeatureConfig& f, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("feature \"", f.name(), "\": ", what));
}

absl::Status AddFeature(const FeatureConfig& f, const Layout& layout, DataSchema* schema) {
  const std::string& name = f.column().empty() ? f.name() : f.column();
  const auto column = layout.Column(name);
  if (!column)
    return Bad(f, absl::StrCat("no column \"", name, "\"; there are ", layout.Columns()));
  if (layout.IsLabel(*column)) return Bad(f, "the label cannot be a feature");
  const bool bucket = f.numeric().transform() == NumericFeature::LOG2_BUCKET;
  if (f.has_numeric() && !layout.IsNumeric(*column)) {
    return Bad(f, absl::StrCat("column \"", name, "\" is not numeric"));
  }
  if (!f.has_table()) {
    if (!f.has_numeric()) return Bad(f, "an id feature needs a table");
    if (bucket) return Bad(f, "transform LOG2_BUCKET makes ids and needs a table");
    schema->numeric.push_back(
        {f.name(), *column, f.numeric().transform(), f.numeric().missing_value()});
    return absl::OkStatus();
  }
  if (f.has_numeric() && !bucket) {
    return Bad(f, "a numeric feature with a table needs transform: LOG2_BUCKET");
  }
  if (f.id().use_values() && !layout.tokens()) {
    return Bad(f, "use_values is for the index:value of LIBSVM and LIBFFM");
  }
  const uint64_t salt = SaltOf(f.has_salt() && !f.salt().empty() ? f.salt() : f.name());
  const uint64_t buckets = f.id().hash_buckets();
  const Key missing = buckets == 0 ? MissingKey(salt) : MissingKey(salt) % buckets;
  schema->features.push_back({f.name(), *column, salt, missing, bucket,
                              f.id().missing() == IdFeature::SKIP, f.id().use_values(),
                              f.id().max_values(), f.id().multi_valued(), f.id().overlong(),
                              buckets, f.id().separator().empty() ? '|' : f.id().separator()[0]});
  return absl::OkStatus();
}

absl::Status AddLabel(const TaskConfig& task, const Layout& layout, DataSchema* schema) {
  const bool unit = task.loss() == TaskConfig::BCE || task.loss() == TaskConfig::BPR;
  for (DataSchema::Label& l : schema->labels) {
    if (l.name != task.label()) continue;
    l.unit_interval |= unit;
    return absl::OkStatus();
  }
  if (schema->negatives.per_positive > 0 || !schema->targets) {  // 1 and 0 by themselves; not read
    schema->labels.push_back({task.label(), DataSchema::kNoColumn, unit});
    return absl::OkStatus();
  }
  const auto column = layout.Column(task.label());
  if (!column || !layout.IsNumeric(*column)) {
    return absl::InvalidArgumentError(
        absl::StrCat("task \"", task.name(), "\": no numeric column \"", task.label(),
                     "\" for its label; there are ", layout.Columns()));
  }
  schema->labels.push_back({task.label(), *column, unit});
  return absl::OkStatus();
}

absl::Status AddColumn(const std::string& field, const std::string& name, bool number,
                       const Layout& layout, uint32_t* to) {
  if (name.empty()) return absl::OkStatus();
  const auto column = layout.Column(name);
  if (!column || *column == DataSchema::kAllTokens || (number && !layout.IsNumeric(*column))) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": no ", number ? "numeric " : "",
                                                   "column \"", name, "\"; there are ",
                                                   layout.Columns()));
  }
  *to = *column;
  return absl::OkStatus();
}

absl::Status AddTargetColumns(const DataConfig& data, const Layout& layout, DataSchema* schema) {
  absl::Status s = AddColumn("data.weight", data.weight(), true, layout, &schema->weight);
  if (s.ok()) s = AddColumn("data.group", data.group(), false, layout, &schema->group);
  if (s.ok()) s = AddColumn("data.timestamp", data.timestamp(), true, layout, &schema->timestamp);
  return s;
}

absl::Status AddNegatives(const NegativeSampling& n, const Layout& layout, DataSchema* schema) {
  if (!layout.named()) {
    return absl::InvalidArgumentError(
        "data.negatives: needs columns with names: format CSV, NPZ or PARQUET");
  }
  uint32_t column = DataSchema::kNoColumn;
  if (n.column().empty() || n.per_positive() == 0 || n.values() == 0) {
    return absl::InvalidArgumentError(
        "data.negatives: column, per_positive and values must be set and above 0");
  }
  absl::Status s = AddColumn("data.negatives.column", n.column(), false, layout, &column);
  if (!s.ok()) return s;
  schema->negatives = {column, n.per_positive(), n.values(), DataSchema::kNoColumn};
  return AddColumn("data.negatives.exclude_seen_by", n.exclude_seen_by(), false, layout,
                   &schema->negatives.seen_by);
}

absl::Status AddRanking(const FullRanking& r, const Layout& layout, DataSchema* schema) {
  if (!layout.named()) {
    return absl::InvalidArgumentError(
        "data.full_ranking: needs columns with names: format CSV, NPZ, PARQUET or NCF_NEGATIVES");
  }
  if (schema->group == DataSchema::kNoColumn || r.column().empty()) {
    return absl::InvalidArgumentError("data.full_ranking: column and data.group must be set");
  }
  absl::Status s = AddColumn("data.full_ranking.column", r.column(), false, layout, &schema->ranking.item);
  for (const std::string& name : r.attribute()) {
    uint32_t column = DataSchema::kNoColumn;
    if (s.ok()) s = AddColumn("data.full_ranking.attribute", name, false, layout, &column);
    schema->ranking.attributes.push_back(column);
  }
  return s;
}

// The columns that the job reads, without doubles.
std::vector<std::string> WantedColumns(const JobConfig& config, const DataSchema::Side& side) {
  const DataConfig& data = config.data();
  std::vector<std::string> wanted;
  const auto want = [&](const std::string& name) {
    if (name.empty() || std::find(wanted.begin(), wanted.end(), name) != wanted.end()) return;
    wanted.push_back(name);
  };
  if (side.targets && !(side.training && data.has_negatives())) {
    for (const TaskConfig& t : config.model().task()) want(t.label());
  }
  for (const FeatureConfig& f : config.feature()) want(f.column().empty() ? f.name() : f.column());
  if (side.targets) {
    want(data.weight());
    want(data.group());
    want(data.timestamp());
    want(data.full_ranking().column());
    for (const std::string& name : data.full_ranking().attribute()) want(name);
  }
  if (!side.training) return wanted;
  want(data.negatives().column());
  want(data.negatives().exclude_seen_by());
  return wanted;
}

absl::Status AddLayout(const JobConfig& config, const DataSchema::Side& side, Layout* layout,
                       DataSchema* schema) {
  const CsvFormat& csv = config.data().csv();
  switch (schema->format) {
    case DataConfig::LIBSVM:
    case DataConfig::LIBFFM:
      break;
    case DataConfig::CRITEO_TSV:
      layout->numeric = kCriteoNumeric;
      layout->categories = kCriteoCategories;
      schema->columns = 1 + kCriteoNumeric + kCriteoCategories;
      break;
    case DataConfig::GENERATED:
      schema->generator = config.data().generator();
      layout->numeric = schema->generator.numeric_fields();
      layout->categories = static_cast<uint32_t>(schema->generator.cardinality_size());
      schema->columns = 1 + layout->numeric + layout->categories;
      break;
    case DataConfig::CSV:
      schema->csv.delimiter = csv.delimiter().empty() ? ',' : csv.delimiter()[0];
      schema->csv.header = csv.header();
      layout->names = side.names;
      if (layout->names.empty()) layout->names.assign(csv.column().begin(), csv.column().end());
      break;
    case DataConfig::NPZ:
    case DataConfig::PARQUET:
      schema->csv.delimiter = columnar::kFieldEnd;
      schema->csv.header = schema->csv.quotes = false;
      layout->names = WantedColumns(config, side);
      break;
    case DataConfig::NCF_NEGATIVES:
      layout->names = {"label", "user", "item"};
      break;
    default:
      return absl::InvalidArgumentError(absl::StrCat(
          "data.format is not set: LIBSVM, LIBFFM, CRITEO_TSV, CSV, NPZ, PARQUET or GENERATED"));
  }
  if (schema->format == DataConfig::CSV && layout->names.empty()) {
    return absl::InvalidArgumentError("data.csv.column: the columns have no names");
  }
  schema->csv.names = layout->names;
  if (layout->named()) schema->columns = static_cast<uint32_t>(layout->names.size());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DataSchema> DataSchema::Compile(const JobConfig& config) {
  return Compile(config, Side{});
}

absl::StatusOr<DataSchema> DataSchema::Compile(const JobConfig& config, const Side& side) {
  const DataConfig& data = config.data();
  DataSchema schema;
  schema.format = side.format == DataConfig::UNSET ? data.format() : side.format;
  schema.targets = side.targets;
  Layout layout{schema.format, 0, 0, {}};
  absl::Status s = AddLayout(config, side, &layout, &schema);
  if (s.ok() && side.training && data.has_negatives()) {
    s = AddNegatives(data.negatives(), layout, &schema);
  }
  if (s.ok() && side.targets) s = AddTargetColumns(data, layout, &schema);
  if (s.ok() && side.targets && data.has_full_ranking()) s = AddRanking(data.full_ranking(), layout, &schema);
  if (!s.ok()) return s;
  for (const FeatureConfig& f : config.feature()) {
    if (s = AddFeature(f, layout, &schema); !s.ok()) return s;
  }
  for (const TaskConfig& t : config.model().task()) {
    if (s = AddLabel(t, layout, &schema); !s.ok()) return s;
  }
  return schema;
}

void DataSchema::Prepare(Batch* batch) const {
  batch->features.resize(features.size());
  batch->numeric.resize(numeric.size());
  batch->labels.resize(labels.size());
  batch->Clear();
}

const char* FormatHint(DataConfig::Format format) {
  switch (format) {
    case DataConfig::LIBSVM:
      return "LIBSVM: `label index:value index:value ...`, separated by spaces";
    case DataConfig::LIBFFM:
      return "LIBFFM: `label field:index:value field:index:value ...`, separated by spaces";
    case DataConfig::CRITEO_TSV:
      return "CRITEO_TSV: label, 13 integers and 26 categories, separated by tabs, 40 columns in "
             "all";
    case DataConfig::CSV:
      return "CSV: the columns of data.csv or of the files' first line, separated by its delimiter";
    case DataConfig::NPZ:
      return "NPZ: one array per column, with one row per sample";
    case DataConfig::PARQUET:
      return "PARQUET: columns by name";
    case DataConfig::NCF_NEGATIVES:
      return "NCF_NEGATIVES: `(user,item)` and the negative items, separated by tabs";
    case DataConfig::GENERATED:
      return "GENERATED: no file";
    default:
      return "not set";
  }
}

}  // namespace tidegate
