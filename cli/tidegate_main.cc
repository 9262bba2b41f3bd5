// tidegate: the command. Subcommands are in files of their names.

#include <cerrno>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "cli/command.h"
#include "common/version.h"
#include "common/wiring/standard_streams.h"

namespace tidegate::cli {
namespace {

std::string Overview(const std::vector<Command>& commands) {
  std::string out = std::string("tidegate ") + kVersion + ": parameter-server training\n\n";
  for (const Command& command : commands) {
    out += "  " + command.name + std::string(12 - command.name.size(), ' ') + command.summary + "\n";
  }
  return out + "\n`tidegate COMMAND --help` lists a command's flags.\n";
}

int Help(const std::vector<Command>& commands, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    for (const Command& command : commands) {
      if (command.name == word) {
        std::cout << HelpText(command);
        return kOk;
      }
    }
  }
  std::cout << Overview(commands);
  return kOk;
}

// What was not written is not done: a full disk behind `> file` is no success.
int Flushed(int status) {
  std::cout.flush();
  if (std::cout.good()) return status;
  std::cerr << "tidegate: cannot write to standard output" << (errno != 0 ? ": " : "") << (errno != 0 ? std::strerror(errno) : "") << "\n";
  return status == kOk ? kFailed : status;
}

int Run(std::vector<std::string> words) {
  const std::vector<Command> commands = {LocalCommand(), StatusCommand(), TopCommand(), CheckpointCommand(), DrainCommand(), RestoreCommand(), RestartCommand(), PlanCommand(), DataCommand(),
                                         EvaluateCommand(), PredictCommand(), ExportCommand(), ExplainCommand(), CompareCommand(), GenCommand(), ConfigCommand(),
                                         ChaosCommand(), BenchCommand(), VersionCommand()};
  if (words.empty()) {
    std::cerr << Overview(commands);
    return kUsage;
  }
  if (words[0] == "--version") words[0] = "version";
  if (words[0] == "help" || words[0] == "--help" || words[0] == "-h") return Help(commands, words);
  for (const Command& command : commands) {
    if (command.name != words[0]) continue;
    for (const std::string& word : words) {
      if (word == "--") break;
      if (word == "--help" || word == "-h") return Help(commands, {command.name});
    }
    auto arguments = ParseArguments(command, {words.begin() + 1, words.end()});
    if (!arguments.ok()) {
      std::cerr << "tidegate " << command.name << ": " << arguments.status().message() << "\n";
      return kUsage;
    }
    return command.run(*arguments);
  }
  std::cerr << "tidegate: no command \"" << words[0] << "\"\n\n" << Overview(commands);
  return kUsage;
}

}  // namespace
}  // namespace tidegate::cli

int main(int argc, char** argv) {
  tidegate::OpenStandardStreams();
  return tidegate::cli::Flushed(tidegate::cli::Run(std::vector<std::string>(argv + 1, argv + argc)));
}
