#include "scheduler/summary.h"

#include <catch2/catch.hpp>
#include <cmath>

namespace tidegate {
namespace {

GetStatusResponse Status() {
  GetStatusResponse status;
  status.set_job("clicks");
  status.set_samples_total(4'000'000'000);
  status.set_seconds(2);
  EpochResult* result = status.add_results();
  result->set_epoch(1);
  for (const auto& [name, value] : {std::pair<const char*, double>{"valid/click/auc", 0.75}, std::pair<const char*, double>{"train/loss", NAN}}) {
    MetricValue* metric = result->add_metrics();
    metric->set_name(name);
    metric->set_value(value);
  }
  status.add_staleness_histogram(7);
  status.add_members()->mutable_member()->set_role(WORKER);
  MemberStatus* slow = status.add_members();
  slow->mutable_member()->set_incarnation(5);
  slow->mutable_member()->set_name("slow");
  slow->mutable_worker_load()->set_dropped_steps(3);
  slow->mutable_worker_load()->set_dropped_samples(96);
  status.add_events("a \"joined\"");
  return status;
}

TEST_CASE("fields come in a fixed order that people can read, what matters first") {
  SchedulerState state;
  state.set_phase(FINISHED);
  state.set_term(1);
  CHECK(SummaryJson(Status(), state) == R"({
  "job": "clicks",
  "outcome": "finished",
  "message": "",
  "samples": 4000000000,
  "seconds": 2,
  "samples_per_second": 2e+09,
  "best_epoch": 0,
  "checkpoint": "",
  "scheduler_terms": 1,
  "epochs": [{"epoch": 1, "samples": 0, "seconds": 0, "lr_scale": 0, "metrics": {"valid/click/auc": 0.75, "train/loss": null}}],
  "staleness_histogram": [7],
  "dropped": [{"worker": 5, "name": "slow", "steps": 3, "samples": 96}],
  "events": ["a \"joined\""]
}
)");
}

TEST_CASE("the outcome tells a stopped job from a failed one and from one that goes on") {
  SchedulerState state;
  state.set_phase(TRAINING);
  CHECK_THAT(SummaryJson(Status(), state), Catch::Contains("\"outcome\": \"running\""));
  state.set_phase(FAILED);
  state.set_message("stopped: enough");
  CHECK_THAT(SummaryJson(Status(), state), Catch::Contains("\"outcome\": \"stopped\""));
  state.set_message("server 3 died");
  CHECK_THAT(SummaryJson(Status(), state), Catch::Contains("\"outcome\": \"failed\"") && Catch::Contains("server 3 died"));
}

}  // namespace
}  // namespace tidegate
