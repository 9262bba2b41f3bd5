#include "scheduler/request_check.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/clock_limit.h"

namespace tidegate {
namespace {

constexpr int kReportsMax = 64;             // of work or commands, in one call
constexpr uint64_t kCountMax = 1ull << 48;  // of samples, lines, rows
constexpr int kTablesMax = 4096;
constexpr int kHistogramMax = 256;
constexpr int kUnreachableMax = 4096;
constexpr int kShardsMax = 65536;
constexpr size_t kNameBytesMax = 256;
constexpr size_t kTextBytesMax = 64 << 10;

template <typename... Parts>
absl::Status Bad(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// A file in the checkpoint's own folder.
bool IsFileName(const std::string& name) {
  return !name.empty() && name.size() <= kNameBytesMax && name[0] != '.' &&
         std::none_of(name.begin(), name.end(),
                      [](unsigned char c) { return c == '/' || c < 0x20 || c == 0x7f; });
}

absl::Status CheckResult(const CommandResult& result, uint32_t shards) {
  if (result.error().size() > kTextBytesMax) return Bad("Heartbeat: an error of more than 64 KiB");
  for (const CheckpointFile& file : result.files()) {
    if (!IsFileName(file.name())) {
      return Bad("Heartbeat: command ", result.id(), " wrote a checkpoint file with a bad name");
    }
    if (file.shard() >= shards) {
      return Bad("Heartbeat: checkpoint file ", file.name(), " of shard ", file.shard(), " of ", shards);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckLoad(const WorkerLoad& load) {
  if (load.clock() < -1 || load.clock() > kClockLimit) {
    return Bad("Heartbeat: worker_load.clock is ", load.clock());
  }
  if (load.dropped_steps() > kCountMax || load.dropped_samples() > kCountMax) {
    return Bad("Heartbeat: worker_load counts ", load.dropped_steps(), " dropped steps, ", load.dropped_samples(),
               " dropped samples");
  }
  if (load.samples_total() > kCountMax || load.bad_lines() > kCountMax) {
    return Bad("Heartbeat: worker_load counts ", load.samples_total(), " samples, ", load.bad_lines(),
               " bad lines");
  }
  for (double share : {load.reader_wait(), load.pull_wait(), load.compute(), load.push_wait()}) {
    if (!std::isfinite(share)) return Bad("Heartbeat: worker_load has a share that is not finite");
  }
  return absl::OkStatus();
}

absl::Status CheckLoad(const ShardLoads& load, uint32_t shards) {
  if (load.shard_size() != load.rows_total_size() || load.shard_size() != load.bytes_size()) {
    return Bad("Heartbeat: server_load.shards has ", load.shard_size(), " shards, ", load.rows_total_size(), " counts of rows, ",
               load.bytes_size(), " of bytes");
  }
  for (int i = 0; i < load.shard_size(); ++i) {
    if (load.shard(i) >= shards) return Bad("Heartbeat: server_load of shard ", load.shard(i), " of ", shards);
    if (load.rows_total(i) > kCountMax || load.bytes(i) > kCountMax) {
      return Bad("Heartbeat: server_load counts ", load.rows_total(i), " rows and ", load.bytes(i), " bytes of shard ", load.shard(i));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckLoad(const ServerLoad& load) {
  if (load.tables_size() > kTablesMax || load.staleness_histogram_size() > kHistogramMax) {
    return Bad("Heartbeat: server_load has ", load.tables_size(), " tables, ",
               load.staleness_histogram_size(), " entries of staleness");
  }
  for (uint64_t pulls : load.staleness_histogram()) {
    if (pulls > kCountMax) return Bad("Heartbeat: server_load counts ", pulls, " pulls");
  }
  for (const TableLoad& table : load.tables()) {
    if (table.name().size() > kNameBytesMax) return Bad("Heartbeat: a table's name is too long");
  }
  return absl::OkStatus();
}

absl::Status CheckReplicaReports(const HeartbeatRequest& request, Role role, uint32_t shards) {
  if (role != SERVER && (request.in_sync_size() > 0 || request.refill_size() > 0 || request.drained_size() > 0)) {
    return Bad("Heartbeat: member ", request.incarnation(), " is a worker, and speaks of copies of shards");
  }
  if (request.unreachable_size() > kUnreachableMax || request.in_sync_size() > kShardsMax ||
      request.refill_size() > kShardsMax || request.drained_size() > kShardsMax) {
    return Bad("Heartbeat: member ", request.incarnation(), " speaks of ", request.unreachable_size(), " servers and ",
               request.in_sync_size() + request.refill_size() + request.drained_size(), " copies");
  }
  for (const InSync& report : request.in_sync()) {
    if (report.shard() >= shards) return Bad("Heartbeat: in_sync of shard ", report.shard(), " of ", shards);
  }
  for (const Drained& report : request.drained()) {
    if (report.shard() >= shards) return Bad("Heartbeat: drained of shard ", report.shard(), " of ", shards);
  }
  for (const uint32_t shard : request.refill()) {
    if (shard >= shards) return Bad("Heartbeat: refill of shard ", shard, " of ", shards);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckHeartbeat(const HeartbeatRequest& request, Role role, uint32_t shards) {
  const bool of_other_role = role == SERVER ? request.has_worker_load() || request.progress_size() > 0
                                            : request.has_server_load() || request.results_size() > 0;
  if (of_other_role) {
    return Bad("Heartbeat: member ", request.incarnation(), " is a ",
               role == SERVER ? "server" : "worker", ", and reports what only the other kind does");
  }
  if (request.results_size() > kReportsMax || request.progress_size() > kReportsMax) {
    return Bad("Heartbeat: more than ", kReportsMax, " reports");
  }
  if (absl::Status s = CheckReplicaReports(request, role, shards); !s.ok()) return s;
  if (request.fatal_error().size() > kTextBytesMax) return Bad("Heartbeat: fatal_error is too long");
  for (const CommandResult& result : request.results()) {
    if (absl::Status s = CheckResult(result, shards); !s.ok()) return s;
  }
  if (absl::Status s = CheckLoad(request.worker_load()); !s.ok()) return s;
  if (absl::Status s = CheckLoad(request.server_load().shards(), shards); !s.ok()) return s;
  return CheckLoad(request.server_load());
}

absl::Status CheckAcquireWork(const AcquireWorkRequest& request, Clock clock_max) {
  if (request.live() && (request.clock() < 0 || request.clock() > clock_max)) {
    return Bad("AcquireWork: worker ", request.incarnation(), " says that its first clock is ",
               request.clock(), "; it is in [0, ", clock_max, "]");
  }
  if (request.done_size() > kReportsMax) {
    return Bad("AcquireWork: ", request.done_size(), " results, at most ", kReportsMax);
  }
  return absl::OkStatus();
}

absl::Status CheckWorkDone(const WorkDone& done, const Work& work) {
  const auto bad = [&](const auto&... parts) {
    return Bad("result of lease ", done.lease(), ": ", parts...);
  };
  if (done.samples() > kCountMax || done.bad_lines() > kCountMax) {
    return bad(done.samples(), " samples, ", done.bad_lines(), " bad lines");
  }
  if (!std::isfinite(done.weight_sum())) return bad("weight_sum ", done.weight_sum());
  if (done.bad_line_example().size() > kTextBytesMax) return bad("the example of a bad line is too long");
  if (!work.has_sync()) return absl::OkStatus();
  const SyncRange& range = work.sync();
  if (done.next_step() > range.end_step()) {
    return bad("next_step ", done.next_step(), " of steps ", range.first_step(), " to ", range.end_step());
  }
  if (done.end_of_data() && (done.end_of_data_step() < range.first_step() ||
                             done.end_of_data_step() > range.end_step())) {
    return bad("end_of_data_step ", done.end_of_data_step(), " of steps ", range.first_step(), " to ",
               range.end_step());
  }
  return absl::OkStatus();
}

}  // namespace tidegate
