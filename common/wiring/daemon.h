#pragma once
// What the three daemons' mains share: flags with --help and --version, the flags of metrics, addresses.
// Main thread, before others.

#include <gflags/gflags.h>

#include <optional>
#include <string>
#include <vector>

#include "common/wiring/flags.h"

DECLARE_int32(metrics_port);
DECLARE_string(metrics_host);
DECLARE_int32(profile);
DECLARE_string(profile_file);

namespace tidegate {

struct Daemon {
  std::string name;   // "tidegate-server"
  std::string flags;  // the required ones, for the line of usage: "--scheduler=HOST:PORT"
  std::string text;   // what it does, and its exit statuses
  std::vector<FlagGroup> groups;
};

// --metrics_port and --metrics_host.
FlagGroup MetricsFlags();
// --profile and --profile_file.
FlagGroup ProfileFlags();
// Begins and ends the process's trace by them.
void StartProfile(const std::string& process);
void WriteProfile();
// --name=HOST:PORT, or several by commas, with ports that can be reached.
absl::Status CheckAddressFlag(const std::string& name, const std::string& value);

// Sets the flags, or says all that is wrong with them on stderr (exit status kExitUsage), or prints what
// --help or --version ask for (0). Empty: go on. Repeated flags go to *repeated.
std::optional<int> ParseDaemonFlags(const Daemon& daemon, int argc, char** argv, Arguments* arguments);
// kExitUsage, after the reason and a hint on stderr.
int BadUsage(const Daemon& daemon, const absl::Status& reason);

}  // namespace tidegate
