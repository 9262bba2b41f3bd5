#include "common/export/warm_start.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/export/export_reader.h"

namespace tidegate {
namespace {

struct Place {
  TableId table = 0;
  size_t part = 0;
};

template <typename Tables>
std::map<std::string, Place> TensorsOf(const Tables& tables) {
  std::map<std::string, Place> out;
  for (const TableSpec& table : tables) {
    for (int p = 0; p < table.parts_size(); ++p) out[PartTensor(table, table.parts(p))] = {table.id(), static_cast<size_t>(p)};
  }
  return out;
}

std::string Names(const std::map<std::string, Place>& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, place] : tensors) names.push_back(name);
  return absl::StrJoin(names, ", ");
}

// What must be equal: of a sparse part the elements of a row, of a dense tensor its shape.
std::string Shape(const TableSpec& table, size_t part) {
  if (table.kind() == TableSpec::DENSE) return absl::StrCat("shape [", absl::StrJoin(table.shape(), ", "), "]");
  return absl::StrCat("rows of ", table.parts(static_cast<int>(part)).dim());
}

std::string SourceName(const InitFrom& init, const std::string& name) {
  const auto it = init.map().find(name);
  return it == init.map().end() ? name : it->second;
}

// What decides a feature's keys, as people would write it.
std::string KeyRecipe(const FeatureConfig& f) {
  std::string recipe = absl::StrCat("salt \"", f.has_salt() && !f.salt().empty() ? f.salt() : f.name(), "\"");
  if (f.id().hash_buckets() > 0) absl::StrAppend(&recipe, ", hash_buckets ", f.id().hash_buckets());
  if (f.has_numeric()) absl::StrAppend(&recipe, ", transform ", NumericFeature::Transform_Name(f.numeric().transform()));
  return recipe;
}

}  // namespace

absl::StatusOr<std::vector<WarmPart>> MatchTensors(const InitFrom& init, std::span<const TableSpec> tables,
                                                   const ExportSpec& spec) {
  const std::map<std::string, Place> here = TensorsOf(tables), there = TensorsOf(spec.tables());
  for (const auto& [name, source] : init.map()) {
    if (!here.contains(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("train.init_from.map: the job has no tensor \"", name, "\"; it has ", Names(here)));
    }
    if (!there.contains(source)) {
      return absl::InvalidArgumentError(
          absl::StrCat("train.init_from.map: ", init.export_(), " has no tensor \"", source, "\"; it has ", Names(there)));
    }
  }
  std::vector<WarmPart> out;
  for (const auto& [name, place] : here) {
    const std::string source = SourceName(init, name);
    const auto found = there.find(source);
    if (found == there.end()) {
      if (!init.strict()) continue;
      return absl::FailedPreconditionError(absl::StrCat("train.init_from: ", init.export_(), " has no tensor \"", source,
                                                        "\": map it, or set strict: false to leave it as initialised"));
    }
    const std::string want = Shape(tables[place.table], place.part);
    const std::string have = Shape(spec.tables(static_cast<int>(found->second.table)), found->second.part);
    if (want != have) {
      return absl::FailedPreconditionError(absl::StrCat("train.init_from: \"", name, "\" has ", want, ", and \"", source,
                                                        "\" of ", init.export_(), " has ", have));
    }
    out.push_back({place.table, place.part, found->second.table, found->second.part});
  }
  return out;
}

absl::Status CheckWarmKeys(const InitFrom& init, const JobConfig& job, const ExportSpec& spec) {
  if (!init.strict()) return absl::OkStatus();
  for (const FeatureConfig& feature : job.feature()) {
    const auto table = std::find_if(job.table().begin(), job.table().end(),
                                    [&](const TableConfig& t) { return t.name() == feature.table(); });
    if (feature.table().empty() || table == job.table().end() || table->part().empty()) continue;
    const std::string source = SourceName(init, absl::StrCat(table->name(), ".", table->part(0).name()));
    const std::string source_table = source.substr(0, source.rfind('.'));
    const bool made = std::any_of(spec.features().begin(), spec.features().end(), [&](const FeatureConfig& f) {
      return f.table() == source_table && KeyRecipe(f) == KeyRecipe(feature);
    });
    if (made) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("train.init_from: feature \"", feature.name(), "\" (", KeyRecipe(feature), ") has other keys than every feature of \"",
                     source_table, "\" in ", init.export_(), ": set its salt as there, or strict: false to start it anew"));
  }
  return absl::OkStatus();
}

}  // namespace tidegate
