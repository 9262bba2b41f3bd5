#include "cli/command.h"

#include <gflags/gflags.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/job_config/job_config.h"

namespace tidegate::cli {
namespace {

struct Word {
  std::string name;
  std::optional<std::string> value;
};

std::optional<Word> AsFlag(const std::string& word) {
  if (word.size() < 2 || word[0] != '-') return std::nullopt;
  if (word == "-q") return Word{"quiet", std::nullopt};
  if (word == "-v") return Word{"verbose", std::nullopt};
  const size_t dashes = word[1] == '-' ? 2 : 1;
  const size_t equals = word.find('=');
  if (equals == std::string::npos) return Word{word.substr(dashes), std::nullopt};
  return Word{word.substr(dashes, equals - dashes), word.substr(equals + 1)};
}

const FlagHelp* Find(const Command& command, const std::string& name) {
  for (const FlagHelp& flag : command.flags) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

absl::Status UnknownFlag(const Command& command, const std::string& name) {
  std::vector<std::string> names;
  for (const FlagHelp& flag : command.flags) names.push_back(flag.name);
  const std::string nearest = NearestName(name, names);
  return absl::InvalidArgumentError(
      absl::StrCat("`tidegate ", command.name, "` has no flag --", name,
                   nearest.empty() ? "" : absl::StrCat(" (did you mean --", nearest, "?)")));
}

}  // namespace

std::vector<std::string> Arguments::Repeated(const std::string& name) const {
  const auto it = repeated.find(name);
  return it == repeated.end() ? std::vector<std::string>() : it->second;
}

absl::StatusOr<Arguments> ParseArguments(const Command& command, const std::vector<std::string>& words) {
  Arguments out;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--") {
      out.positional.insert(out.positional.end(), words.begin() + i + 1, words.end());
      break;
    }
    std::optional<Word> word = AsFlag(words[i]);
    if (!word) {
      out.positional.push_back(words[i]);
      continue;
    }
    const FlagHelp* flag = Find(command, word->name);
    if (flag == nullptr) return UnknownFlag(command, word->name);
    if (!word->value) {
      if (flag->value.empty()) {
        word->value = "true";
      } else if (i + 1 < words.size()) {
        word->value = words[++i];
      } else {
        return absl::InvalidArgumentError(absl::StrCat("--", flag->name, " needs a value: ", flag->value));
      }
    }
    if (flag->repeated) {
      out.repeated[flag->name].push_back(*word->value);
    } else if (gflags::SetCommandLineOption(flag->name.c_str(), word->value->c_str()).empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag->name, "=", *word->value, ": not ", flag->value.empty() ? "true or false" : "a number"));
    }
  }
  return out;
}

std::string HelpText(const Command& command) {
  std::string out = absl::StrCat("tidegate ", command.name, command.usage.empty() ? "" : " ", command.usage, "\n  ",
                                 command.summary, "\n");
  size_t width = 0;
  std::vector<std::pair<std::string, std::string>> lines;
  for (const FlagHelp& flag : command.flags) {
    std::string left = absl::StrCat("--", flag.name, flag.value.empty() ? "" : "=", flag.value);
    std::string right = flag.text;
    gflags::CommandLineFlagInfo info;
    if (!flag.repeated && gflags::GetCommandLineFlagInfo(flag.name.c_str(), &info) && !flag.value.empty() &&
        !info.default_value.empty() && right.find("(default") == std::string::npos) {
      absl::StrAppend(&right, " (default ", info.default_value, ")");
    }
    if (flag.repeated) right += " (repeatable)";
    width = std::max(width, left.size());
    lines.emplace_back(std::move(left), std::move(right));
  }
  for (const auto& [left, right] : lines) {
    absl::StrAppend(&out, "  ", left, std::string(width + 2 - left.size(), ' '), right, "\n");
  }
  return out;
}

}  // namespace tidegate::cli
