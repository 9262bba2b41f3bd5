#include "cli/top_view.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cli/status_text.h"
#include "common/status_json.h"

namespace tidegate::cli {
namespace {

constexpr int kStalenessShown = 6;

const MemberStatus* Find(const Observation* at, uint64_t incarnation) {
  if (at == nullptr) return nullptr;
  for (const MemberStatus& m : at->status.members()) {
    if (m.member().incarnation() == incarnation) return &m;
  }
  return nullptr;
}

// "1.2k/s"; "-" where it is not known.
std::string Rate(uint64_t now, const MemberStatus* before, uint64_t then, TimeMs ms) {
  if (before == nullptr || ms <= 0 || now < then) return "-";
  return ShortNumber(1000.0 * static_cast<double>(now - then) / static_cast<double>(ms)) + "/s";
}

std::string State(const MemberStatus& m) {
  if (m.alive() && m.silent_ms() > 1500) return absl::StrFormat("silent %.0fs", m.silent_ms() / 1000.0);
  return m.state();
}

std::string Name(const Member& member) { return member.name().substr(0, 20); }

std::string ServerLine(const MemberStatus& m, const MemberStatus* before, TimeMs ms) {
  const ServerLoad& load = m.server_load();
  const ServerLoad then = before != nullptr ? before->server_load() : ServerLoad();
  return absl::StrFormat("  server %-4d %-20s %-11s %6s %8s %9s %9s %9s %7d", m.member().incarnation(), Name(m.member()), State(m),
                         CopiesText(m), ShortNumber(static_cast<double>(load.rows())), ShortBytes(static_cast<double>(load.bytes())),
                         Rate(load.pulled_rows_total(), before, then.pulled_rows_total(), ms),
                         Rate(load.pushed_rows_total(), before, then.pushed_rows_total(), ms), load.refused_pushes_total());
}

std::string WorkerLine(const GetStatusResponse& status, const MemberStatus& m, const MemberStatus* before, TimeMs ms) {
  const WorkerLoad& load = m.worker_load();
  const uint64_t then = before != nullptr ? before->worker_load().samples_total() : 0;
  const std::string loss = load.samples_total() > 0 ? absl::StrFormat("%.4f", load.loss()) : "-";
  const std::optional<int64_t> lag = ClockLag(status, m);
  return absl::StrFormat("  worker %-4d %-20s %-11s %6d %6s %8s %9s %9s   %3.0f%% %3.0f%% %3.0f%% %3.0f%%", m.member().incarnation(),
                         Name(m.member()), State(m), load.clock(), lag ? absl::StrCat(*lag) : "-", ShortNumber(static_cast<double>(load.samples_total())),
                         Rate(load.samples_total(), before, then, ms), loss, load.reader_wait() * 100, load.pull_wait() * 100,
                         load.compute() * 100, load.push_wait() * 100);
}

std::vector<std::string> MemberLines(const Observation& now, const Observation* before, Role role) {
  const TimeMs ms = before == nullptr ? 0 : now.at_ms - before->at_ms;
  std::vector<std::string> lines;
  for (const MemberStatus& m : now.status.members()) {
    if (m.member().role() != role) continue;
    const MemberStatus* then = Find(before, m.member().incarnation());
    lines.push_back(role == SERVER ? ServerLine(m, then, ms) : WorkerLine(now.status, m, then, ms));
  }
  return lines;
}

std::string EpochLine(const EpochResult& result) {
  std::string line = absl::StrCat("  epoch ", result.epoch(), ":");
  for (const MetricValue& metric : result.metrics()) {
    const std::string& name = metric.name();
    if (name.size() > 5 && name.compare(name.size() - 5, 5, "/rows") == 0) continue;
    absl::StrAppendFormat(&line, "  %s %.4f", name, metric.value());
  }
  return line;
}

}  // namespace

std::string StalenessLine(const GetStatusResponse& status) {
  const auto& counts = status.staleness_histogram();
  double total = 0;
  int last = -1;
  for (int i = 0; i < counts.size(); ++i) {
    total += static_cast<double>(counts[i]);
    if (counts[i] > 0) last = i;
  }
  if (last < 0) return "";
  std::string line = "staleness of pulls";
  for (int i = 0; i <= last; ++i) {
    double count = static_cast<double>(counts[i]);
    const bool more = i == kStalenessShown || i == counts.size() - 1;
    for (int j = i + 1; i == kStalenessShown && j <= last; ++j) count += static_cast<double>(counts[j]);
    absl::StrAppendFormat(&line, "  %d%s: %.0f%%", i, more && i > 0 ? " or more" : "", 100 * count / total);
    if (i == kStalenessShown) break;
  }
  return line;
}

std::string TopScreen(const Observation& now, const Observation* before, int width, int height) {
  const GetStatusResponse& s = now.status;
  std::vector<std::string> lines;
  lines.push_back(absl::StrCat("job ", s.job(), ": ", PhaseName(s.phase()), s.message().empty() ? "" : ": " + s.message()));
  if (s.phase() != FINISHED && s.phase() != FAILED) lines.push_back(ProgressLine(s, 0));
  lines.push_back(absl::StrCat(ShortNumber(static_cast<double>(s.samples_total())), " samples in ", absl::StrFormat("%.0f s", s.seconds())));
  if (std::string replicas = ReplicasLine(s); !replicas.empty()) {
    replicas.pop_back();
    lines.push_back(std::move(replicas));
  }
  if (const std::string staleness = StalenessLine(s); !staleness.empty()) lines.push_back(staleness);
  lines.push_back("");
  lines.push_back(absl::StrFormat("  %-32s %-11s %6s %8s %9s %9s %9s %7s", "servers", "state", "shards", "rows", "memory", "pulled", "pushed",
                                  "refused"));
  for (std::string& line : MemberLines(now, before, SERVER)) lines.push_back(std::move(line));
  lines.push_back(absl::StrFormat("  %-32s %-11s %6s %6s %8s %9s %9s   %s", "workers", "state", "clock", "behind", "samples", "speed", "loss",
                                  "read pull comp push"));
  for (std::string& line : MemberLines(now, before, WORKER)) lines.push_back(std::move(line));
  lines.push_back("");
  for (int i = std::max(0, s.results_size() - 5); i < s.results_size(); ++i) lines.push_back(EpochLine(s.results(i)));
  for (int i = std::max(0, s.events_size() - 5); i < s.events_size(); ++i) lines.push_back("  " + s.events(i));
  if (height > 0 && lines.size() > static_cast<size_t>(height)) lines.resize(static_cast<size_t>(height));
  for (std::string& line : lines) {
    if (width > 0 && line.size() > static_cast<size_t>(width)) line.resize(static_cast<size_t>(width));
  }
  return absl::StrJoin(lines, "\n") + "\n";
}

}  // namespace tidegate::cli
