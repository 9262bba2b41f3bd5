#include "cli/status_text.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tidegate::cli {
namespace {

constexpr int kBarCells = 20;

std::string Bar(double share) {
  const int full = static_cast<int>(std::clamp(share, 0.0, 1.0) * kBarCells);
  return absl::StrCat("[", std::string(full, '#'), std::string(kBarCells - full, '.'), "]");
}

// "AUC 0.7812", "hr@10 0.6512": the first metric whose name begins so.
std::string FirstMetric(const google::protobuf::RepeatedPtrField<MetricValue>& metrics, const std::string& beginning) {
  for (const MetricValue& metric : metrics) {
    if (!absl::StartsWith(metric.name(), beginning) || !std::isfinite(metric.value())) continue;
    const std::string name = metric.name().substr(metric.name().rfind('/') + 1);
    return absl::StrFormat("%s %.4f", name == "auc" ? "AUC" : name, metric.value());
  }
  return "";
}

// Of the last epoch that was evaluated.
std::string LastMetric(const GetStatusResponse& status) {
  for (int i = status.results_size() - 1; i >= 0; --i) {
    const std::string metric = FirstMetric(status.results(i).metrics(), "valid/");
    if (!metric.empty()) return "valid " + metric;
  }
  return "";
}

std::string MembersIn(const GetStatusResponse& status) {
  int servers = 0;
  int workers = 0;
  for (const MemberStatus& member : status.members()) {
    if (!member.alive()) continue;
    (member.member().role() == SERVER ? servers : workers) += 1;
  }
  return absl::StrCat(servers, servers == 1 ? " server and " : " servers and ", workers,
                      workers == 1 ? " worker have joined" : " workers have joined");
}

// Mean over the workers, of text a second that their readers worked; 0: nothing known yet.
double ParseRate(const GetStatusResponse& status) {
  double sum = 0;
  int workers = 0;
  for (const MemberStatus& member : status.members()) {
    if (!member.alive() || member.worker_load().parse_bytes() <= 0) continue;
    sum += member.worker_load().parse_bytes();
    ++workers;
  }
  return workers == 0 ? 0 : sum / workers;
}

}  // namespace

std::string CopiesText(const MemberStatus& server) {
  std::string text = absl::StrCat(server.shards());
  if (server.backups() + server.filling() > 0) absl::StrAppend(&text, "+", server.backups());
  if (server.filling() > 0) absl::StrAppend(&text, "+", server.filling(), "?");
  return text;
}

std::string ReplicasLine(const GetStatusResponse& status) {
  if (status.replicas() < 2 || status.routing().epoch() == 0) return "";
  std::string line = absl::StrCat(status.replicas(), " copies of each shard");
  if (status.degraded_shards() > 0) {
    absl::StrAppend(&line, "; degraded: ", status.degraded_shards(), " of ", status.routing().shards(), " have fewer in sync");
  } else if (!status.settled()) {
    absl::StrAppend(&line, ", some are being moved");
  }
  if (status.failovers_total() > 0) {
    absl::StrAppend(&line, "; ", status.failovers_total(), status.failovers_total() == 1 ? " failover" : " failovers");
  }
  return line + "\n";
}

std::string ShortNumber(double value) {
  const char* const units[] = {"", "k", "M", "G", "T"};
  size_t unit = 0;
  while (std::abs(value) >= 999.5 && unit + 1 < std::size(units)) {
    value /= 1000;
    ++unit;
  }
  return absl::StrFormat(unit == 0 || value >= 99.95 ? "%.0f%s" : "%.1f%s", value, units[unit]);
}

std::string ShortBytes(double bytes) {
  const char* const units[] = {"B", "KB", "MB", "GB", "TB"};
  size_t unit = 0;
  while (bytes >= 999.5 && unit + 1 < std::size(units)) {
    bytes /= 1000;
    ++unit;
  }
  return absl::StrFormat(unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

Limit LargestWait(const GetStatusResponse& status) {
  const char* const names[] = {"reader", "pull wait", "compute", "push"};
  double sums[4] = {0, 0, 0, 0};
  int workers = 0;
  for (const MemberStatus& member : status.members()) {
    if (!member.alive() || !member.has_worker_load()) continue;
    const WorkerLoad& load = member.worker_load();
    const double shares[4] = {load.reader_wait(), load.pull_wait(), load.compute(), load.push_wait()};
    for (int i = 0; i < 4; ++i) sums[i] += std::clamp(shares[i], 0.0, 1.0);
    ++workers;
  }
  Limit limit;
  if (workers == 0) return limit;
  const int largest = static_cast<int>(std::max_element(sums, sums + 4) - sums);
  if (sums[largest] <= 0) return limit;
  limit.name = names[largest];
  limit.share = sums[largest] / workers;
  return limit;
}

std::string ProgressLine(const GetStatusResponse& status, int width) {
  std::string out;
  if (status.phase() == STARTING) {
    out = absl::StrCat("starting: ", MembersIn(status));
    if (!status.message().empty()) absl::StrAppend(&out, "; ", status.message());
  } else {
    const double progress = std::min(status.progress(), 1.0);
    out = absl::StrCat("epoch ", status.epoch(), "/", status.epochs());
    if (status.phase() != TRAINING) absl::StrAppend(&out, " ", PhaseName(status.phase()));
    if (progress >= 0) absl::StrAppendFormat(&out, " %s %3.0f%%", Bar(progress), progress * 100);
    if (progress < 0 && status.phase() == TRAINING) {
      absl::StrAppend(&out, "  ", ShortNumber(static_cast<double>(status.samples_total())), " samples");
    }
    if (status.phase() == TRAINING) absl::StrAppend(&out, "  ", ShortNumber(status.samples_per_second()), " samples/s");
    const double loss = MeanLoss(status);
    if (std::isfinite(loss)) absl::StrAppendFormat(&out, "  loss %.4f", loss);
    const std::string progressive = FirstMetric(status.progressive(), "train/");
    if (!progressive.empty()) absl::StrAppend(&out, "  train ", progressive);
    const std::string metric = LastMetric(status);
    if (!metric.empty()) absl::StrAppend(&out, "  ", metric);
    if (status.learning_rate_factor() > 0 && status.learning_rate_factor() != 1) {
      absl::StrAppendFormat(&out, "  lr x %.3g", status.learning_rate_factor());
    }
    const Limit limit = LargestWait(status);
    const double parse = ParseRate(status);
    if (parse > 0) absl::StrAppend(&out, "  parses ", ShortBytes(parse), "/s");
    if (limit.share >= 0.01 && status.phase() == TRAINING) {
      absl::StrAppendFormat(&out, "  limited by %s (%.0f%%)", limit.name, limit.share * 100);
    }
  }
  if (width > 0 && out.size() > static_cast<size_t>(width)) out.resize(width);
  return out;
}

std::string StatusReport(const GetStatusResponse& status) {
  std::string out = absl::StrFormat("job %s: %s", status.job(), PhaseName(status.phase()));
  if (status.epoch() > 0) absl::StrAppendFormat(&out, ", epoch %d of %d", status.epoch(), status.epochs());
  if (!status.message().empty()) absl::StrAppend(&out, ": ", status.message());
  absl::StrAppendFormat(&out, "\n%s samples, %s/s now, %d shards, routing epoch %d, term %d\n",
                        ShortNumber(status.samples_total()), ShortNumber(status.samples_per_second()),
                        status.routing().shards(), status.routing().epoch(), status.term());
  absl::StrAppend(&out, ReplicasLine(status));
  if (status.lost_shards_size() > 0) absl::StrAppend(&out, status.lost_shards_size(), " shards are lost\n");
  if (status.restores_total() > 0) absl::StrAppend(&out, "restored from a checkpoint: ", status.restores_total(), " times\n");
  if (status.epoch() > 0) {
    absl::StrAppendFormat(&out, "clock %d, learning rates x %.4g\n", status.clock(), status.learning_rate_factor());
  }
  for (const MetricValue& metric : status.progressive()) {
    absl::StrAppendFormat(&out, "  %s %.4f\n", metric.name(), metric.value());
  }
  for (const MemberStatus& m : status.members()) {
    const bool server = m.member().role() == SERVER;
    absl::StrAppendFormat(&out, "  %-6s %3d  %-8s %-22s", server ? "server" : "worker", m.member().incarnation(),
                          m.state(), m.member().name());
    if (server) {
      absl::StrAppendFormat(&out, " %s  %s shards  %s rows  %s  pulled %s  pushed %s  refused %d",
                            m.member().address(), CopiesText(m), ShortNumber(m.server_load().rows()),
                            ShortBytes(m.server_load().bytes()), ShortNumber(m.server_load().pulled_rows_total()),
                            ShortNumber(m.server_load().pushed_rows_total()), m.server_load().refused_pushes_total());
    } else {
      const WorkerLoad& load = m.worker_load();
      const std::string behind = ClockLag(status, m).value_or(0) > 0 ? absl::StrCat(", ", *ClockLag(status, m), " behind") : "";
      absl::StrAppendFormat(&out, " clock %d%s  %s samples  loss %.4f  reader %.0f%% pull %.0f%% compute %.0f%% push %.0f%%",
                            load.clock(), behind, ShortNumber(load.samples_total()), load.loss(), load.reader_wait() * 100,
                            load.pull_wait() * 100, load.compute() * 100, load.push_wait() * 100);
      if (load.dropped_steps() > 0) {
        absl::StrAppendFormat(&out, "  dropped %d steps, %s samples", load.dropped_steps(), ShortNumber(load.dropped_samples()));
      }
    }
    absl::StrAppend(&out, m.alive() ? "" : absl::StrCat("  silent for ", m.silent_ms(), " ms"), "\n");
  }
  for (const EpochResult& result : status.results()) {
    absl::StrAppendFormat(&out, "  epoch %d: %s samples in %.1f s", result.epoch(), ShortNumber(result.samples()),
                          result.seconds());
    for (const MetricValue& metric : result.metrics()) {
      const bool count = absl::EndsWith(metric.name(), "/rows");
      absl::StrAppendFormat(&out, "  %s %.*f", metric.name(), count ? 0 : 4, metric.value());
    }
    out += "\n";
  }
  if (!status.checkpoint().empty()) absl::StrAppend(&out, "checkpoint: ", status.checkpoint(), "\n");
  return out;
}

}  // namespace tidegate::cli
