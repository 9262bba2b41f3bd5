#pragma once
// Status, routing, checkpoint, drain, restore and stop over SchedulerService. Thread-safe.

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "proto/scheduler_messages.pb.h"

namespace tidegate::cli {

// INVALID_ARGUMENT: --scheduler is no HOST:PORT that can be reached, nor several by commas.
absl::Status CheckAddress(const std::string& scheduler);

class StatusClient {
 public:
  explicit StatusClient(const std::string& scheduler);
  ~StatusClient();
  // One attempt each, or, of several schedulers, until the one that leads has answered; UNAVAILABLE or
  // DEADLINE_EXCEEDED name the addresses.
  absl::StatusOr<GetStatusResponse> Get(int timeout_ms) const;
  absl::StatusOr<GetRoutingResponse> Routing(int timeout_ms) const;
  // The number of the checkpoint that will be made.
  absl::StatusOr<uint64_t> SaveCheckpoint(int timeout_ms) const;
  // `server`: number, name or address. `restart`: its process ends with kExitRestart (common/exit_codes.h).
  absl::StatusOr<DrainResponse> Drain(const std::string& server, bool restart, int timeout_ms) const;
  absl::StatusOr<RestoreJobResponse> Restore(int timeout_ms) const;
  absl::Status Stop(const std::string& reason, int timeout_ms) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidegate::cli
