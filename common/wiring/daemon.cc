#include "common/wiring/daemon.h"

#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/executor/trace.h"
#include "common/exit_codes.h"
#include "common/host_port.h"
#include "common/logging.h"
#include "common/version.h"

DEFINE_int32(metrics_port, 0, "");
DEFINE_string(metrics_host, "127.0.0.1", "");
DEFINE_int32(profile, 0, "");
DEFINE_string(profile_file, "", "");

namespace tidegate {

FlagGroup MetricsFlags() {
  return {"metrics (Prometheus, /metrics)",
          {Ranged({"metrics_port", "PORT", "0 picks a free one (logged), -1 serves none"}, -1, 65535),
           {"metrics_host", "HOST", "address they are served at"}}};
}

FlagGroup ProfileFlags() {
  return {"profile",
          {Ranged({"profile", "N", "trace the first N clocks; 0: none"}, 0, 100000),
           {"profile_file", "FILE", "gets the trace at the end: Chrome's events, one a line (`tidegate local --profile` merges them)"}}};
}

void StartProfile(const std::string& process) {
  if (FLAGS_profile > 0 && !FLAGS_profile_file.empty()) Trace::Start(process, static_cast<uint64_t>(FLAGS_profile));
}

void WriteProfile() {
  if (FLAGS_profile <= 0) return;
  const absl::Status written = Trace::Write(FLAGS_profile_file);
  if (!written.ok()) TG_LOG(ERROR) << "--profile_file: " << written.message();
}

absl::Status CheckAddressFlag(const std::string& name, const std::string& value) {
  if (value.empty()) return absl::InvalidArgumentError(absl::StrCat("--", name, "=HOST:PORT is required"));
  const absl::Status s = SplitAddresses(value).status();
  return s.ok() ? s : absl::InvalidArgumentError(absl::StrCat("--", name, "=", value, ": ", s.message()));
}

int BadUsage(const Daemon& daemon, const absl::Status& reason) {
  std::fprintf(stderr, "%s: %s\nusage: %s %s [flags]; --help lists them\n", daemon.name.c_str(),
               std::string(reason.message()).c_str(), daemon.name.c_str(), daemon.flags.c_str());
  return kExitUsage;
}

std::optional<int> ParseDaemonFlags(const Daemon& daemon, int argc, char** argv, Arguments* arguments) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  for (const std::string& word : words) {
    if (word == "--help" || word == "-h" || word == "-help") {
      std::printf("usage: %s %s [flags]\n%s\n\n%s", daemon.name.c_str(), daemon.flags.c_str(), daemon.text.c_str(),
                  FlagsText(daemon.groups).c_str());
      return kExitFinished;
    }
    if (word == "--version") {
      std::printf("%s %s\n", daemon.name.c_str(), kVersion);
      return kExitFinished;
    }
  }
  auto parsed = ParseFlags(daemon.name, daemon.groups, words);
  if (!parsed.ok()) return BadUsage(daemon, parsed.status());
  if (!parsed->positional.empty()) {
    return BadUsage(daemon, absl::InvalidArgumentError(
                                absl::StrCat("unexpected argument \"", parsed->positional[0], "\"; it takes only flags")));
  }
  *arguments = *std::move(parsed);
  return std::nullopt;
}

}  // namespace tidegate
