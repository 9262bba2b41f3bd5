#pragma once
// A server without I/O for tests: one or more strands, each with a ShardGroup; messages are fanned out
// and answers merged as the rpc layer does it.

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/routing_table.h"
#include "common/types.h"
#include "proto/cluster.pb.h"
#include "proto/table.pb.h"
#include "server/shard/shard_group.h"

namespace tidegate {

struct TestRows {
  TableId table = 0;
  std::vector<Key> keys;
  std::vector<float> values;     // pushes
  std::vector<uint32_t> counts;  // pushes; empty: 1 each
};
struct TestPush {
  Incarnation worker = 0;
  Sequence sequence = 0;
  Sequence oldest_unacked = 0;  // 0: the sequence
  Clock clock = 0;
  double weight = 1;
  uint32_t part = 0;
  uint32_t parts = 1;
  Epoch epoch = 1;
  uint64_t generation = 1;
  std::vector<TestRows> tables;
  bool asks = false;  // of replica_harness
};
struct TestPull {
  Incarnation worker = 0;
  Clock clock = 0;
  Clock bound = kNoBound;
  bool eval = false;
  Epoch epoch = 1;
  uint64_t generation = 1;
  wire::ValueType value_type = wire::ValueType::kFloat32;
  std::vector<TestRows> tables;
};
struct TestAnswer {
  char kind = ' ';  // 'p'ull, p'u'sh, 'c'lock
  absl::Status status;
  Clock min_clock = 0;
  std::vector<ShardId> refused_shards;
  uint64_t duplicate_rows = 0;
  std::vector<Incarnation> contributors;
  Clock closed = 0;
  std::vector<std::vector<float>> rows;  // of a pull, by table of the request
};

// A sparse table of one float32 part.
TableSpec SparseTable(TableId id, uint32_t dim, const std::string& optimizer_text);

class ShardHarness final : public RowSink {
 public:
  static constexpr Incarnation kServer = 100;
  struct Options {
    bool synchronous = false;
    std::optional<Clock> staleness;
    Incarnation known = 50;  // workers 1 .. known are members from the start
    int strands = 1;
    uint32_t shards = 8;
    uint32_t foreign_from = 1 << 30;  // shards from here on are another server's
    uint64_t memory_limit_bytes = 0;
    size_t max_parked_per_worker = 16;
    size_t max_workers = 4096;
    LearningRateSchedule schedule;
    bool log_touched = false;
  };

  ShardHarness(const Options& options, std::vector<TableSpec> specs);

  // Each returns the call's number; its answer, once there is one, lies in answers(). A message that
  // fails the stateless checks is answered by them.
  CallToken Push(const TestPush& push);
  CallToken Pull(const TestPull& pull);
  CallToken Announce(Incarnation worker, uint64_t order, wire::ClockRequest::Kind kind,
                     Clock clock = 0, Epoch epoch = 1);
  CallToken Hello(Incarnation worker, uint64_t order = 0) {
    return Announce(worker, order, wire::ClockRequest::Kind::kHello);
  }
  CallToken Tick(Incarnation worker, uint64_t order, Clock clock) {
    return Announce(worker, order, wire::ClockRequest::Kind::kTick, clock);
  }
  CallToken Park(Incarnation worker, uint64_t order) {
    return Announce(worker, order, wire::ClockRequest::Kind::kPark);
  }
  // Those beyond `last` that are members from the start stay it.
  void SetWorkers(uint64_t version, Incarnation last, std::vector<Incarnation> live);
  void SetLearningRateScale(float scale);
  absl::Status SetRouting(Epoch epoch, uint32_t foreign_from);

  bool Answered(CallToken call) const { return answers_.contains(call); }
  // REQUIRES: Answered(call).
  const TestAnswer& Answer(CallToken call) const;
  // Calls answered since the last time, rising.
  std::vector<CallToken> TakeNew();
  // The values of some keys, as a guest sees them now.
  std::vector<float> Read(TableId table, std::vector<Key> keys);
  uint64_t Digest() const;
  uint64_t Total(uint64_t ShardMetrics::*counter) const;

  ShardGroup& group(int strand = 0) { return *groups_[strand]; }
  const MemoryBudget& budget() const { return budget_; }
  MemoryBudget& budget() { return budget_; }
  const TableCatalog& catalog() const { return *catalog_; }

  std::span<std::byte> RowsOf(CallToken token, size_t table_index) override;

 private:
  struct Open;
  std::vector<ShardId> ShardsOf(int strand, uint32_t foreign_from) const;
  Routing MakeRouting(Epoch epoch, uint32_t foreign_from) const;
  int StrandOf(TableId table, Key key) const;
  std::vector<KeySelection> Split(const std::vector<TestRows>& tables, Open* open) const;
  void Collect(int strand);
  TestAnswer& Merge(CallToken token, char kind, const absl::Status& status);
  void Finish(CallToken token);

  const Options options_;
  MemoryBudget budget_;
  std::shared_ptr<const TableCatalog> catalog_;
  std::vector<std::unique_ptr<ShardGroup>> groups_;
  ShardEffects effects_;
  std::map<CallToken, std::shared_ptr<Open>> open_;
  std::map<CallToken, TestAnswer> answers_;
  std::vector<CallToken> new_;
  CallToken next_ = 1;
};

}  // namespace tidegate
