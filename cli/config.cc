// `tidegate config`: what a job config says once it is resolved, or all that is wrong with it.

#include <algorithm>
#include <iostream>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "common/file_system.h"
#include "common/job_config/job_config.h"
#include "common/job_config/places.h"
#include "worker/data/config_columns.h"
#include "worker/data/text_rows.h"
#include "worker/model/graph.h"
#include "worker/model/model.h"
#include "worker/model/preset.h"

DEFINE_bool(check, false, "");
DEFINE_bool(show, false, "");
DEFINE_bool(expand, false, "");

namespace tidegate::cli {
namespace {

// Data may come later, and elsewhere: worth a word, not an error.
void NoteMissingData(const std::string& file, const JobConfig& config) {
  auto note = [&](const char* field, const Source& source) {
    for (const std::string& pattern : source.files()) {
      const auto found = RealFileSystem().Glob(pattern);
      if (found.ok() && !found->empty()) continue;
      std::cerr << file << ": note: " << field << ".files: nothing matches " << pattern << MissingFileHint(pattern) << "\n";
    }
  };
  note("data.train", config.data().train());
  note("data.valid", config.data().valid());
}

// Everything that is wrong, with places, in three steps that do not wait for one another: fields, graph, columns.
std::string Problems(const JobConfigDraft& draft, size_t* tables) {
  std::vector<std::string> problems = draft.problems;
  if (draft.expanded) {
    absl::Status graph;
    if (problems.empty()) {
      auto model = Model::Create(draft.config);
      graph = model.status();
      if (graph.ok()) *tables = (*model)->tables().size();
    } else {
      graph = PlanGraph(draft.config).status();
    }
    for (const auto& line : absl::StrSplit(graph.message(), '\n', absl::SkipEmpty())) {
      const bool said_before = absl::StrContains(line, "\"\" is no block");  // by the fields: "name the block"
      if (problems.empty() || !said_before) problems.emplace_back(line);
    }
    if (FLAGS_check) {
      for (const std::string& problem : ColumnProblems(draft.config)) problems.push_back(problem);
    }
  }
  return problems.empty() ? "" : draft.places.Placed(absl::StrJoin(problems, "\n"));
}

void PrintWarnings(const JobConfigDraft& draft) {
  std::vector<std::string> warnings = JobConfigWarnings(draft.config);
  if (const auto plan = PlanGraph(draft.config); plan.ok()) {
    for (const std::string& name : UnreadFeatures(draft.config, *plan)) {
      warnings.push_back("feature \"" + name + "\": no block reads it");
    }
  }
  for (const std::string& warning : warnings) {
    const std::string placed = draft.places.Placed(warning);
    std::cerr << placed.substr(0, placed.size() - warning.size()) << "warning: " << warning << "\n";
  }
}

int CheckFile(const std::string& file, const std::vector<std::string>& overrides) {
  const auto draft = LoadJobConfigDraft(file, overrides);
  size_t tables = 0;
  const std::string problems = draft.ok() ? Problems(*draft, &tables) : std::string(draft.status().message());
  if (!problems.empty()) {
    std::cerr << problems << "\n";
    return kFailed;
  }
  const JobConfig& config = draft->config;
  if (FLAGS_show) std::cout << JobConfigText(config);
  if (FLAGS_expand) {
    JobConfig expanded = config;
    *expanded.mutable_model() = *ExpandPreset(config.model());  // Model::Create has done it before
    std::cout << JobConfigText(expanded);
  }
  PrintWarnings(*draft);
  if (FLAGS_check) {
    NoteMissingData(file, config);
    std::cout << file << ": ok (" << config.feature_size() << " features, " << tables << " tables with the model's tensors)\n";
  }
  return kOk;
}

int RunConfig(const Arguments& arguments) {
  const std::vector<std::string> files = ConfigFiles(arguments);
  if (files.empty() || (!FLAGS_check && !FLAGS_show && !FLAGS_expand)) {
    std::cerr << "usage: tidegate config --check|--show|--expand FILE... [--set path=value]\n";
    return kUsage;
  }
  int exit_status = kOk;
  for (const std::string& file : files) exit_status = std::max(exit_status, CheckFile(file, arguments.Repeated("set")));
  return exit_status;
}

}  // namespace

Command ConfigCommand() {
  return {"config",
          "--check|--show|--expand FILE...",
          "check a job config, or show it resolved",
          {{"check", "", "print everything that is wrong, with its line; exit status 1 if anything is"},
           {"show", "", "print the config with overrides, defaults and names and paths filled in"},
           {"expand", "", "the same, with the model's preset written as the blocks it stands for"},
           {"config", "FILE", "another way to name the file"},
           {"set", "path=value", "override a field", true}},
          RunConfig};
}

}  // namespace tidegate::cli
