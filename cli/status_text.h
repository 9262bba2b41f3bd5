#pragma once
// GetStatusResponse as people read it. Pure functions.

#include <string>

#include "common/status_json.h"
#include "proto/scheduler_messages.pb.h"

namespace tidegate::cli {

// What the workers' steps wait for most, and its share of their time; share 0: nothing known yet.
struct Limit {
  std::string name;  // "reader", "pull wait", "compute", "push"
  double share = 0;
};
Limit LargestWait(const GetStatusResponse& status);

// One line: epoch, bar, share done, samples/s, loss, last AUC, what limits it. At most `width` columns.
std::string ProgressLine(const GetStatusResponse& status, int width);

// Several lines: job, members, shards, rows, bytes, rates.
std::string StatusReport(const GetStatusResponse& status);

// A server's shards: "64" it leads, "64+60" and follows, "64+60+4?" and is being filled with.
std::string CopiesText(const MemberStatus& server);

// Of a job with replicas; else empty.
std::string ReplicasLine(const GetStatusResponse& status);

std::string ShortNumber(double value);       // 1.2k, 34M
std::string ShortBytes(double bytes);        // 1.2 MB

}  // namespace tidegate::cli
