// `tidegate drain`: empties a server of a running job, so that it can be stopped.

#include <chrono>
#include <iostream>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/json.h"
#include "cli/patience.h"
#include "cli/status_client.h"

DECLARE_int32(wait);

namespace tidegate::cli {
namespace {

constexpr int kCallMs = 5000;
constexpr std::chrono::milliseconds kPoll{200};

// Until the scheduler has taken the server out of the job.
absl::Status WaitForEmpty(const StatusClient& client, uint64_t server, int wait_s, Patience* patience) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(wait_s);
  uint32_t last = ~0u;
  std::optional<uint64_t> restores;
  for (;;) {
    auto status = patience->Until([&] { return client.Get(kCallMs); });
    if (!status.ok()) return status.status();
    const MemberStatus* member = nullptr;
    for (const MemberStatus& m : status->members()) {
      if (m.member().incarnation() == server) member = &m;
    }
    restores = restores.value_or(status->restores_total());
    if (*restores != status->restores_total()) {
      return absl::FailedPreconditionError("shards were lost and the job went on from a checkpoint: its servers join anew, drain the one that is there now");
    }
    if (member == nullptr || member->state() == "drained" || member->state() == "left") return absl::OkStatus();
    if (member->state() == "dead") return absl::UnavailableError("it died before it was empty");
    if (status->phase() == FINISHED || status->phase() == FAILED) {
      return absl::FailedPreconditionError("the job ended before");
    }
    const uint32_t left = member->shards() + member->backups() + member->filling();
    if (std::chrono::steady_clock::now() >= until) {
      return absl::DeadlineExceededError(absl::StrCat("it still holds ", left, " copies of shards after ", wait_s,
                                                      " s (--wait); draining goes on"));
    }
    if (left != last) std::cerr << "holds " << left << " copies of shards\n";
    last = left;
    std::this_thread::sleep_for(kPoll);
  }
}

int RunDrain(const Arguments& arguments) {
  if (FLAGS_scheduler.empty() || arguments.positional.size() != 1) {
    std::cerr << "usage: tidegate drain SERVER --scheduler=HOST:PORT [--wait=SECONDS] [--json]\n";
    return kUsage;
  }
  if (absl::Status s = CheckAddress(FLAGS_scheduler); !s.ok()) {
    std::cerr << "tidegate drain: " << s.message() << "\n";
    return kUsage;
  }
  const StatusClient client(FLAGS_scheduler);
  Patience patience(TimeMs{1000} * FLAGS_wait);
  const auto begun = patience.Until([&] { return client.Drain(arguments.positional[0], /*restart=*/false, kCallMs); });
  absl::Status status = begun.status();
  if (status.ok()) status = WaitForEmpty(client, begun->incarnation(), FLAGS_wait, &patience);
  if (!status.ok()) {
    std::cerr << "tidegate drain: " << status.message() << "\n";
    return kFailed;
  }
  if (FLAGS_json) {
    std::cout << JsonObject().Integer("incarnation", static_cast<int64_t>(begun->incarnation())).Build() << "\n";
  } else {
    std::cout << "server " << begun->incarnation() << " is empty: it ends by itself, or may be stopped\n";
  }
  return kOk;
}

}  // namespace

Command DrainCommand() {
  return {"drain",
          "SERVER",
          "move a server's shards to others while training goes on, and let it end",
          {{"scheduler", "HOST:PORT[,...]", "the scheduler, or several of which one leads"},
           Ranged({"wait", "SECONDS", "how long to wait until it is empty"}, 0, 86400),
           {"json", "", "as one JSON object"}},
          RunDrain};
}

}  // namespace tidegate::cli
