// `tidegate restart --rolling`: restarts the servers of a running job, one after the other.

#include <algorithm>
#include <chrono>
#include <iostream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/json.h"
#include "cli/patience.h"
#include "cli/rolling_restart.h"
#include "cli/status_client.h"
#include "cli/stop_signals.h"
#include "common/clock.h"
#include "common/counted.h"

DEFINE_bool(rolling, false, "one server after the other");
DECLARE_int32(wait);

namespace tidegate::cli {
namespace {

constexpr int kCallMs = 5000;
constexpr std::chrono::milliseconds kPoll{200};

class Restarter {
 public:
  Restarter(const std::string& scheduler, TimeMs timeout_ms) : client_(scheduler), timeout_ms_(timeout_ms), patience_(timeout_ms) {}

  absl::Status Run(const std::vector<std::string>& servers) {
    auto status = Status();
    if (!status.ok()) return status.status();
    auto plan = RollingRestart::Plan(*status, servers, timeout_ms_);
    if (!plan.ok()) return plan.status();
    WarnOfFewCopies(*status);
    const size_t all = plan->left();
    for (;;) {
      if (!status.ok()) return StopSignals() > 0 ? Stopped(*plan, std::string(status.status().message())) : status.status();
      degraded = status->degraded_shards();
      auto step = plan->Next(*status, clock_.NowMs());
      restarted = plan->restarted();
      if (!step.ok()) return step.status();
      if (!step->say.empty()) std::cerr << "[" << plan->restarted() << " of " << all << " done] " << step->say << "\n";
      if (step->done) return absl::OkStatus();
      if (absl::Status s = CheckStop(*plan); !s.ok()) return s;
      if (step->drain) {
        if (absl::Status s = Drain(*step->drain); !s.ok()) return StopSignals() > 0 ? Stopped(*plan, std::string(s.message())) : s;
        plan->Draining(*status, clock_.NowMs());
      }
      std::this_thread::sleep_for(kPoll);
      status = Status();
    }
  }
  size_t restarted = 0;
  uint32_t degraded = 0;  // shards, as of the newest status

 private:
  absl::StatusOr<GetStatusResponse> Status() {
    return patience_.Until([this] { return client_.Get(kCallMs); });
  }
  absl::Status Drain(Incarnation server) {
    return patience_.Until([&] { return client_.Drain(absl::StrCat(server), /*restart=*/true, kCallMs); }).status();
  }

  static void WarnOfFewCopies(const GetStatusResponse& status) {
    const auto live = std::count_if(status.members().begin(), status.members().end(),
                                    [](const MemberStatus& m) { return m.alive() && m.member().role() == SERVER; });
    if (live > status.replicas()) return;
    std::cerr << "with " << live << " servers a shard has " << live - 1 << " of its " << status.replicas()
              << " copies while one is away: another server, started before, would hold one\n";
  }

  static absl::Status Stopped(const RollingRestart& plan, const std::string& why) {
    return absl::CancelledError(absl::StrCat("stopped by a signal; ", Counted(plan.left(), "server"), plan.left() == 1 ? " was" : " were", " not restarted",
                                             plan.between_servers() ? "" : absl::StrCat(", and server ", plan.current().incarnation(), " is on its way"),
                                             why.empty() ? "" : "; ", why));
  }

  absl::Status CheckStop(const RollingRestart& plan) {
    const int signals = StopSignals();
    if (signals == 0) return absl::OkStatus();
    if (signals > 1 || plan.between_servers()) return Stopped(plan, "");
    if (!stop_said_) std::cerr << "stops once server " << plan.current().incarnation() << " is back; at once where the signal comes again\n";
    stop_said_ = true;
    return absl::OkStatus();
  }

  const StatusClient client_;
  const TimeMs timeout_ms_;
  Patience patience_;
  RealClock clock_;
  bool stop_said_ = false;
};

int RunRestart(const Arguments& arguments) {
  if (FLAGS_scheduler.empty() || !FLAGS_rolling) {
    std::cerr << "usage: tidegate restart --rolling [SERVER ...] --scheduler=HOST:PORT [--wait=SECONDS] [--json]\n";
    return kUsage;
  }
  if (absl::Status s = CheckAddress(FLAGS_scheduler); !s.ok()) {
    std::cerr << "tidegate restart: " << s.message() << "\n";
    return kUsage;
  }
  CatchStopSignals();
  Restarter restarter(FLAGS_scheduler, TimeMs{1000} * FLAGS_wait);
  const absl::Status status = restarter.Run(arguments.positional);
  if (!status.ok()) {
    std::cerr << "tidegate restart: " << status.message() << "\n";
    return absl::IsCancelled(status) ? 128 + LastStopSignal() : kFailed;
  }
  if (FLAGS_json) {
    std::cout << JsonObject()
                     .Integer("restarted", static_cast<int64_t>(restarter.restarted))
                     .Integer("degraded_shards", restarter.degraded)
                     .Build()
              << "\n";
  } else {
    const uint64_t restarted = restarter.restarted;
    std::cout << Counted(restarted, "server") << (restarted == 1 ? " was" : " were") << " restarted, and "
              << (restarter.degraded == 0 ? std::string("every shard has its copies")
                                          : Counted(restarter.degraded, "shard") + " of the job still lack copies: too few servers live (tidegate status)")
              << "\n";
  }
  return kOk;
}

}  // namespace

Command RestartCommand() {
  return {"restart",
          "SERVER ...",
          "restart the servers of a running job one after the other, while training goes on",
          {{"rolling", "", "one after the other (required: there is no other way)"},
           {"scheduler", "HOST:PORT[,...]", "the scheduler, or several of which one leads"},
           Ranged({"wait", "SECONDS", "how long for a server to get empty, to come back, and for the copies to be made"}, 1, 86400),
           {"json", "", "as one JSON object"}},
          RunRestart};
}

}  // namespace tidegate::cli
