// `tidegate config`: what a job config says once it is resolved, or all that is wrong with it.

#include <iostream>

#include "cli/command.h"
#include "cli/flags.h"
#include "cli/json.h"
#include "common/file_system.h"
#include "common/job_config/job_config.h"
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
      std::cerr << file << ": note: " << field << ".files: nothing matches " << pattern << "\n";
    }
  };
  note("data.train", config.data().train());
  note("data.valid", config.data().valid());
}

int RunConfig(const Arguments& arguments) {
  std::vector<std::string> files = arguments.positional;
  if (!FLAGS_config.empty()) files.push_back(FLAGS_config);
  if (files.empty() || (!FLAGS_check && !FLAGS_show && !FLAGS_expand)) {
    std::cerr << "usage: tidegate config --check|--show|--expand FILE... [--set path=value]\n";
    return kUsage;
  }
  int exit_status = kOk;
  for (const std::string& file : files) {
    auto config = LoadJobConfig(file, arguments.Repeated("set"));
    absl::Status status = config.status();
    size_t tables = 0;
    if (status.ok()) {
      auto model = Model::Create(*config);
      status = model.status();
      if (status.ok()) tables = (*model)->tables().size();
    }
    if (!status.ok()) {
      std::cerr << (config.ok() ? file + ": " : "") << status.message() << "\n";
      exit_status = kFailed;
      continue;
    }
    if (FLAGS_show) std::cout << JobConfigText(*config);
    if (FLAGS_expand) {
      JobConfig expanded = *config;
      *expanded.mutable_model() = *ExpandPreset(config->model());  // Model::Create has done it before
      std::cout << JobConfigText(expanded);
    }
    for (const std::string& warning : JobConfigWarnings(*config)) {
      std::cerr << file << ": warning: " << warning << "\n";
    }
    if (FLAGS_check) {
      NoteMissingData(file, *config);
      std::cout << file << ": ok (" << config->feature_size() << " features, " << tables
                << " tables with the model's tensors)\n";
    }
  }
  return exit_status;
}

}  // namespace

Command ConfigCommand() {
  return {"config",
          "--check|--show|--expand FILE...",
          "check a job config, or show it resolved",
          {{"check", "", "print every error with its line; exit status 1 if there is one"},
           {"show", "", "print the config with overrides, defaults and names and paths filled in"},
           {"expand", "", "the same, with the model's preset written as the blocks it stands for"},
           {"config", "FILE", "another way to name the file"},
           {"set", "path=value", "override a field", true}},
          RunConfig};
}

}  // namespace tidegate::cli
