#pragma once
// A server process's part in replication: the strands of its ShardEngine, its streams to those that follow it
// (ReplicaLinks), the streams of those that it follows (their messages come to Handle), and what of it the
// scheduler has to know. Thread-safe from Configure on; the control calls from one thread at a time.
//
//   Replication replication(&engine);
//   ReplicaServiceHost service([&](auto& peer, OwnedBytes message) { replication.Handle(peer, std::move(message)); });
//   engine.Configure(job); replication.Configure(options); ... replication.SetRouting(table) ...
//   replication.CloseLinks(); (services shut down) replication.Stop();

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/routing_table.h"
#include "proto/scheduler_messages.pb.h"
#include "server/replication/grants.h"
#include "server/replication/inbox.h"
#include "server/rpc/replica_links.h"
#include "server/rpc/replica_service.h"
#include "server/rpc/shard_engine.h"

namespace tidegate {

class Replication {
 public:
  struct Options {
    uint64_t generation = 0;
    Incarnation self = 0;
    TimeMs grant_ms = 500;
    int message_limit_bytes = 64 << 20;
    uint64_t fill_bytes_per_second = 0;    // of all shards together; 0: no limit
    TimeMs digest_interval_ms = 0;         // 0: never
    std::vector<grpc::CompletionQueue*> queues;  // of executors, for the logs' streams
    std::function<void(Epoch)> newer_epoch;  // a peer's routing is newer; from any thread
    std::function<void()> report;            // there is something new for FillHeartbeat; from any thread
  };
  struct Statistics {
    ReplicaLinks::Statistics links;
    uint64_t records = 0;            // of the log, to followers
    uint64_t record_bytes = 0;
    uint64_t fill_bytes = 0;         // of these, rows of shards that are filled
    uint64_t applied_records = 0;    // of other servers' logs
    uint64_t refused_grants = 0;     // to primaries with an older table
  };

  // `engine` outlives this, and is not configured yet.
  explicit Replication(ShardEngine* engine);
  ~Replication();  // as Stop

  void Configure(const Options& options);  // once, after the engine's
  // A newer table, for the engine and the streams.
  absl::Status SetRouting(const Routing& routing);
  // A message of a primary's stream, from the stream's thread; which does the work for an idle strand.
  void Handle(const std::shared_ptr<ReplicaPeer>& peer, OwnedBytes message);
  // in_sync, unreachable, refill, drained.
  void FillHeartbeat(HeartbeatRequest* request) const;
  Statistics Collect() const;
  // Ends the streams to followers; before the queues end, not beside SetRouting.
  void CloseLinks();
  // When no message can come any more.
  void Stop();

 private:
  struct Sender {
    explicit Sender(Incarnation incarnation) : inbox(incarnation) {}
    std::mutex mutex;
    Inbox inbox;
    std::shared_ptr<ReplicaPeer> peer;  // its newest stream
  };
  // What a message is judged by.
  struct Table {
    Epoch epoch = 0;
    std::set<Incarnation> leaders;  // of shards that are followed here
  };

  std::shared_ptr<const Table> table() const;
  std::shared_ptr<Sender> SenderOf(Incarnation incarnation);
  absl::Status CheckReceiver(const wire::ReplicaRequest& request) const;
  void Receive(const std::shared_ptr<Sender>& sender, std::shared_ptr<ShardEngine::IncomingRecord> record,
               const std::shared_ptr<ReplicaPeer>& peer);
  void Tick(TimeMs now);
  void Fill(TimeMs now);
  void OnRecord(uint32_t lane, OutRecord record);
  std::vector<ReplicaLinks::Follower> FollowersIn(const Routing& routing) const;
  void DropReported(const Routing& routing);

  ShardEngine* const engine_;
  const RealClock clock_;
  Options options_;
  std::atomic<bool> configured_{false};
  std::unique_ptr<ReplicaLinks> links_;

  std::mutex grants_mutex_;
  std::unique_ptr<GivenGrants> grants_;

  mutable std::mutex mutex_;
  std::shared_ptr<const Table> table_ = std::make_shared<Table>();
  std::map<Incarnation, std::shared_ptr<Sender>> senders_;
  std::map<std::pair<ShardId, Incarnation>, Epoch> in_sync_;
  std::set<ShardId> refill_;
  std::map<ShardId, Epoch> drained_;

  // --- filling; of the links' thread and the strands ---
  std::atomic<uint64_t> fill_lanes_{0};    // may have something to fill
  std::atomic<uint64_t> fill_pending_{0};  // a step is under way
  std::atomic<bool> has_joining_{false};
  std::atomic<bool> has_successors_{false};
  std::atomic<TimeMs> shards_per_lane_{1};
  TimeMs fill_looked_at_ = 0;
  TimeMs fill_stepped_at_ = 0;
  TimeMs fill_paid_to_ = 0;   // the time up to which its allowance is spent
  TimeMs digests_at_ = 0;
  TimeMs handover_stepped_at_ = 0;

  std::atomic<uint64_t> records_{0}, record_bytes_{0}, fill_bytes_{0}, applied_records_{0}, refused_grants_{0};
};

}  // namespace tidegate
