// `tidegate compare`: two runs side by side: what differs in their configs, metrics and speed.

#include <google/protobuf/util/message_differencer.h>

#include <cmath>
#include <iostream>
#include <map>
#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/json.h"
#include "common/file_system.h"
#include "common/job_config/job_config.h"

namespace tidegate::cli {
namespace {

using google::protobuf::Struct;
using google::protobuf::Value;

constexpr uint64_t kFileBytesMax = 256 << 20;
constexpr char kConfigName[] = "config.textproto";
constexpr char kSummaryName[] = "summary.json";

struct Run {
  std::string folder;
  Struct summary;
  std::optional<JobConfig> config;
  int epoch = 0;  // whose metrics are compared: the best, else the last
  std::map<std::string, double> metrics;
};

absl::StatusOr<Run> ReadRun(const std::string& folder) {
  FileSystem& files = RealFileSystem();
  Run run;
  run.folder = folder;
  const std::string path = JoinPath(folder, kSummaryName);
  auto text = files.Read(path, kFileBytesMax);
  if (!text.ok()) {
    return absl::NotFoundError(absl::StrCat(folder, " is no run folder (--run_dir of `tidegate local`): ", text.status().message()));
  }
  auto summary = ParseJson(*text);
  if (!summary.ok()) return absl::DataLossError(absl::StrCat(path, ": ", summary.status().message()));
  run.summary = *std::move(summary);
  auto config_text = files.Read(JoinPath(folder, kConfigName), kFileBytesMax);
  if (config_text.ok()) {
    auto config = ParseJobConfig(*config_text, JoinPath(folder, kConfigName));
    if (!config.ok()) return config.status();
    run.config = *std::move(config);
  }
  const Value* epochs = Field(run.summary, "epochs");
  if (epochs == nullptr || !epochs->has_list_value()) return run;
  const int best = static_cast<int>(NumberField(run.summary, "best_epoch", 0));
  for (const Value& value : epochs->list_value().values()) {
    const int epoch = static_cast<int>(NumberField(value.struct_value(), "epoch", 0));
    if (run.epoch == best && best > 0) break;
    const Value* metrics = Field(value.struct_value(), "metrics");
    if (metrics == nullptr || !metrics->has_struct_value()) continue;
    run.epoch = epoch;
    run.metrics.clear();
    for (const auto& [name, metric] : metrics->struct_value().fields()) {
      if (metric.kind_case() == Value::kNumberValue) run.metrics[name] = metric.number_value();
    }
  }
  return run;
}

// "modified: train.epochs: 3 -> 5", a line each.
std::vector<std::string> ConfigDifferences(const JobConfig& a, const JobConfig& b) {
  std::string report;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&report);
  differencer.Compare(a, b);
  std::vector<std::string> lines;
  for (const auto line : absl::StrSplit(report, '\n', absl::SkipEmpty())) lines.emplace_back(line);
  return lines;
}

struct Line {
  std::string name;
  double a = NAN, b = NAN;
};

std::vector<Line> MetricLines(const Run& a, const Run& b) {
  std::set<std::string> names;
  for (const Run* run : {&a, &b}) {
    for (const auto& [name, value] : run->metrics) names.insert(name);
  }
  std::vector<Line> lines;
  for (const std::string& name : names) {
    const auto in_a = a.metrics.find(name), in_b = b.metrics.find(name);
    lines.push_back({name, in_a == a.metrics.end() ? NAN : in_a->second, in_b == b.metrics.end() ? NAN : in_b->second});
  }
  return lines;
}

std::vector<Line> SpeedLines(const Run& a, const Run& b) {
  std::vector<Line> lines;
  for (const char* name : {"samples_per_second", "seconds", "samples"}) {
    lines.push_back({name, NumberField(a.summary, name, NAN), NumberField(b.summary, name, NAN)});
  }
  return lines;
}

std::string NumberText(double value) { return std::isnan(value) ? "-" : absl::StrFormat("%.6g", value); }

std::string LineText(const Line& line, bool as_ratio) {
  std::string change;
  if (!std::isnan(line.a) && !std::isnan(line.b)) {
    change = as_ratio ? (line.a == 0 ? "" : absl::StrFormat("%+.1f%%", 100 * (line.b / line.a - 1))) : absl::StrFormat("%+.6f", line.b - line.a);
  }
  return absl::StrFormat("  %-28s %14s %14s %14s\n", line.name, NumberText(line.a), NumberText(line.b), change);
}

std::string CompareText(const Run& a, const Run& b) {
  std::string out = absl::StrCat("A  ", a.folder, "  ", TextField(a.summary, "outcome"), "\nB  ", b.folder, "  ",
                                 TextField(b.summary, "outcome"), "\n\nconfig\n");
  if (!a.config || !b.config) {
    absl::StrAppend(&out, "  not compared: no ", kConfigName, " in ", a.config ? b.folder : a.folder, "\n");
  } else {
    const std::vector<std::string> differences = ConfigDifferences(*a.config, *b.config);
    if (differences.empty()) out += "  the same\n";
    for (const std::string& line : differences) absl::StrAppend(&out, "  ", line, "\n");
  }
  absl::StrAppendFormat(&out, "\n%-30s %14s %14s %14s\n", "metrics", absl::StrCat("A, epoch ", a.epoch), absl::StrCat("B, epoch ", b.epoch), "B - A");
  for (const Line& line : MetricLines(a, b)) out += LineText(line, false);
  absl::StrAppendFormat(&out, "\n%-30s %14s %14s %14s\n", "speed", "A", "B", "B / A");
  for (const Line& line : SpeedLines(a, b)) out += LineText(line, true);
  return out;
}

std::string LinesJson(const std::vector<Line>& lines) {
  JsonObject out;
  for (const Line& line : lines) out.Raw(line.name, JsonObject().Number("a", line.a).Number("b", line.b).Build());
  return out.Build();
}

std::string CompareJson(const Run& a, const Run& b) {
  JsonObject out;
  out.Text("a", a.folder).Text("b", b.folder).Integer("a_epoch", a.epoch).Integer("b_epoch", b.epoch);
  if (a.config && b.config) {
    std::vector<std::string> differences;
    for (const std::string& line : ConfigDifferences(*a.config, *b.config)) differences.push_back(JsonQuoted(line));
    out.Raw("config", JsonArray(differences));
  }
  return out.Raw("metrics", LinesJson(MetricLines(a, b))).Raw("speed", LinesJson(SpeedLines(a, b))).Build();
}

int RunCompare(const Arguments& arguments) {
  if (arguments.positional.size() != 2) {
    std::cerr << "usage: tidegate compare RUN_A RUN_B [--json]\n";
    return kUsage;
  }
  std::vector<Run> runs;
  for (const std::string& folder : arguments.positional) {
    auto run = ReadRun(folder);
    if (!run.ok()) {
      std::cerr << "tidegate compare: " << run.status().message() << "\n";
      return kFailed;
    }
    runs.push_back(*std::move(run));
  }
  std::cout << (FLAGS_json ? CompareJson(runs[0], runs[1]) + "\n" : CompareText(runs[0], runs[1]));
  return kOk;
}

}  // namespace

Command CompareCommand() {
  return {"compare",
          "RUN_A RUN_B",
          "two run folders side by side: config, metrics of the best epoch, speed",
          {{"json", "", "as one JSON object"}},
          RunCompare};
}

}  // namespace tidegate::cli
