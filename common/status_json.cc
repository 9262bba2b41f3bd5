#include "common/status_json.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/ascii.h"

namespace tidegate {
namespace {

std::string MemberJson(const GetStatusResponse& status, const MemberStatus& m) {
  JsonObject object;
  object.Text("role", m.member().role() == SERVER ? "server" : "worker")
      .Integer("incarnation", static_cast<int64_t>(m.member().incarnation()))
      .Text("name", m.member().name())
      .Text("address", m.member().address())
      .Text("state", m.state())
      .Bool("alive", m.alive())
      .Integer("silent_ms", m.silent_ms());
  if (m.member().role() == SERVER) {
    if (!m.member().zone().empty()) object.Text("zone", m.member().zone());
    object.Integer("shards", m.shards())
        .Integer("backups", m.backups())
        .Integer("filling", m.filling())
        .Integer("rows", static_cast<int64_t>(m.server_load().rows()))
        .Integer("bytes", static_cast<int64_t>(m.server_load().bytes()))
        .Integer("pulled_rows_total", static_cast<int64_t>(m.server_load().pulled_rows_total()))
        .Integer("pushed_rows_total", static_cast<int64_t>(m.server_load().pushed_rows_total()))
        .Integer("refused_pushes_total", static_cast<int64_t>(m.server_load().refused_pushes_total()));
  } else {
    const std::optional<int64_t> lag = ClockLag(status, m);
    object.Integer("clock", m.worker_load().clock())
        .Number("clock_lag", lag ? static_cast<double>(*lag) : NAN)
        .Integer("samples_total", static_cast<int64_t>(m.worker_load().samples_total()))
        .Number("loss", m.worker_load().loss())
        .Number("reader_wait", m.worker_load().reader_wait())
        .Number("pull_wait", m.worker_load().pull_wait())
        .Number("compute", m.worker_load().compute())
        .Number("push_wait", m.worker_load().push_wait())
        .Integer("bad_lines", static_cast<int64_t>(m.worker_load().bad_lines()))
        .Integer("dropped_steps", static_cast<int64_t>(m.worker_load().dropped_steps()))
        .Integer("dropped_samples", static_cast<int64_t>(m.worker_load().dropped_samples()));
  }
  return object.Build();
}

std::string MetricsJson(const google::protobuf::RepeatedPtrField<MetricValue>& metrics) {
  JsonObject object;
  for (const MetricValue& metric : metrics) object.Number(metric.name(), metric.value());
  return object.Build();
}

std::string ResultJson(const EpochResult& result) {
  return JsonObject()
      .Integer("epoch", result.epoch())
      .Integer("samples", static_cast<int64_t>(result.samples()))
      .Number("seconds", result.seconds())
      .Number("lr_scale", result.lr_scale())
      .Raw("metrics", MetricsJson(result.metrics()))
      .Build();
}

}  // namespace

std::string PhaseName(Phase phase) { return absl::AsciiStrToLower(Phase_Name(phase)); }

double MeanLoss(const GetStatusResponse& status) {
  double sum = 0;
  int n = 0;
  for (const MemberStatus& member : status.members()) {
    if (member.alive() && member.has_worker_load() && member.worker_load().samples_total() > 0) {
      sum += member.worker_load().loss();
      ++n;
    }
  }
  return n == 0 ? NAN : sum / n;
}

std::optional<int64_t> ClockLag(const GetStatusResponse& status, const MemberStatus& member) {
  const WorkerLoad& load = member.worker_load();
  if (member.member().role() != WORKER || !member.alive() || member.state() != "live" || load.samples_total() == 0) return std::nullopt;
  return std::max<int64_t>(0, status.clock() - (load.clock() + 1));  // status.clock() is the next one of the furthest
}

JsonObject StatusObject(const GetStatusResponse& status) {
  std::vector<std::string> members, results, events, histogram, lost;
  for (const MemberStatus& m : status.members()) members.push_back(MemberJson(status, m));
  for (const EpochResult& result : status.results()) results.push_back(ResultJson(result));
  for (const std::string& event : status.events()) events.push_back(JsonQuoted(event));
  for (const uint32_t shard : status.lost_shards()) lost.push_back(std::to_string(shard));
  for (const uint64_t count : status.staleness_histogram()) histogram.push_back(std::to_string(count));
  JsonObject object;
  object.Text("job", status.job())
      .Text("phase", PhaseName(status.phase()))
      .Text("message", status.message())
      .Integer("term", static_cast<int64_t>(status.term()))
      .Integer("epoch", status.epoch())
      .Integer("epochs", status.epochs())
      .Number("progress", status.progress())
      .Integer("splits_done", static_cast<int64_t>(status.splits_done()))
      .Integer("splits_total", static_cast<int64_t>(status.splits_total()))
      .Integer("samples_total", static_cast<int64_t>(status.samples_total()))
      .Number("samples_per_second", status.samples_per_second())
      .Number("seconds", status.seconds())
      .Integer("clock", status.clock())
      .Number("learning_rate_factor", static_cast<float>(status.learning_rate_factor()))
      .Raw("progressive", MetricsJson(status.progressive()))
      .Integer("shards", status.routing().shards())
      .Integer("replicas", status.replicas())
      .Integer("degraded_shards", status.degraded_shards())
      .Bool("settled", status.settled())
      .Integer("failovers_total", static_cast<int64_t>(status.failovers_total()))
      .Raw("lost_shards", JsonArray(lost))
      .Integer("restores_total", static_cast<int64_t>(status.restores_total()))
      .Integer("routing_epoch", static_cast<int64_t>(status.routing().epoch()))
      .Text("checkpoint", status.checkpoint())
      .Raw("members", JsonArray(members))
      .Raw("results", JsonArray(results))
      .Raw("staleness_histogram", JsonArray(histogram))
      .Raw("events", JsonArray(events));
  return object;
}

}  // namespace tidegate
