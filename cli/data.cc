// `tidegate data`: what a job's features find in its data. Starts nothing.

#include <algorithm>
#include <cmath>
#include <iostream>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cli/command.h"
#include "cli/data_profile.h"
#include "cli/flags.h"
#include "cli/json.h"
#include "cli/key_texts.h"
#include "cli/status_text.h"
#include "common/job_config/job_config.h"
#include "worker/data/readers.h"

DEFINE_uint64(limit, 200000, "rows to read; 0: all");
DEFINE_uint32(top, 3, "keys to show a feature");
DEFINE_bool(valid, false, "");

namespace tidegate::cli {
namespace {

constexpr size_t kExactMax = 200000;
constexpr size_t kShownRows = 3;
constexpr size_t kShownKeys = 6;
constexpr size_t kTextShown = 60;
constexpr uint64_t kTextLines = 20000;  // read for texts of keys

std::string Hex(Key key) { return absl::StrFormat("%016x", key); }

struct DataReport {
  DataSchema schema;
  DataProfile profile;
  Batch sample;  // the first rows
  bool all = false;
  uint64_t bad_lines = 0;
  std::vector<std::pair<std::string, BadLines::Reason>> reasons;  // by falling count
  KeyTexts texts;
};

// Of the keys that are shown.
absl::Status AddTexts(const Source& source, DataReport* report) {
  std::set<std::pair<size_t, Key>> wanted;
  const std::vector<FeatureProfile> features = report->profile.Features(FLAGS_top);
  for (size_t f = 0; f < features.size(); ++f) {
    for (const auto& [key, count] : features[f].top) wanted.insert({f, key});
    const FeatureColumn& column = report->sample.features[f];
    for (uint32_t i = 0; i < column.offsets[std::min(report->sample.rows, kShownRows)]; ++i) wanted.insert({f, column.keys[i]});
  }
  auto texts = FindKeyTexts(report->schema, source, std::move(wanted), kTextLines);
  if (!texts.ok()) return texts.status();
  report->texts = *std::move(texts);
  return absl::OkStatus();
}

// A key with its text, where that is known: `3e31f71accf5169a "7"`.
std::string KeyText(const DataReport& report, size_t feature, Key key) {
  const auto text = report.texts.find({feature, key});
  return text == report.texts.end() ? Hex(key) : absl::StrCat(Hex(key), " ", JsonQuoted(text->second.substr(0, kTextShown)));
}

absl::StatusOr<DataReport> ReadData(JobConfig job) {
  DataConfig& data = *job.mutable_data();
  data.mutable_train()->set_shuffle_window(0);
  data.clear_full_ranking();  // the rows as they are
  data.set_max_bad_lines(std::numeric_limits<int64_t>::max());  // they are counted here
  if (FLAGS_valid && !data.has_valid()) return absl::InvalidArgumentError("the job has no data.valid");
  auto readers = Readers::Create(job);
  if (!readers.ok()) return readers.status();
  auto source = FLAGS_valid ? (*readers)->OpenEval() : (*readers)->OpenTrain(1);
  if (!source.ok()) return source.status();
  DataReport report{(*readers)->schema(), DataProfile((*readers)->schema(), kExactMax), {}, false, 0, {}, {}};
  Batch batch;
  while (FLAGS_limit == 0 || report.profile.rows() < FLAGS_limit) {
    const uint64_t left = FLAGS_limit == 0 ? 4096 : FLAGS_limit - report.profile.rows();
    auto more = (*source)->Next(std::min<uint64_t>(4096, left), &batch);
    if (!more.ok()) return more.status();
    if (!*more) {
      report.all = true;
      break;
    }
    report.profile.Add(batch);
    if (report.sample.rows == 0) report.sample = batch;
  }
  const BadLines& bad = (*readers)->bad_lines();
  report.bad_lines = bad.count();
  report.reasons.assign(bad.reasons().begin(), bad.reasons().end());
  std::stable_sort(report.reasons.begin(), report.reasons.end(), [](const auto& a, const auto& b) { return a.second.count > b.second.count; });
  if (report.profile.rows() == 0) {
    return absl::InvalidArgumentError(bad.count() == 0 ? "there is no row" : "there is no good row: " + bad.examples()[0]);
  }
  absl::Status texts = AddTexts(FLAGS_valid ? data.valid() : data.train(), &report);
  if (!texts.ok()) return texts;
  return report;
}

double Share(uint64_t part, uint64_t whole) { return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole); }

std::string ValuesOf(const DataReport& report, size_t feature, size_t row) {
  const FeatureColumn& column = report.sample.features[feature];
  std::vector<std::string> values;
  for (uint32_t i = column.offsets[row]; i < column.offsets[row + 1]; ++i) {
    if (values.size() == kShownKeys) {
      values.push_back(absl::StrCat("... ", column.offsets[row + 1] - i, " more"));
      break;
    }
    values.push_back(KeyText(report, feature, column.keys[i]));
    if (!column.weights.empty()) absl::StrAppend(&values.back(), " x ", column.weights[i]);
  }
  return values.empty() ? "(none)" : absl::StrJoin(values, ", ");
}

std::string SampleText(const DataReport& report) {
  const DataSchema& schema = report.schema;
  const Batch& batch = report.sample;
  std::string out = "\nfirst rows, decoded\n";
  for (size_t r = 0; r < std::min(batch.rows, kShownRows); ++r) {
    absl::StrAppendFormat(&out, "  row %d", r + 1);
    for (size_t l = 0; l < schema.labels.size(); ++l) absl::StrAppendFormat(&out, "  %s %g", schema.labels[l].name, batch.labels[l][r]);
    if (!batch.sample_weight.empty()) absl::StrAppendFormat(&out, "  weight %g", batch.sample_weight[r]);
    if (!batch.group_id.empty()) absl::StrAppend(&out, "  group ", Hex(batch.group_id[r]));
    if (!batch.timestamp.empty()) absl::StrAppend(&out, "  timestamp ", batch.timestamp[r]);
    out += "\n";
    for (size_t f = 0; f < schema.features.size(); ++f) {
      absl::StrAppendFormat(&out, "    %-16s %s\n", schema.features[f].name, ValuesOf(report, f, r));
    }
    for (size_t n = 0; n < schema.numeric.size(); ++n) {
      absl::StrAppendFormat(&out, "    %-16s %g\n", schema.numeric[n].name, batch.numeric[n][r]);
    }
  }
  return out;
}

std::string BadLinesText(const DataReport& report) {
  if (report.bad_lines == 0) return "";
  std::string out = absl::StrCat("\nbad lines, left out: ", report.bad_lines, " (a job allows data.max_bad_lines of them)\n");
  for (const auto& [reason, lines] : report.reasons) absl::StrAppendFormat(&out, "  %8d  %s   first: %s\n", lines.count, reason, lines.example);
  return out;
}

std::vector<std::string> Warnings(const DataReport& report) {
  std::vector<std::string> warnings;
  const std::vector<NumericProfile> numbers = report.profile.Numeric();
  for (size_t n = 0; n < numbers.size(); ++n) {
    std::string warning = LargeNumberWarning(numbers[n], report.schema.numeric[n].transform == NumericFeature::LOG1P);
    if (!warning.empty()) warnings.push_back(std::move(warning));
  }
  return warnings;
}

std::string DataText(const DataReport& report) {
  const DataSchema& schema = report.schema;
  const DataProfile& profile = report.profile;
  std::string out = absl::StrCat(profile.rows(), report.all ? " rows (all)" : " rows (the first; --limit=0 reads all)", "\n");
  for (const LabelProfile& label : profile.Labels()) {
    absl::StrAppendFormat(&out, "label %-10s mean %.4f, known in %.1f %% of the rows\n", label.name, label.mean,
                          100 * Share(label.known, profile.rows()));
  }
  if (!schema.features.empty()) {
    absl::StrAppendFormat(&out, "\n%-16s %8s %8s %10s %11s  %s\n", "feature", "coverage", "missing", "distinct", "values/row", "top keys (share of values)");
  }
  const std::vector<FeatureProfile> features = profile.Features(FLAGS_top);
  for (size_t i = 0; i < features.size(); ++i) {
    const FeatureProfile& f = features[i];
    std::vector<std::string> top;
    for (const auto& [key, count] : f.top) top.push_back(absl::StrFormat("%s %.1f%%", KeyText(report, i, key), 100 * Share(count, f.values)));
    absl::StrAppendFormat(&out, "%-16s %7.1f%% %7.1f%% %10s %11s  %s\n", f.name, 100 * Share(f.rows, profile.rows()),
                          100 * (1 - Share(f.rows, profile.rows())), absl::StrCat(f.exact ? "" : "~", std::llround(f.distinct)),
                          absl::StrFormat("%.2f / %d", Share(f.values, profile.rows()), f.most_values), absl::StrJoin(top, ", "));
  }
  if (!schema.numeric.empty()) {
    absl::StrAppendFormat(&out, "\n%-16s %12s %12s %12s  %s\n", "number", "min", "mean", "max", "as if missing");
  }
  for (const NumericProfile& n : profile.Numeric()) {
    absl::StrAppendFormat(&out, "%-16s %12.5g %12.5g %12.5g  %.1f%%\n", n.name, n.min, n.mean, n.max, 100 * Share(n.filled, profile.rows()));
  }
  const std::vector<std::string> warnings = Warnings(report);
  if (!warnings.empty()) out += "\n";
  for (const std::string& warning : warnings) absl::StrAppend(&out, "warning: ", warning, "\n");
  out += BadLinesText(report);
  return out + SampleText(report);
}

std::string DataJson(const DataReport& report) {
  const DataProfile& profile = report.profile;
  const auto rows = profile.rows();
  std::vector<std::string> features, numbers, labels, reasons, warnings;
  for (const std::string& warning : Warnings(report)) warnings.push_back(JsonQuoted(warning));
  for (const auto& [reason, lines] : report.reasons) {
    reasons.push_back(JsonObject().Text("reason", reason).Integer("count", static_cast<int64_t>(lines.count)).Text("first", lines.example).Build());
  }
  const std::vector<FeatureProfile> profiles = profile.Features(FLAGS_top);
  for (size_t i = 0; i < profiles.size(); ++i) {
    const FeatureProfile& f = profiles[i];
    std::vector<std::string> top;
    for (const auto& [key, count] : f.top) {
      JsonObject one;
      one.Text("key", Hex(key)).Integer("count", static_cast<int64_t>(count));
      if (const auto text = report.texts.find({i, key}); text != report.texts.end()) one.Text("text", text->second);
      top.push_back(one.Build());
    }
    features.push_back(JsonObject()
                           .Text("name", f.name)
                           .Number("coverage", Share(f.rows, rows))
                           .Number("missing", 1 - Share(f.rows, rows))
                           .Integer("distinct", std::llround(f.distinct))
                           .Bool("exact", f.exact)
                           .Number("values_per_row", Share(f.values, rows))
                           .Raw("top", JsonArray(top))
                           .Build());
  }
  for (const NumericProfile& n : profile.Numeric()) {
    numbers.push_back(JsonObject().Text("name", n.name).Number("min", n.min).Number("mean", n.mean).Number("max", n.max).Number("deviation", n.deviation)
                          .Number("as_if_missing", Share(n.filled, rows)).Build());
  }
  for (const LabelProfile& l : profile.Labels()) {
    labels.push_back(JsonObject().Text("name", l.name).Number("mean", l.mean).Number("known", Share(l.known, rows)).Build());
  }
  return JsonObject()
      .Integer("rows", static_cast<int64_t>(rows))
      .Bool("all", report.all)
      .Raw("labels", JsonArray(labels))
      .Raw("features", JsonArray(features))
      .Raw("numeric", JsonArray(numbers))
      .Integer("bad_lines", static_cast<int64_t>(report.bad_lines))
      .Raw("bad_line_reasons", JsonArray(reasons))
      .Raw("warnings", JsonArray(warnings))
      .Build();
}

int RunData(const Arguments& arguments) {
  const std::vector<std::string> files = ConfigFiles(arguments);
  if (files.size() != 1) {
    std::cerr << "usage: tidegate data FILE [--set path=value] [--limit=ROWS] [--valid]\n";
    return kUsage;
  }
  auto job = LoadJobConfig(files[0], arguments.Repeated("set"));
  absl::Status status = job.status();
  if (status.ok()) {
    auto report = ReadData(*job);
    status = report.status();
    if (status.ok()) std::cout << (FLAGS_json ? DataJson(*report) + "\n" : DataText(*report));
  }
  if (status.ok()) return kOk;
  std::cerr << "tidegate data: " << status.message() << "\n";
  return kFailed;
}

}  // namespace

Command DataCommand() {
  return {"data",
          "FILE",
          "what a job config's features find in its data: coverage, distinct keys, top keys, label rate, first rows",
          {Ranged({"limit", "ROWS", "rows to read; 0: all"}, 0, int64_t{1} << 60),
           Ranged({"top", "N", "keys to show a feature"}, 0, 1000),
           {"config", "FILE", "another way to name the file"},
           {"valid", "", "data.valid instead of data.train"},
           {"set", "path=value", "override a field", true},
           {"json", "", "as one JSON object"}},
          RunData};
}

}  // namespace tidegate::cli
