// `tidegate status`: what a running job does.

#include <iostream>

#include "cli/command.h"
#include "cli/flags.h"
#include "cli/status_client.h"
#include "cli/status_text.h"

DEFINE_int32(timeout, 5, "seconds to wait for the scheduler");

namespace tidegate::cli {
namespace {

int RunStatus(const Arguments& arguments) {
  if (FLAGS_scheduler.empty() || !arguments.positional.empty()) {
    std::cerr << "usage: tidegate status --scheduler=HOST:PORT [--json]\n";
    return kUsage;
  }
  if (absl::Status s = CheckAddress(FLAGS_scheduler); !s.ok()) {
    std::cerr << "tidegate status: " << s.message() << "\n";
    return kUsage;
  }
  auto status = StatusClient(FLAGS_scheduler).Get(FLAGS_timeout * 1000);
  if (!status.ok()) {
    std::cerr << "tidegate status: " << status.status().message() << " (waited " << FLAGS_timeout << " s)\n";
    return kFailed;
  }
  std::cout << (FLAGS_json ? StatusObject(*status).Build() + "\n" : StatusReport(*status));
  return kOk;
}

}  // namespace

Command StatusCommand() {
  return {"status",
          "",
          "members, shards, rows, bytes and rates of a running job",
          {{"scheduler", "HOST:PORT[,...]", "the scheduler, or several of which one leads"},
           {"json", "", "as one JSON object"},
           Ranged({"timeout", "SECONDS", "how long to wait for the scheduler"}, 1, 3600)},
          RunStatus};
}

}  // namespace tidegate::cli
