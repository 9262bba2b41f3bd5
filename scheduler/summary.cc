#include "scheduler/summary.h"

#include <vector>

#include "common/exit_codes.h"
#include "common/json.h"

namespace tidegate {
namespace {

std::string EpochJson(const EpochResult& result) {
  JsonObject metrics;
  for (const MetricValue& metric : result.metrics()) metrics.Raw(metric.name(), JsonNumber(metric.value(), 17));
  return JsonObject()
      .Integer("epoch", result.epoch())
      .Integer("samples", static_cast<int64_t>(result.samples()))
      .Number("seconds", result.seconds())
      .Number("lr_scale", result.lr_scale())
      .Raw("metrics", metrics.Build())
      .Build();
}

// Of train.drop_slowest: who was slow.
std::string DroppedJson(const MemberStatus& member) {
  return JsonObject()
      .Integer("worker", static_cast<int64_t>(member.member().incarnation()))
      .Text("name", member.member().name())
      .Integer("steps", static_cast<int64_t>(member.worker_load().dropped_steps()))
      .Integer("samples", static_cast<int64_t>(member.worker_load().dropped_samples()))
      .Build();
}

const char* Outcome(const SchedulerState& state) {
  if (state.phase() == FINISHED) return "finished";
  if (state.phase() != FAILED) return "running";
  return WasStopped(state.message()) ? "stopped" : "failed";
}

}  // namespace

std::string SummaryJson(const GetStatusResponse& status, const SchedulerState& state,
                        const std::string& failure) {
  const double seconds = status.seconds();
  std::vector<std::string> epochs, histogram, events;
  for (const EpochResult& result : status.results()) epochs.push_back(EpochJson(result));
  for (const uint64_t count : status.staleness_histogram()) histogram.push_back(std::to_string(count));
  for (const std::string& event : status.events()) events.push_back(JsonQuoted(event));
  std::vector<std::string> dropped;
  for (const MemberStatus& member : status.members()) {
    if (member.worker_load().dropped_steps() > 0) dropped.push_back(DroppedJson(member));
  }
  return JsonObject()
      .Text("job", status.job())
      .Text("outcome", failure.empty() ? Outcome(state) : "failed")
      .Text("message", failure.empty() ? state.message() : failure)
      .Integer("samples", static_cast<int64_t>(status.samples_total()))
      .Number("seconds", seconds)
      .Number("samples_per_second", seconds > 0 ? static_cast<double>(status.samples_total()) / seconds : 0)
      .Integer("best_epoch", state.best_epoch())
      .Text("checkpoint", state.checkpoint())
      .Integer("scheduler_terms", static_cast<int64_t>(state.term()))
      .Raw("epochs", JsonArray(epochs))
      .Raw("staleness_histogram", JsonArray(histogram))
      .Raw("dropped", JsonArray(dropped))
      .Raw("events", JsonArray(events))
      .BuildLines();
}

}  // namespace tidegate
