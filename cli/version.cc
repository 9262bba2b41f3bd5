#include <iostream>

#include "cli/command.h"
#include "cli/flags.h"
#include "cli/json.h"
#include "common/version.h"

namespace tidegate::cli {
namespace {

#define TIDEGATE_STRING2(x) #x
#define TIDEGATE_STRING(x) TIDEGATE_STRING2(x)

int RunVersion(const Arguments& arguments) {
  if (!arguments.positional.empty()) {
    std::cerr << "tidegate version takes no argument\n";
    return kUsage;
  }
#ifdef TIDEGATE_CUDA_BUILD
  const bool cuda = true;
#else
  const bool cuda = false;
#endif
  if (FLAGS_json) {
    std::cout << JsonObject()
                     .Text("version", kVersion)
                     .Text("compiler", "g++ " TIDEGATE_STRING(__GNUC__) "." TIDEGATE_STRING(__GNUC_MINOR__))
                     .Bool("cuda_toolkit", cuda)
                     .Build()
              << "\n";
  } else {
    std::cout << "tidegate " << kVersion << " (g++ " << __GNUC__ << "." << __GNUC_MINOR__ << ", "
              << (cuda ? "CUDA toolkit found" : "no CUDA toolkit") << ")\n";
  }
  return kOk;
}

}  // namespace

Command VersionCommand() {
  return {"version", "", "the version of this build", {{"json", "", "as one JSON object"}}, RunVersion};
}

}  // namespace tidegate::cli
