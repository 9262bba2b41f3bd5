#pragma once
// The frame of `tidegate`'s subcommands: each is a table entry with its flags (common/wiring/flags.h).

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/wiring/flags.h"

namespace tidegate::cli {

// Exit statuses of the command.
inline constexpr int kOk = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;  // flags or arguments make no sense

struct Command {
  std::string name;
  std::string usage;    // of positional arguments
  std::string summary;  // one line
  std::vector<FlagHelp> flags;
  int (*run)(const Arguments&);
};

// Sets the command's flags from `words`, what follows the command's name, and returns the rest.
absl::StatusOr<Arguments> ParseArguments(const Command& command, const std::vector<std::string>& words);

std::string HelpText(const Command& command);

// Job configs: what stands as FILE, and --config. One way or the other, or both.
std::vector<std::string> ConfigFiles(const Arguments& arguments);

// The commands, one per file.
Command LocalCommand();
Command GenCommand();
Command StatusCommand();
Command TopCommand();
Command CheckpointCommand();
Command DrainCommand();
Command RestoreCommand();
Command RestartCommand();
Command EvaluateCommand();
Command PredictCommand();
Command ExportCommand();
Command PlanCommand();
Command DataCommand();
Command ExplainCommand();
Command CompareCommand();
Command ChaosCommand();
Command BenchCommand();
Command ConfigCommand();
Command VersionCommand();

}  // namespace tidegate::cli
