#include "cli/job_report.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "cli/json.h"
#include "cli/status_text.h"

namespace tidegate::cli {
namespace {

using google::protobuf::Struct;
using google::protobuf::Value;

// A training loss beyond so many times that of a constant 0.5 comes of numbers that overflow the model, not of hard data.
constexpr double kAbsurdLossFactor = 10;

const Struct* Metrics(const Value& epoch) {
  const Value* metrics = epoch.has_struct_value() ? Field(epoch.struct_value(), "metrics") : nullptr;
  return metrics != nullptr && metrics->has_struct_value() ? &metrics->struct_value() : nullptr;
}

// Sorted; counts of rows and groups are left out.
std::vector<std::string> NamesIn(const Struct& metrics) {
  std::vector<std::string> names;
  for (const auto& [name, value] : metrics.fields()) {
    if (!absl::EndsWith(name, "/rows") && !absl::EndsWith(name, "/groups")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> MetricNames(const Value& epochs) {
  std::vector<std::string> names;
  for (const Value& epoch : epochs.list_value().values()) {
    const Struct* metrics = Metrics(epoch);
    if (metrics == nullptr) continue;
    for (std::string& name : NamesIn(*metrics)) names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

std::string Cell(double value) { return std::isfinite(value) ? absl::StrFormat("%.4f", value) : "-"; }

std::string EpochLines(const Value& epochs, int best_epoch) {
  const std::vector<std::string> names = MetricNames(epochs);
  std::string out = "epoch";
  for (const std::string& name : names) absl::StrAppendFormat(&out, "  %*s", std::max<int>(10, name.size()), name);
  out += "  samples/s\n";
  for (const Value& value : epochs.list_value().values()) {
    if (!value.has_struct_value()) continue;
    const Struct& epoch = value.struct_value();
    const int number = static_cast<int>(NumberField(epoch, "epoch", 0));
    absl::StrAppendFormat(&out, "%5d", number);
    const Struct* metrics = Metrics(value);
    for (const std::string& name : names) {
      absl::StrAppendFormat(&out, "  %*s", std::max<int>(10, name.size()),
                            Cell(metrics == nullptr ? NAN : NumberField(*metrics, name, NAN)));
    }
    const double seconds = NumberField(epoch, "seconds", 0);
    absl::StrAppendFormat(&out, "  %9s%s\n", seconds > 0 ? ShortNumber(NumberField(epoch, "samples", 0) / seconds) : "-",
                          number == best_epoch ? "  best" : "");
  }
  return out;
}

// The epoch of ".../epoch-00003"; -1: another name.
int CheckpointEpoch(const std::string& folder) {
  constexpr std::string_view kName = "/epoch-";
  const size_t at = folder.rfind(kName);
  int epoch = -1;
  return at != std::string::npos && absl::SimpleAtoi(folder.substr(at + kName.size()), &epoch) ? epoch : -1;
}

const Value* WithNumber(const Value& epochs, int number) {
  for (const Value& epoch : epochs.list_value().values()) {
    if (epoch.has_struct_value() && NumberField(epoch.struct_value(), "epoch", -1) == number) return &epoch;
  }
  return nullptr;
}

// The first metric of `epoch` whose name ends so.
double MetricOf(const Value& epoch, const std::string& ending) {
  const Struct* metrics = Metrics(epoch);
  if (metrics == nullptr) return NAN;
  std::string found;
  double value = NAN;
  for (const auto& [name, v] : metrics->fields()) {
    if (absl::EndsWith(name, ending) && (found.empty() || name < found)) {
      found = name;
      value = v.has_number_value() ? v.number_value() : NAN;  // null: it has no value
    }
  }
  return value;
}

// The epoch in the checkpoint; without one, the best; else the last. `epochs` has one at least.
const Value* ChosenEpoch(const Struct& summary, const Value& epochs) {
  for (const int number : {CheckpointEpoch(TextField(summary, "checkpoint")), static_cast<int>(NumberField(summary, "best_epoch", 0))}) {
    if (const Value* epoch = WithNumber(epochs, number); epoch != nullptr) return epoch;
  }
  return &*epochs.list_value().values().rbegin();
}

// Where there is no AUC: the held-out metrics by name.
std::string HeldOutLine(const Value& epoch) {
  const Struct* metrics = Metrics(epoch);
  std::string out;
  for (const std::string& name : metrics == nullptr ? std::vector<std::string>() : NamesIn(*metrics)) {
    if (!absl::StartsWith(name, "valid/")) continue;
    absl::StrAppend(&out, out.empty() ? "" : "   ", name.substr(name.rfind('/') + 1), " ", Cell(NumberField(*metrics, name, NAN)));
  }
  return out.empty() ? "" : absl::StrFormat("%-18s%s\n", "held-out rows", out);
}

}  // namespace

std::optional<AttainableMetrics> AttainableOf(const JobConfig& config) {
  if (config.data().format() != DataConfig::GENERATED || !config.data().has_valid()) return std::nullopt;
  auto generator = Generator::Create(config.data().generator());
  if (!generator.ok()) return std::nullopt;
  const Source& valid = config.data().valid();
  auto attainable = generator->Attainable(valid.first_row(), valid.first_row() + valid.rows());
  if (!attainable.ok()) return std::nullopt;
  return *attainable;
}

std::string ShellQuoted(const std::string& word) {
  const bool plain = !word.empty() && word[0] != '~' && std::all_of(word.begin(), word.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || std::string_view("/._-+,:=@%~").find(static_cast<char>(c)) != std::string_view::npos;
  });
  return plain ? word : absl::StrCat("'", absl::StrReplaceAll(word, {{"'", "'\\''"}}), "'");
}

std::string NextCommand(const JobConfig& config, const NextPaths& paths) {
  if (paths.checkpoint.empty()) return "";
  const std::string program = ShellQuoted(paths.program.find('/') == std::string::npos ? "./" + paths.program : paths.program);
  if (!config.data().has_valid()) {
    return absl::StrCat(program, " export --checkpoint=", ShellQuoted(paths.checkpoint), " --out=", ShellQuoted(paths.run_dir + "/export"));
  }
  return absl::StrCat(program, " evaluate --checkpoint=", ShellQuoted(paths.checkpoint),
                      paths.data.empty() ? "" : " --data=", paths.data.empty() ? "" : ShellQuoted(paths.data));
}

absl::StatusOr<std::string> WithField(std::string json, const std::string& name, const std::string& value_json) {
  const size_t end = json.find_last_not_of(" \n\r\t");
  if (end == std::string::npos || json[end] != '}') return absl::InvalidArgumentError("not a JSON object");
  const size_t before = json.find_last_not_of(" \n\r\t", end - 1);
  const bool empty = before == std::string::npos || json[before] == '{';
  return absl::StrCat(json.substr(0, before + 1), empty ? "\n  " : ",\n  ", JsonQuoted(name), ": ", value_json, "\n}\n");
}

std::string LossWarning(const JobConfig& config, const Struct& summary) {
  const Value* epochs = Field(summary, "epochs");
  if (epochs == nullptr || !epochs->has_list_value() || epochs->list_value().values_size() == 0) return "";
  const Value* epoch = ChosenEpoch(summary, *epochs);
  const Struct* metrics = Metrics(*epoch);
  if (metrics == nullptr) return "";
  std::vector<std::string> signs;
  double constant_loss = 0;  // of 0.5 for every row
  bool all_bce = true;
  for (const TaskConfig& task : config.model().task()) {
    all_bce &= task.loss() == TaskConfig::BCE;
    constant_loss += task.weight() * std::numbers::ln2;
    const std::string name = absl::StrCat("valid/", task.name());
    const double logloss = NumberField(*metrics, name + "/logloss", 0);
    if (logloss > std::numbers::ln2) {
      signs.push_back(absl::StrFormat("%s/logloss is %.4g, above the %.4f of 0.5 for every row", name, logloss, std::numbers::ln2));
    }
    if (NumberField(*metrics, name + "/auc", 0) == 0.5) signs.push_back(absl::StrCat(name, "/auc is 0.5: the scores order nothing"));
  }
  const Value* loss = Field(*metrics, "train/loss");
  if (loss != nullptr && !loss->has_number_value()) {
    signs.insert(signs.begin(), "train/loss is no finite number");
  } else if (loss != nullptr && all_bce && loss->number_value() > kAbsurdLossFactor * constant_loss) {
    signs.insert(signs.begin(), absl::StrFormat("train/loss is %.4g, that of 0.5 for every row is %.4g", loss->number_value(), constant_loss));
  }
  if (signs.empty()) return "";
  return absl::StrFormat("%-18s%s\n%-18s%s\n", "warning", absl::StrJoin(signs, "; "), "",
                         "look for numbers far from order 1 (tidegate data), for a lower lr, for what the labels are");
}

std::string EpochsNote(const JobConfig& config, const Struct& summary) {
  const Value* epochs = Field(summary, "epochs");
  double trained = 0;
  if (epochs != nullptr && epochs->has_list_value()) {
    for (const Value& epoch : epochs->list_value().values()) {
      if (epoch.has_struct_value()) trained = std::max(trained, NumberField(epoch.struct_value(), "epoch", 0));
    }
  }
  if (trained <= config.train().epochs()) return "";
  return absl::StrFormat("%-18s%s\n", "note",
                         absl::StrCat("train.epochs is ", config.train().epochs(), ", and the job has trained ", trained,
                                      " already: nothing was left to do (--fresh starts anew)"));
}

std::string JobTable(const Struct& summary, const std::optional<AttainableMetrics>& attainable) {
  std::string out;
  const int best_epoch = static_cast<int>(NumberField(summary, "best_epoch", 0));
  const Value* epochs = Field(summary, "epochs");
  const std::string checkpoint = TextField(summary, "checkpoint");
  const Value* chosen = nullptr;
  bool better = false;  // another epoch was
  if (epochs != nullptr && epochs->has_list_value() && epochs->list_value().values_size() > 0) {
    out += EpochLines(*epochs, best_epoch);
    const int saved_epoch = CheckpointEpoch(checkpoint);
    better = saved_epoch != best_epoch && WithNumber(*epochs, saved_epoch) != nullptr && WithNumber(*epochs, best_epoch) != nullptr;
    chosen = ChosenEpoch(summary, *epochs);
  }
  out += "\n";
  if (chosen != nullptr && std::isfinite(MetricOf(*chosen, "/auc"))) {
    absl::StrAppendFormat(&out, "%-18sAUC %.4f   log loss %.4f", "held-out rows", MetricOf(*chosen, "/auc"),
                          MetricOf(*chosen, "/logloss"));
    if (better) absl::StrAppendFormat(&out, "   (of the checkpoint; epoch %d was better: stop { keep: BEST } keeps it)", best_epoch);
    out += "\n";
  } else if (chosen != nullptr) {
    out += HeldOutLine(*chosen);
  }
  if (attainable) {
    absl::StrAppendFormat(&out, "%-18sAUC %.4f   log loss %.4f   (what the planted model itself scores)\n",
                          "best attainable", attainable->auc, attainable->logloss);
  }
  absl::StrAppendFormat(&out, "%-18s%s/s: %s in %.1f s\n", "samples",
                        ShortNumber(NumberField(summary, "samples_per_second", 0)),
                        ShortNumber(NumberField(summary, "samples", 0)), NumberField(summary, "seconds", 0));
  if (!checkpoint.empty()) absl::StrAppendFormat(&out, "%-18s%s\n", "checkpoint", checkpoint);
  return out;
}

}  // namespace tidegate::cli
