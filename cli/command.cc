#include "cli/command.h"

#include "absl/strings/str_cat.h"
#include "cli/flags.h"

namespace tidegate::cli {

absl::StatusOr<Arguments> ParseArguments(const Command& command, const std::vector<std::string>& words) {
  return ParseFlags("tidegate " + command.name, {{"", command.flags}}, words);
}

std::string HelpText(const Command& command) {
  return absl::StrCat("tidegate ", command.name, command.usage.empty() ? "" : " ", command.usage, "\n  ",
                      command.summary, "\n", FlagsText({{"", command.flags}}));
}

std::vector<std::string> ConfigFiles(const Arguments& arguments) {
  std::vector<std::string> files = arguments.positional;
  if (!FLAGS_config.empty()) files.push_back(FLAGS_config);
  return files;
}

}  // namespace tidegate::cli
