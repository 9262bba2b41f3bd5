#include "cli/chaos/faults.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tidegate::cli {
namespace {

constexpr ChaosFault kFaults[] = {ChaosFault::kKillServer,    ChaosFault::kPauseServer,  ChaosFault::kKillScheduler,
                                  ChaosFault::kPauseScheduler, ChaosFault::kNoScheduler,  ChaosFault::kRestartServer,
                                  ChaosFault::kKillWorker,    ChaosFault::kCutPair,
                                  ChaosFault::kCutOneWay,      ChaosFault::kIsolateServer, ChaosFault::kIsolateScheduler};

}  // namespace

const char* NameOf(ChaosFault fault) {
  switch (fault) {
    case ChaosFault::kKillServer: return "kill-server";
    case ChaosFault::kPauseServer: return "pause-server";
    case ChaosFault::kKillScheduler: return "kill-scheduler";
    case ChaosFault::kPauseScheduler: return "pause-scheduler";
    case ChaosFault::kNoScheduler: return "no-scheduler";
    case ChaosFault::kRestartServer: return "restart-server";
    case ChaosFault::kKillWorker: return "kill-worker";
    case ChaosFault::kCutPair: return "cut-pair";
    case ChaosFault::kCutOneWay: return "cut-one-way";
    case ChaosFault::kIsolateServer: return "isolate-server";
    case ChaosFault::kIsolateScheduler: return "isolate-scheduler";
  }
  return "?";
}

bool CutsLinks(ChaosFault fault) {
  return fault == ChaosFault::kCutPair || fault == ChaosFault::kCutOneWay || fault == ChaosFault::kIsolateServer || fault == ChaosFault::kIsolateScheduler;
}

bool HitsServer(ChaosFault fault) {
  return fault == ChaosFault::kKillServer || fault == ChaosFault::kPauseServer || fault == ChaosFault::kRestartServer || fault == ChaosFault::kCutPair ||
         fault == ChaosFault::kCutOneWay || fault == ChaosFault::kIsolateServer;
}

absl::StatusOr<std::vector<ChaosFault>> ParseFaults(const std::string& list, bool workers) {
  std::vector<ChaosFault> out;
  std::vector<ChaosFault> faults;
  std::copy_if(std::begin(kFaults), std::end(kFaults), std::back_inserter(faults),
               [&](ChaosFault f) { return workers || f != ChaosFault::kKillWorker; });
  std::string known = "all, network";
  for (const ChaosFault fault : faults) known += std::string(", ") + NameOf(fault);
  for (const std::string& word : static_cast<std::vector<std::string>>(absl::StrSplit(list, ','))) {
    if (word == "all" || word == "network") {
      std::copy_if(faults.begin(), faults.end(), std::back_inserter(out), [&](ChaosFault f) { return CutsLinks(f) == (word == "network"); });
      continue;
    }
    const auto fault = std::find_if(faults.begin(), faults.end(), [&](ChaosFault f) { return word == NameOf(f); });
    if (fault == faults.end() && word == NameOf(ChaosFault::kKillWorker)) {
      return absl::InvalidArgumentError("kill-worker goes with --config: accounting workers are in this process");
    }
    if (fault == faults.end()) return absl::InvalidArgumentError(absl::StrCat("no fault \"", word, "\": there are ", known));
    out.push_back(*fault);
  }
  return out;
}

}  // namespace tidegate::cli
