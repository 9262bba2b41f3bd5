#include "worker/data/schema.h"

#include <charconv>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/stable_hash.h"
#include "common/strings.h"

namespace tidegate {
namespace {

// `text` as prefix + number in [1, max]; 0 if it is something else.
uint32_t Numbered(const std::string& text, char prefix, uint32_t max) {
  uint32_t n = 0;
  if (text.size() < 2 || text[0] != prefix || text[1] == '0') return 0;
  const auto [end, error] = std::from_chars(text.data() + 1, text.data() + text.size(), n);
  return error == std::errc() && end == text.data() + text.size() && n <= max ? n : 0;
}

struct Layout {
  DataConfig::Format format;
  uint32_t numeric = 0;
  uint32_t categories = 0;

  std::optional<uint32_t> Column(const std::string& name) const {
    if (name == "label") return DataSchema::kLabelColumn;
    if (format == DataConfig::LIBSVM) {
      if (name == "*") return DataSchema::kAllTokens;
      if (const uint32_t k = Numbered(name, '#', 1u << 20)) return k;
      return std::nullopt;
    }
    if (const uint32_t k = Numbered(name, 'I', numeric)) return k;
    if (const uint32_t k = Numbered(name, 'C', categories)) return numeric + k;
    return std::nullopt;
  }
  bool IsNumeric(uint32_t column) const {
    return format == DataConfig::LIBSVM ? column != DataSchema::kAllTokens : column <= numeric;
  }
  std::string Columns() const {
    if (format == DataConfig::LIBSVM) return "label, #1, #2, ... or *";
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
  if (*column == DataSchema::kLabelColumn) return Bad(f, "the label cannot be a feature");
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
  if (f.id().use_values() && layout.format != DataConfig::LIBSVM) {
    return Bad(f, "use_values is for LIBSVM's index:value");
  }
  const uint64_t salt = SaltOf(f.has_salt() && !f.salt().empty() ? f.salt() : f.name());
  schema->features.push_back({f.name(), *column, salt, MissingKey(salt), bucket,
                              f.id().missing() == IdFeature::SKIP, f.id().use_values(),
                              f.id().max_values()});
  return absl::OkStatus();
}

absl::Status AddLabel(const TaskConfig& task, const Layout& layout, DataSchema* schema) {
  const bool unit = task.loss() == TaskConfig::BCE;
  for (DataSchema::Label& l : schema->labels) {
    if (l.name != task.label()) continue;
    l.unit_interval |= unit;
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

}  // namespace

absl::StatusOr<DataSchema> DataSchema::Compile(const JobConfig& config) {
  DataSchema schema;
  schema.format = config.data().format();
  Layout layout{schema.format};
  switch (schema.format) {
    case DataConfig::LIBSVM:
      break;
    case DataConfig::CRITEO_TSV:
      layout.numeric = kCriteoNumeric;
      layout.categories = kCriteoCategories;
      schema.columns = 1 + kCriteoNumeric + kCriteoCategories;
      break;
    case DataConfig::GENERATED:
      schema.generator = config.data().generator();
      layout.numeric = schema.generator.numeric_fields();
      layout.categories = static_cast<uint32_t>(schema.generator.cardinality_size());
      schema.columns = 1 + layout.numeric + layout.categories;
      break;
    default:
      return absl::InvalidArgumentError("data.format is not set: LIBSVM, CRITEO_TSV or GENERATED");
  }
  for (const FeatureConfig& f : config.feature()) {
    if (absl::Status s = AddFeature(f, layout, &schema); !s.ok()) return s;
  }
  for (const TaskConfig& t : config.model().task()) {
    if (absl::Status s = AddLabel(t, layout, &schema); !s.ok()) return s;
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
    case DataConfig::CRITEO_TSV:
      return "CRITEO_TSV: label, 13 integers and 26 categories, separated by tabs, 40 columns in "
             "all";
    case DataConfig::GENERATED:
      return "GENERATED: no file";
    default:
      return "not set";
  }
}

}  // namespace tidegate
