#pragma once
// The one flag parser, over gflags: a program, or a subcommand, says which flags it has, and an unknown
// flag, a bad value, one out of range and --help are the same everywhere. Main thread, before others.

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tidegate {

struct FlagHelp {
  std::string name;
  std::string value;  // "FILE"; empty for a switch
  std::string text;
  bool repeated = false;  // may stand several times; then it is not a gflag
  int64_t lowest = std::numeric_limits<int64_t>::min();  // of a whole number
  int64_t highest = std::numeric_limits<int64_t>::max();
};

// A whole number in [lowest, highest].
FlagHelp Ranged(FlagHelp flag, int64_t lowest, int64_t highest);

struct FlagGroup {
  std::string title;  // empty: none
  std::vector<FlagHelp> flags;
};

struct Arguments {
  std::vector<std::string> positional;
  std::map<std::string, std::vector<std::string>> repeated;

  std::vector<std::string> Repeated(const std::string& name) const;
};

// Sets gflags from `words` and returns the rest. "--x=v", "--x v", "-x"; "--" ends flags.
// INVALID_ARGUMENT names `program` or the word, and the nearest flag.
absl::StatusOr<Arguments> ParseFlags(const std::string& program, const std::vector<FlagGroup>& groups,
                                     const std::vector<std::string>& words);

// A line per flag, with its default.
std::string FlagsText(const std::vector<FlagGroup>& groups);

}  // namespace tidegate
