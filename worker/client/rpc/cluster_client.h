#pragma once
// The cluster's client: the tracker (worker/client/tracker.h) over one bidirectional stream of raw
// buffers per server. Connects when there is something to send, again after failures, and retries by
// the tracker's rules.
//
// Thread-safe. One thread of its own reads all streams, keeps time and calls all callbacks; requests are
// encoded and written by the thread that makes the call. Callbacks come with no lock held, must not
// block, and may make calls.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/routing_table.h"
#include "worker/client/parameter_client.h"
#include "worker/client/tracker.h"

namespace tidegate {

class ClusterClient final : public ParameterClient {
 public:
  struct Options {
    TrackerOptions tracker;
    // Called from the client's thread when a server knows newer routing than `newer_than`, or there is
    // none yet; must not block. May be empty: routing comes with heartbeats anyway.
    std::function<void(Epoch newer_than)> want_routing;
    // Called once from the client's thread when a server has not answered anything since the first message to
    // it, this long ago; 0: never. Must not block.
    int64_t unreachable_after_ms = 0;
    std::function<void(const std::string& why)> unreachable;
    // Called from the client's thread when a server has become one of UnreachableServers; must not block.
    std::function<void()> lost_server;
  };
  struct Stats {
    TrackerStats tracker;
    uint64_t bytes_sent = 0;
    uint64_t bytes_received = 0;
    uint64_t connections = 0;  // streams opened, failed ones included
  };

  explicit ClusterClient(Options options);
  ~ClusterClient() override;  // as Stop

  // Older epochs are ignored. Calls wait for the first one.
  void SetRouting(std::shared_ptr<const Routing> routing);

  void Pull(Clock clock, Clock bound, std::span<const TablePull> tables, PullDone done) override;
  void PullForEvaluation(std::span<const TablePull> tables, PullDone done) override;
  void Push(Clock clock, double weight, std::span<const TablePush> tables, PushDone done) override;
  void EndClock(Clock clock) override;

  // Hello to every server; answers the first clock that this worker may use.
  using AnnounceDone = std::function<void(absl::StatusOr<Clock>)>;
  void Announce(AnnounceDone done);
  // Leaves the minimum. REQUIRES: no push under way.
  void Park(std::function<void(absl::Status)> done);

  // Every call under way ends with CANCELLED, its callback called before this returns (by the client's
  // thread), and nothing is read or written of their memory afterwards. Not from a callback.
  void Stop();

  // Not OK once a server fenced this worker (FAILED_PRECONDITION: rejoin) or after Stop.
  absl::Status health() const;
  Stats stats() const;
  // Those whose newest stream broke before anything was answered on it: gone, or cut off from here.
  std::vector<Incarnation> UnreachableServers() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidegate
