// `tidegate restore`: has a job that lost shards, and stands still, go on from its newest checkpoint.

#include <iostream>

#include "cli/command.h"
#include "cli/flags.h"
#include "cli/json.h"
#include "cli/status_client.h"

namespace tidegate::cli {
namespace {

constexpr int kAskMs = 5000;
constexpr int kCallMs = 30'000;  // the scheduler reads manifests

int RunRestore(const Arguments& arguments) {
  if (FLAGS_scheduler.empty() || !arguments.positional.empty()) {
    std::cerr << "usage: tidegate restore --scheduler=HOST:PORT [--json]\n";
    return kUsage;
  }
  if (absl::Status s = CheckAddress(FLAGS_scheduler); !s.ok()) {
    std::cerr << "tidegate restore: " << s.message() << "\n";
    return kUsage;
  }
  const StatusClient client(FLAGS_scheduler);
  if (const auto status = client.Get(kAskMs); !status.ok()) {
    std::cerr << "tidegate restore: " << status.status().message() << "\n";
    return kFailed;
  }
  const auto restored = client.Restore(kCallMs);
  if (!restored.ok()) {
    std::cerr << "tidegate restore: " << restored.status().message() << "\n";
    return kFailed;
  }
  if (FLAGS_json) {
    std::cout << JsonObject().Text("folder", restored->folder()).Integer("clock", restored->clock()).Build() << "\n";
  } else {
    std::cout << "the job goes on from " << restored->folder() << ", after clock " << restored->clock() << "\n";
  }
  return kOk;
}

}  // namespace

Command RestoreCommand() {
  return {"restore",
          "",
          "have a job that lost shards go on from its newest checkpoint",
          {{"scheduler", "HOST:PORT[,...]", "the scheduler, or several of which one leads; it was started with --restore_wait_s"}, {"json", "", "as one JSON object"}},
          RunRestore};
}

}  // namespace tidegate::cli
