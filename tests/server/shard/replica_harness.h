#pragma once
// Servers without I/O that replicate to each other: each record waits in its link until a test delivers it, and
// each acknowledgement until a test lets it go. A server's shards lie on its strands in an order of its own.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/server/shard/shard_harness.h"

namespace tidegate {

class ReplicaHarness final : public RowSink {
 public:
  struct Options {
    bool synchronous = false;
    uint32_t drop_slowest = 0;
    std::optional<Clock> staleness;
    bool durable = true;
    int strands = 1;
    uint32_t shards = 4;
    size_t log_window_bytes = 64 << 20;
    size_t log_window_records = 0;
    size_t clock_record_bytes = 16 << 20;
    Incarnation known = 50;  // workers 1 .. known are members from the start
  };
  struct Link {
    std::deque<OutRecord> queue;
    uint64_t delivered = 0;  // index
    uint64_t acked = 0;
  };

  // All shards on server 100, no backups, epoch 1, tables open.
  ReplicaHarness(const Options& options, std::vector<TableSpec> specs, int servers);

  // The table that is to be published next; SetReplicas fills a row.
  RoutingTable& table() { return table_; }
  void SetReplicas(ShardId shard, Incarnation primary, std::vector<Incarnation> backups, Incarnation joining = 0);
  void SetAllReplicas(Incarnation primary, std::vector<Incarnation> backups, Incarnation joining = 0);
  // This backup is to lead; 0: none.
  void SetSuccessor(ShardId shard, Incarnation successor) { table_.set_successor(static_cast<int>(shard), successor); }
  // It does, by the next epoch; the primary before stays as a backup.
  void HandOver(ShardId shard);
  // A new epoch of it; `promotion`: it is a primary_epoch too.
  Epoch NextEpoch(bool promotion = false);
  absl::Status Publish(Incarnation server, TimeMs serves_from = 0);
  void PublishToAll() {
    for (const auto& [server, strands] : servers_) (void)Publish(server);
  }

  CallToken Push(Incarnation server, const TestPush& push);
  CallToken Pull(Incarnation server, const TestPull& pull);
  CallToken Announce(Incarnation server, Incarnation worker, uint64_t order, wire::ClockRequest::Kind kind,
                     Clock clock = 0, Epoch epoch = 1, std::vector<wire::ClosedClock> closed = {});
  void SetWorkers(Incarnation server, uint64_t version, Incarnation last, std::vector<Incarnation> live);
  bool Answered(CallToken call) const { return answers_.contains(call) && open_.at(call)->strands_left == 0; }
  const TestAnswer& Answer(CallToken call) const { return answers_.at(call); }

  // Hands the next `most` records of each of the links over (0: from, to: any), until one is refused; returns the
  // first status that is not OK.
  absl::Status Deliver(Incarnation from = 0, Incarnation to = 0, size_t most = ~size_t{0});
  void Acknowledge(Incarnation from = 0, Incarnation to = 0);
  // Until nothing is under way.
  void Settle();
  bool FillStep(Incarnation server, size_t bytes);
  void Digests(Incarnation server);
  void HandoverStep(Incarnation server);
  void SetNow(TimeMs now);
  void SetGrant(Incarnation server, Incarnation backup, TimeMs until);
  void Sweep(Incarnation server, Clock clock);

  ShardGroup& GroupOf(Incarnation server, ShardId shard);
  ShardGroup& group(Incarnation server, int strand = 0) { return *servers_.at(server)[strand]; }
  // Shards whose replicas differ in rows, sessions or applied clock, in words.
  std::string Differences(Incarnation a, Incarnation b);
  std::map<std::pair<int, Incarnation>, Link>& links(Incarnation from) { return links_[from]; }
  const std::vector<std::pair<ShardId, Incarnation>>& in_sync() const { return in_sync_; }
  // Who said so of which shards, and by which table at last.
  const std::map<std::pair<Incarnation, ShardId>, Epoch>& drained() const { return drained_; }
  const std::set<std::pair<Incarnation, ShardId>>& diverged() const { return diverged_; }
  TimeMs valid_until(CallToken call) const { return open_.at(call)->valid_until; }
  uint64_t refused_records = 0;

  std::span<std::byte> RowsOf(CallToken token, size_t table_index) override;

 private:
  struct Open {
    TestPush push;
    TestPull pull;
    std::vector<std::vector<std::vector<uint32_t>>> positions;  // [strand][table]
    std::vector<std::vector<std::byte>> rows;
    int strands_left = 0;
    TimeMs valid_until = std::numeric_limits<TimeMs>::max();
  };
  int StrandOf(Incarnation server, ShardId shard) const {
    return static_cast<int>((shard + server) % static_cast<uint64_t>(options_.strands));
  }
  template <typename Tables>
  std::vector<KeySelection> Split(Incarnation server, const Tables& tables,
                                  std::vector<std::vector<std::vector<uint32_t>>>* positions) const;
  absl::Status Hand(Incarnation from, const OutRecord& record);
  void Collect(Incarnation server, int strand);

  const Options options_;
  std::shared_ptr<const TableCatalog> catalog_;
  RoutingTable table_;
  std::map<Incarnation, Epoch> epoch_of_;
  std::map<Incarnation, std::vector<std::unique_ptr<ShardGroup>>> servers_;
  std::map<Incarnation, std::map<std::pair<int, Incarnation>, Link>> links_;  // from; lane, to
  std::set<std::tuple<Incarnation, int, Incarnation, uint64_t, int>> applied_;
  std::map<CallToken, std::shared_ptr<Open>> open_;
  std::map<CallToken, TestAnswer> answers_;
  std::vector<std::pair<ShardId, Incarnation>> in_sync_;
  std::map<std::pair<Incarnation, ShardId>, Epoch> drained_;
  std::set<std::pair<Incarnation, ShardId>> diverged_;
  ShardEffects effects_;
  CallToken next_ = 1;
};

}  // namespace tidegate
