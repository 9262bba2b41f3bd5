#pragma once
// The frame of `tidegate`'s subcommands: each is a table entry with its flags, parsed by gflags, so that
// an unknown or foreign flag, a bad value and --help are handled in one place.

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tidegate::cli {

// Exit statuses of the command.
inline constexpr int kOk = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;  // flags or arguments make no sense

struct FlagHelp {
  std::string name;
  std::string value;  // "FILE"; empty for a switch
  std::string text;
  bool repeated = false;  // may stand several times; then it is not a gflag
};

struct Arguments {
  std::vector<std::string> positional;
  std::map<std::string, std::vector<std::string>> repeated;

  std::vector<std::string> Repeated(const std::string& name) const;
};

struct Command {
  std::string name;
  std::string usage;    // of positional arguments
  std::string summary;  // one line
  std::vector<FlagHelp> flags;
  int (*run)(const Arguments&);
};

// Sets the command's gflags from `words` (what follows the command's name) and returns the rest.
// "--x=v", "--x v", "-x"; "--" ends flags. INVALID_ARGUMENT names the word.
absl::StatusOr<Arguments> ParseArguments(const Command& command, const std::vector<std::string>& words);

std::string HelpText(const Command& command);

// The commands, one per file.
Command LocalCommand();
Command GenCommand();
Command StatusCommand();
Command EvaluateCommand();
Command PredictCommand();
Command ExportCommand();
Command PlanCommand();
Command DataCommand();
Command ExplainCommand();
Command CompareCommand();
Command BenchCommand();
Command ConfigCommand();
Command VersionCommand();

}  // namespace tidegate::cli
