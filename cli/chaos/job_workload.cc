#include "cli/chaos/job_workload.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/clock.h"
#include "common/exit_codes.h"

namespace tidegate::cli {
namespace {

constexpr TimeMs kAskMs = 50;
constexpr std::chrono::milliseconds kPoll{20};
constexpr int kLateReports = 2;  // heartbeats, after a fault, whose samples may be from before it

TimeMs Now() { return RealClock().NowMs(); }

}  // namespace

absl::Status JobWorkload::Start() {
  const TimeMs deadline = Now() + options_.start_timeout_s * TimeMs{1000};
  while (status_.samples_total() == 0 && !finished_) {
    if (Now() > deadline) return absl::DeadlineExceededError(absl::StrCat("the job did not begin to train within ", options_.start_timeout_s, " s"));
    for (const std::string& name : cluster_->Poll()) {
      if (cluster_->Ending(name) != "exit status 0") return absl::FailedPreconditionError(absl::StrCat(name, " did not start: ", cluster_->Ending(name)));
    }
    if (absl::Status s = Watch(); !s.ok()) return s;
    std::this_thread::sleep_for(kPoll);
  }
  return absl::OkStatus();
}

void JobWorkload::Ask(TimeMs now) {
  if (now - asked_ < kAskMs) return;
  asked_ = now;
  auto status = cluster_->Status();
  if (!status.ok()) return;
  if (status->samples_total() > status_.samples_total()) risen_ = now;
  status_ = *std::move(status);
}

absl::Status JobWorkload::Watch() {
  if (finished_) return absl::OkStatus();
  Ask(Now());
  if (status_.phase() == FAILED) return absl::AbortedError("the job failed: " + status_.message());
  const std::optional<int> end = cluster_->JobEnd();
  if (end.value_or(kExitFinished) != kExitFinished) return absl::AbortedError("the job failed (its scheduler's log says why)");
  finished_ = status_.phase() == FINISHED || end.has_value();
  return absl::OkStatus();
}

Recovery JobWorkload::RecoveryOf(const FaultReach&, TimeMs since) {
  Recovery out;
  out.waits_for = absl::StrCat("samples beyond ", status_.samples_total());
  // Evaluation and saving count no samples.
  out.done = finished_ || (asked_ > since && status_.phase() != TRAINING);
  if (risen_ <= since + kLateReports * options_.heartbeat_interval_ms) return out;
  out.done = true;
  out.first_ms = out.all_ms = risen_ - since;
  return out;
}

absl::StatusOr<bool> JobWorkload::Audit() { return finished_; }

std::string JobWorkload::Text() const {
  std::string out = absl::StrCat("epoch ", status_.epoch(), " of ", status_.epochs(), ", ", status_.samples_total(), " samples");
  if (status_.results().empty()) return out;
  for (const MetricValue& metric : status_.results().rbegin()->metrics()) {
    if (absl::EndsWith(metric.name(), "/rows") || absl::EndsWith(metric.name(), "/groups")) continue;
    absl::StrAppendFormat(&out, ", %s %.5f", metric.name(), metric.value());
  }
  return out;
}

}  // namespace tidegate::cli
