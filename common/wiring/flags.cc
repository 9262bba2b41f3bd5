#include "common/wiring/flags.h"

#include <gflags/gflags.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/job_config/job_config.h"

namespace tidegate {
namespace {

constexpr int64_t kNoLowest = std::numeric_limits<int64_t>::min();
constexpr int64_t kNoHighest = std::numeric_limits<int64_t>::max();

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

const FlagHelp* Find(const std::vector<FlagGroup>& groups, const std::string& name) {
  for (const FlagGroup& group : groups) {
    for (const FlagHelp& flag : group.flags) {
      if (flag.name == name) return &flag;
    }
  }
  return nullptr;
}

absl::Status UnknownFlag(const std::string& program, const std::vector<FlagGroup>& groups, const std::string& name) {
  std::vector<std::string> names;
  for (const FlagGroup& group : groups) {
    for (const FlagHelp& flag : group.flags) names.push_back(flag.name);
  }
  const std::string nearest = NearestName(name, names);
  return absl::InvalidArgumentError(
      absl::StrCat("`", program, "` has no flag --", name, nearest.empty() ? "" : absl::StrCat(" (did you mean --", nearest, "?)")));
}

bool HasRange(const FlagHelp& flag) { return flag.lowest != kNoLowest || flag.highest != kNoHighest; }

std::string RangeText(const FlagHelp& flag) {
  if (flag.highest == kNoHighest) return absl::StrCat("at least ", flag.lowest);
  if (flag.lowest == kNoLowest) return absl::StrCat("at most ", flag.highest);
  return absl::StrCat("from ", flag.lowest, " to ", flag.highest);
}

absl::Status Set(const FlagHelp& flag, const std::string& value) {
  const std::string what = absl::StrCat("--", flag.name, "=", value, ": ");
  if (HasRange(flag)) {
    int64_t number = 0;
    if (!absl::SimpleAtoi(value, &number) || number < flag.lowest || number > flag.highest) {
      return absl::InvalidArgumentError(absl::StrCat(what, "a whole number ", RangeText(flag)));
    }
  }
  if (gflags::SetCommandLineOption(flag.name.c_str(), value.c_str()).empty()) {
    return absl::InvalidArgumentError(absl::StrCat(what, "not ", flag.value.empty() ? "true or false" : "a number"));
  }
  return absl::OkStatus();
}

}  // namespace

FlagHelp Ranged(FlagHelp flag, int64_t lowest, int64_t highest) {
  flag.lowest = lowest;
  flag.highest = highest;
  return flag;
}

std::vector<std::string> Arguments::Repeated(const std::string& name) const {
  const auto it = repeated.find(name);
  return it == repeated.end() ? std::vector<std::string>() : it->second;
}

absl::StatusOr<Arguments> ParseFlags(const std::string& program, const std::vector<FlagGroup>& groups,
                                     const std::vector<std::string>& words) {
  Arguments out;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--") {
      out.positional.insert(out.positional.end(), words.begin() + static_cast<ptrdiff_t>(i) + 1, words.end());
      break;
    }
    std::optional<Word> word = AsFlag(words[i]);
    if (!word) {
      out.positional.push_back(words[i]);
      continue;
    }
    const FlagHelp* flag = Find(groups, word->name);
    if (flag == nullptr) return UnknownFlag(program, groups, word->name);
    if (!word->value) {
      if (flag->value.empty()) {
        word->value = "true";
      } else if (i + 1 < words.size()) {
        word->value = words[++i];
      } else {
        return absl::InvalidArgumentError(absl::StrCat("--", flag->name, " needs a value: ", flag->value));
      }
    }
    if (word->value->empty() && !flag->value.empty() && !HasRange(*flag)) {
      return absl::InvalidArgumentError(absl::StrCat("--", flag->name, " needs a value: ", flag->value));
    }
    if (flag->repeated) {
      out.repeated[flag->name].push_back(*word->value);
    } else if (absl::Status s = Set(*flag, *word->value); !s.ok()) {
      return s;
    }
  }
  return out;
}

std::string FlagsText(const std::vector<FlagGroup>& groups) {
  size_t width = 0;
  std::vector<std::pair<std::string, std::string>> lines;  // left is empty: a title
  for (const FlagGroup& group : groups) {
    if (!group.title.empty()) lines.emplace_back("", group.title);
    for (const FlagHelp& flag : group.flags) {
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
  }
  std::string out;
  for (const auto& [left, right] : lines) {
    if (left.empty()) {
      absl::StrAppend(&out, out.empty() ? "" : "\n", right, ":\n");
    } else {
      absl::StrAppend(&out, "  ", left, std::string(width + 2 - left.size(), ' '), right, "\n");
    }
  }
  return out;
}

}  // namespace tidegate
