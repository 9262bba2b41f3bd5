#include "scheduler/summary.h"

#include <cmath>

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include "absl/strings/match.h"

namespace tidegate {
namespace {

using google::protobuf::ListValue;
using google::protobuf::Struct;
using google::protobuf::Value;

Value Number(double number) {
  Value value;
  if (std::isfinite(number)) {
    value.set_number_value(number);
  } else {
    value.set_null_value(google::protobuf::NULL_VALUE);
  }
  return value;
}
Value Text(const std::string& text) {
  Value value;
  value.set_string_value(text);
  return value;
}

Value Epoch(const EpochResult& result) {
  Value epoch;
  auto& fields = *epoch.mutable_struct_value()->mutable_fields();
  fields["epoch"] = Number(result.epoch());
  fields["seconds"] = Number(result.seconds());
  fields["samples"] = Number(static_cast<double>(result.samples()));
  fields["lr_scale"] = Number(result.lr_scale());
  auto& metrics = *fields["metrics"].mutable_struct_value()->mutable_fields();
  for (const MetricValue& metric : result.metrics()) metrics[metric.name()] = Number(metric.value());
  return epoch;
}

const char* Outcome(const SchedulerState& state) {
  if (state.phase() == FINISHED) return "finished";
  if (state.phase() != FAILED) return "running";
  return absl::StartsWith(state.message(), "stopped: ") ? "stopped" : "failed";
}

}  // namespace

std::string SummaryJson(const GetStatusResponse& status, const SchedulerState& state,
                        const std::string& failure) {
  Struct summary;
  auto& fields = *summary.mutable_fields();
  fields["job"] = Text(status.job());
  fields["outcome"] = Text(failure.empty() ? Outcome(state) : "failed");
  fields["message"] = Text(failure.empty() ? state.message() : failure);
  fields["samples"] = Number(static_cast<double>(status.samples_total()));
  fields["seconds"] = Number(status.seconds());
  fields["samples_per_second"] =
      Number(status.seconds() > 0 ? static_cast<double>(status.samples_total()) / status.seconds() : 0);
  fields["best_epoch"] = Number(state.best_epoch());
  fields["checkpoint"] = Text(state.checkpoint());
  fields["scheduler_terms"] = Number(static_cast<double>(state.term()));
  ListValue* epochs = fields["epochs"].mutable_list_value();
  for (const EpochResult& result : status.results()) *epochs->add_values() = Epoch(result);
  ListValue* histogram = fields["staleness_histogram"].mutable_list_value();
  for (uint64_t count : status.staleness_histogram()) {
    *histogram->add_values() = Number(static_cast<double>(count));
  }
  ListValue* events = fields["events"].mutable_list_value();
  for (const std::string& event : status.events()) *events->add_values() = Text(event);
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  std::string json;
  const auto written = google::protobuf::util::MessageToJsonString(summary, &json, options);
  return written.ok() ? json : "{}\n";
}

}  // namespace tidegate
