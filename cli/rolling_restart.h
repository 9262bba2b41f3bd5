#pragma once
// Servers of a running job, one after the other: each is emptied, ends, comes back as another, empty one, and is
// given copies, before the next one's turn. Decides only: statuses and the time go in, what to do comes out.

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/types.h"
#include "proto/scheduler_messages.pb.h"

namespace tidegate::cli {

class RollingRestart {
 public:
  // `servers`: numbers, names or addresses, in this order; empty: all that live. NOT_FOUND, or FAILED_PRECONDITION where
  // the job cannot go on without one of its servers.
  static absl::StatusOr<RollingRestart> Plan(const GetStatusResponse& status, const std::vector<std::string>& servers,
                                             TimeMs timeout_ms);

  struct Step {
    std::optional<Incarnation> drain;  // ask for it, with restart; then Draining()
    std::string say;                   // news for people; empty: none
    bool done = false;
  };
  // Every little while. An error ends it: the job has ended, or something took longer than `timeout_ms`; it names the
  // server and what is left.
  absl::StatusOr<Step> Next(const GetStatusResponse& status, TimeMs now);
  void Draining(const GetStatusResponse& status, TimeMs now);
  // A server is away or on its way: not the moment to stop.
  bool between_servers() const { return stage_ == Stage::kSettling; }
  const Member& current() const { return current_; }
  size_t restarted() const { return restarted_; }
  size_t left() const { return queue_.size(); }

 private:
  enum class Stage { kSettling, kEmptying, kReturning };
  void Enter(Stage stage, TimeMs now);
  absl::StatusOr<Step> Settle(const GetStatusResponse& status, TimeMs now);
  Step Empty(const GetStatusResponse& status, TimeMs now);
  Step Return(const GetStatusResponse& status, TimeMs now);
  absl::Status TooLong(const GetStatusResponse& status) const;
  Step Say(std::string text);  // once

  TimeMs timeout_ms_ = 0;
  std::deque<Member> queue_;
  Member current_;  // whose turn it is
  Stage stage_ = Stage::kSettling;
  TimeMs since_ = -1;
  Incarnation newest_ = 0;  // as of the drain: who comes back is newer
  size_t restarted_ = 0;
  std::string said_;
};

}  // namespace tidegate::cli
