// `tidegate checkpoint`: has a running job make a checkpoint now, and waits until it is complete.

#include <chrono>
#include <iostream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/json.h"
#include "cli/status_client.h"

DEFINE_int32(wait, 600, "");

namespace tidegate::cli {
namespace {

constexpr int kCallMs = 5000;
constexpr std::chrono::milliseconds kPoll{100};

// The folder of checkpoint `number` or a later one, once it is complete.
absl::StatusOr<CheckpointStatus> WaitFor(const StatusClient& client, uint64_t number, int wait_s) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(wait_s);
  std::string waits_for = "the job to come to a point where it can be made";
  for (;;) {
    auto status = client.Get(kCallMs);
    if (!status.ok()) return status.status();
    const CheckpointStatus& checkpoints = status->checkpoints();
    if (checkpoints.complete_number() >= number) return checkpoints;
    if (checkpoints.failed_number() >= number) return absl::UnavailableError(checkpoints.error());
    if (status->phase() == FINISHED || status->phase() == FAILED) {
      return absl::FailedPreconditionError("the job ended before");
    }
    if (checkpoints.saving()) waits_for = "its shards to be written";
    if (std::chrono::steady_clock::now() >= until) {
      return absl::DeadlineExceededError(absl::StrCat("not complete after ", wait_s, " s (--wait): waits for ", waits_for));
    }
    std::this_thread::sleep_for(kPoll);
  }
}

int RunCheckpoint(const Arguments& arguments) {
  if (FLAGS_scheduler.empty() || !arguments.positional.empty()) {
    std::cerr << "usage: tidegate checkpoint --scheduler=HOST:PORT [--wait=SECONDS] [--json]\n";
    return kUsage;
  }
  if (absl::Status s = CheckAddress(FLAGS_scheduler); !s.ok()) {
    std::cerr << "tidegate checkpoint: " << s.message() << "\n";
    return kUsage;
  }
  const StatusClient client(FLAGS_scheduler);
  auto number = client.SaveCheckpoint(kCallMs);
  const absl::StatusOr<CheckpointStatus> made =
      number.ok() ? WaitFor(client, *number, FLAGS_wait) : absl::StatusOr<CheckpointStatus>(number.status());
  if (!made.ok()) {
    std::cerr << "tidegate checkpoint: " << made.status().message() << "\n";
    return kFailed;
  }
  if (FLAGS_json) {
    std::cout << JsonObject().Integer("number", static_cast<int64_t>(made->complete_number())).Text("folder", made->folder()).Build()
              << "\n";
  } else {
    std::cout << made->folder() << "\n";
  }
  return kOk;
}

}  // namespace

Command CheckpointCommand() {
  return {"checkpoint",
          "",
          "make a checkpoint of a running job now; training goes on",
          {{"scheduler", "HOST:PORT[,...]", "the scheduler, or several of which one leads"},
           Ranged({"wait", "SECONDS", "how long to wait until it is complete"}, 0, 86400),
           {"json", "", "as one JSON object"}},
          RunCheckpoint};
}

}  // namespace tidegate::cli
